//go:build linux

package udpbatch

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// withdraw takes CoreDNS's own sockets out of the group as well, once no lane is
// in it, and waits until they are empty. CoreDNS is about to close them, and would
// lose what they hold then; the packets go to another process that has sockets in
// the group. CoreDNS does not hand its sockets out, so they are looked for among
// the files of the process.
func (e *listener) withdraw() error {
	deadline, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	lanes := e.open()
	if len(lanes) == 0 {
		return nil
	}
	address := unmapped(lanes[0].local.(*net.UDPAddr).AddrPort())
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, file := range files {
		if fd, err := strconv.Atoi(file.Name()); err == nil && isOpenAt(fd, address) {
			if err := withdrawFile(fd, address, deadline.Done()); err != nil {
				return err
			}
		}
	}
	return nil
}

func withdrawFile(fd int, address netip.AddrPort, done <-chan struct{}) error {
	// A duplicate, as the number may become another file's at any time.
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(own)
	if !isOpenAt(own, address) {
		return nil
	}
	if err := connectNowhere(own, address); err != nil {
		return err
	}
	awaitEmpty(own, done)
	return nil
}

// isOpenAt tells whether the file is a UDP socket that gets packets for the
// address from anybody.
func isOpenAt(fd int, address netip.AddrPort) bool {
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_DGRAM {
		return false
	}
	if _, err := unix.Getpeername(fd); err == nil {
		return false
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port)) == address
	case *unix.SockaddrInet6:
		return unmapped(netip.AddrPortFrom(netip.AddrFrom16(name.Addr), uint16(name.Port))) == address
	}
	return false
}

// unmapped is the address without a zone, one of IPv4 in its own form.
func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// awaitEmpty returns once the socket holds no packet, or done is closed.
func awaitEmpty(fd int, done <-chan struct{}) {
	const interval = time.Millisecond // a few packets take less
	for {
		if size, err := unix.IoctlGetInt(fd, unix.SIOCINQ); err != nil || size == 0 {
			return
		}
		select {
		case <-done:
			return
		case <-time.After(interval):
		}
	}
}
