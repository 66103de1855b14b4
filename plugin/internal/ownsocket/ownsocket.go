//go:build linux

// Package ownsocket finds the sockets of this process, some of which CoreDNS
// keeps to itself, and takes them out of the choice among those that share an
// address (SO_REUSEPORT), as what a closed socket holds is lost.
package ownsocket

import (
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A Socket is an open file of this process that is bound to an address.
type Socket struct {
	FD      int            // which may be another file's soon, if somebody closes it
	Address netip.AddrPort // without a zone, one of IPv4 in its own form
	Type    int            // unix.SOCK_DGRAM, unix.SOCK_STREAM, ...
}

// Of returns the socket that a file of this process is. It returns false if the
// file is none, or of another family than IP.
func Of(fd int) (Socket, bool) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return Socket{}, false
	}
	s := Socket{FD: fd}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		s.Address = netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port))
	case *unix.SockaddrInet6:
		s.Address = netip.AddrPortFrom(netip.AddrFrom16(name.Addr).Unmap(), uint16(name.Port))
	default:
		return Socket{}, false
	}
	s.Type, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	return s, err == nil
}

// All returns the sockets among the open files.
func All() ([]Socket, error) {
	files, err := os.ReadDir("/proc/self/fd")
	var all []Socket
	for _, file := range files {
		fd, err := strconv.Atoi(file.Name())
		if err != nil {
			continue
		}
		if s, ok := Of(fd); ok {
			all = append(all, s)
		}
	}
	return all, err
}

// LeaveGroup connects a UDP socket to a port of the address that nothing is sent
// from: it gets no more packets, keeps those that it has, and still sends
// replies. The address is one that can be sent to, with its zone if it has one.
func LeaveGroup(fd int, address netip.Addr) error {
	const discard = 9 // the port (RFC 863): no client has it
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if domain == unix.AF_INET {
		to := &unix.SockaddrInet4{Port: discard, Addr: address.Unmap().As4()}
		return os.NewSyscallError("connect", unix.Connect(fd, to))
	}
	to := &unix.SockaddrInet6{Port: discard, Addr: address.As16()}
	if zone := address.Zone(); zone != "" {
		if i, err := net.InterfaceByName(zone); err == nil {
			to.ZoneId = uint32(i.Index)
		}
	}
	return os.NewSyscallError("connect", unix.Connect(fd, to))
}
