package nodelocal

import (
	"context"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/kubezone/kubezone/plugin/internal/ownsocket"
)

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
		if err := ownsocket.LeaveGroup(s.FD, s.Address.Addr()); err != nil {
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
		if !k.leadsElsewhere(s.Address) {
			k.handOverConnections(s)
			some = true
		}
	}
	return some || len(more) > 0
}

func (k *keeper) handOverConnections(s ownsocket.Socket) {
	if !k.steer(s) {
		log.Warningf("Connections to %s that begin now may be lost: no place found that leads to the other instance", s.Address)
	}
}

// sockets are those of this process at some addresses.
type sockets struct {
	udp, listening []ownsocket.Socket
	connections    int
}

// connected tells whether a client has a connection to this process.
func (k *keeper) connected() bool { return ownSockets(k.plan.listen, k.plan.port).connections > 0 }

// ownSockets returns the sockets that are bound to addresses. They are open until
// the servers stop, which is later.
func ownSockets(addresses []netip.Addr, port uint16) (own sockets) {
	all, err := ownsocket.All()
	if err != nil {
		log.Warningf("Sockets cannot be handed over: %v", err)
	}
	for _, s := range all {
		if s.Address.Port() != port || !slices.Contains(addresses, s.Address.Addr()) {
			continue
		}
		switch s.Type {
		case unix.SOCK_DGRAM:
			own.udp = append(own.udp, s)
		case unix.SOCK_STREAM:
			if listens, _ := unix.GetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); listens == 1 {
				own.listening = append(own.listening, s)
			} else {
				own.connections++
			}
		}
	}
	return own
}

// steer makes the kernel give new TCP connections to another process's socket.
// It does not tell which place that has, so places are tried until the answers
// come from there.
func (k *keeper) steer(s ownsocket.Socket) bool {
	for place := range mostListeners {
		if err := steerTo(s.FD, uint32(place)); err != nil {
			log.Warningf("Connections cannot be led to another process: %v", err)
			return false
		}
		if k.leadsElsewhere(s.Address) {
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
