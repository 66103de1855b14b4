package nodelocal

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// discardPort is that of RFC 863; no client asks from it.
const discardPort = 9

// mostListeners bounds the search for the successor's place among the sockets
// that share an address.
const mostListeners = 32

// handOver leads new packets for addresses to the process that has them too. The
// kernel spreads them over all sockets that share one (SO_REUSEPORT), and what a
// closed socket holds is lost; so the sockets are taken out of the choice while
// they are still read.
func (k *keeper) handOver(addresses []netip.Addr) {
	own := ownSockets(addresses, k.plan.port)
	for _, s := range own.udp {
		if err := s.leave(); err != nil {
			log.Warningf("Queries over UDP may be lost: %v", err)
		}
	}
	for _, s := range own.listening {
		k.handOverConnections(s)
	}
}

// handOverAgain does so where packets still come here, and tells whether they do.
func (k *keeper) handOverAgain(addresses []netip.Addr) (some bool) {
	more := without(addresses, k.succeeded)
	k.handOver(more)
	for _, s := range ownSockets(without(addresses, more), k.plan.port).listening {
		if !k.leadsElsewhere(s.address) {
			k.handOverConnections(s)
			some = true
		}
	}
	return some || len(more) > 0
}

func (k *keeper) handOverConnections(s ownSocket) {
	if !k.steer(s) {
		log.Warningf("Connections to %s that begin now may be lost: no place found that leads to the other instance", s.address)
	}
}

// An ownSocket is a descriptor of this process that is bound to an address.
type ownSocket struct {
	fd      int
	address netip.AddrPort
}

// sockets are those of this process at some addresses.
type sockets struct {
	udp, listening []ownSocket
	connections    int
}

// connected tells whether a client has a connection to this process.
func (k *keeper) connected() bool { return ownSockets(k.plan.listen, k.plan.port).connections > 0 }

// ownSockets returns the sockets that are bound to addresses. CoreDNS
// keeps them to itself, so they are looked for among the open files; they are
// open until the servers stop, which is later.
func ownSockets(addresses []netip.Addr, port uint16) (own sockets) {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		log.Warningf("Sockets cannot be handed over: %v", err)
	}
	for _, file := range files {
		fd, err := strconv.Atoi(file.Name())
		if err != nil {
			continue
		}
		name, err := unix.Getsockname(fd)
		if err != nil {
			continue
		}
		address, ok := bound(name)
		if !ok || address.Port() != port || !slices.Contains(addresses, address.Addr()) {
			continue
		}
		switch kind, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); kind {
		case unix.SOCK_DGRAM:
			own.udp = append(own.udp, ownSocket{fd, address})
		case unix.SOCK_STREAM:
			if listens, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); listens == 1 {
				own.listening = append(own.listening, ownSocket{fd, address})
			} else {
				own.connections++
			}
		}
	}
	return own
}

// bound returns the address that a socket is bound to.
func bound(name unix.Sockaddr) (netip.AddrPort, bool) {
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port)), true
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(name.Addr).Unmap(), uint16(name.Port)), true
	}
	return netip.AddrPort{}, false
}

// leave connects a UDP socket to where nothing is sent from: it gets no more
// packets, keeps those that it has, and still sends replies.
func (s ownSocket) leave() error {
	to, err := s.peer()
	if err != nil {
		return err
	}
	return os.NewSyscallError("connect", unix.Connect(s.fd, to))
}

func (s ownSocket) peer() (unix.Sockaddr, error) {
	domain, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	if domain == unix.AF_INET {
		return &unix.SockaddrInet4{Port: discardPort, Addr: s.address.Addr().As4()}, nil
	}
	return &unix.SockaddrInet6{Port: discardPort, Addr: s.address.Addr().As16()}, nil
}

// steer makes the kernel give new TCP connections to another process's socket.
// It does not tell which place that has, so places are tried until the answers
// come from there.
func (k *keeper) steer(s ownSocket) bool {
	for place := range mostListeners {
		if err := steerTo(s.fd, uint32(place)); err != nil {
			log.Warningf("Connections cannot be led to another process: %v", err)
			return false
		}
		if k.leadsElsewhere(s.address) {
			return true
		}
	}
	return false
}

// leadsElsewhere tells whether connections go to the other process. With a place
// that nobody has the kernel chooses by chance, so several have to. One without
// an answer tells nothing.
func (k *keeper) leadsElsewhere(address netip.AddrPort) bool {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	q := selfQuery{server: address, name: k.selfName}
	for others := 0; others < selfTries; {
		switch who, err := q.exchange(ctx, "tcp"); {
		case ctx.Err() != nil, who == identity:
			return false
		case err == nil:
			others++
		}
	}
	return true
}

// steerTo gives the sockets that share an address a program that chooses one
// place always.
func steerTo(fd int, place uint32) error {
	program, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: place}})
	if err != nil {
		return err
	}
	filter := []unix.SockFilter{{Code: program[0].Op, Jt: program[0].Jt, Jf: program[0].Jf, K: program[0].K}}
	return os.NewSyscallError("setsockopt", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}))
}
