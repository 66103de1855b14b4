package udpbatch

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/kubezone/kubezone/plugin/internal/ownsocket"
)

// receiveBuffer is what a socket may hold while its lane is busy: some thousand
// queries, that is a burst of some milliseconds. The kernel grants less if
// net.core.rmem_max is less.
const receiveBuffer = 1 << 20

// openSocket opens one more socket of the group on an address. The group is
// made of all sockets with SO_REUSEPORT on it, CoreDNS's own too.
func openSocket(l *lane, address string) error {
	config := net.ListenConfig{Control: sharePort}
	pc, err := config.ListenPacket(context.Background(), "udp", address)
	if err != nil {
		return err
	}
	l.conn = pc.(*net.UDPConn)
	l.local = pc.LocalAddr()
	_ = l.conn.SetReadBuffer(receiveBuffer) // a smaller one serves as well, but for bursts

	// Bound to one address, a socket sends from that; otherwise the reply has to
	// name the address that was asked. An IPv6 socket gets IPv4 packets too, and
	// speaks of their addresses in IPv6's form.
	l.asked = l.local.(*net.UDPAddr).IP.IsUnspecified()
	raw, err := l.conn.SyscallConn()
	if err == nil {
		l.in, l.sender = newInbox(raw), newSender(raw)
		if l.asked {
			err = control(raw, tellAsked)
		}
	}
	if err != nil {
		_ = l.conn.Close()
	}
	return err
}

// tellAsked makes the kernel say, of each packet, which address it was sent to.
func tellAsked(fd int) error {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return err
	}
	if domain == unix.AF_INET6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
}

// streamBuffer is what the kernel may hold of a connection's queries, and of its
// replies: a whole message of the greatest size. The kernel doubles it, for what
// it needs itself; left alone, it takes several MiB of replies that a client does
// not read.
const streamBuffer = 64 << 10

// openStreamSocket opens a socket that accepts connections to an address, beside
// CoreDNS's own.
func openStreamSocket(address string) (*net.TCPListener, error) {
	config := net.ListenConfig{Control: func(network, address string, c syscall.RawConn) error {
		if err := sharePort(network, address, c); err != nil {
			return err
		}
		return control(c, func(fd int) error { // connections get the same
			return errors.Join(
				unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, streamBuffer),
				unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, streamBuffer))
		})
	}}
	config.SetMultipathTCP(false) // its sockets cannot be steered to
	l, err := config.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// sharePort lets a socket have the address of another of the same user.
func sharePort(_, _ string, c syscall.RawConn) error {
	return control(c, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
}

// descriptors is how many files the process may have open. Go has raised the
// limit as far as it could.
func descriptors() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024 // what most systems begin with
	}
	return int(min(limit.Cur, 1<<20))
}

func control(c syscall.RawConn, f func(fd int) error) error {
	var inner error
	if err := c.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// Where things are in a control message: its header, and the interface in what
// follows. The address to send from has the place of the address that was asked
// (struct in_pktinfo's ipi_spec_dst, struct in6_pktinfo's ipi6_addr).
var (
	controlLevel = unix.CmsgLen(0) - 8
	controlType  = unix.CmsgLen(0) - 4
	interface4   = unix.CmsgLen(0)
	interface6   = unix.CmsgLen(0) + 16
)

// replyControl makes the control message of a reply out of that of the query,
// and returns its length. The reply leaves by whatever interface the routes say
// and not by the one that the query came in by.
func replyControl(reply, query []byte) int {
	if len(query) < unix.CmsgLen(unix.SizeofInet4Pktinfo) || len(query) > len(reply) {
		return 0
	}
	level := binary.NativeEndian.Uint32(query[controlLevel:])
	kind := binary.NativeEndian.Uint32(query[controlType:])
	switch {
	case level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO:
		n := copy(reply, query)
		binary.NativeEndian.PutUint32(reply[interface4:], 0)
		return n
	case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_PKTINFO && len(query) >= unix.CmsgLen(unix.SizeofInet6Pktinfo):
		n := copy(reply, query)
		// A link-local address means nothing without its interface.
		if address := reply[unix.CmsgLen(0):]; address[0] != 0xfe || address[1]&0xc0 != 0x80 {
			binary.NativeEndian.PutUint32(reply[interface6:], 0)
		}
		return n
	}
	return 0
}

// nowhere is an index that no group has: the kernel then chooses by a hash of
// the addresses and ports.
const nowhere = 1<<32 - 1

// steering is the program that chooses the socket for a packet: one of those at
// indexes, at random. A probe goes to the socket whose index it names.
func steering(magic uint64, indexes []int) []bpf.Instruction {
	program := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: probeSize, SkipFalse: 6},
		bpf.LoadAbsolute{Off: 0, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(magic >> 32), SkipFalse: 4},
		bpf.LoadAbsolute{Off: 4, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(magic), SkipFalse: 2},
		bpf.LoadAbsolute{Off: 8, Size: 2},
		bpf.RetA{},
	}
	if len(indexes) > 0 {
		program = append(program,
			bpf.LoadExtension{Num: bpf.ExtRand},
			bpf.ALUOpConstant{Op: bpf.ALUOpMod, Val: uint32(len(indexes))})
		for i, index := range indexes {
			program = append(program,
				bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(i), SkipFalse: 1},
				bpf.RetConstant{Val: uint32(index)})
		}
	}
	return append(program, bpf.RetConstant{Val: nowhere})
}

// always is the program that chooses the socket at an index. If there is none,
// the kernel chooses one.
func always(index int) []bpf.Instruction {
	return []bpf.Instruction{bpf.RetConstant{Val: uint32(index)}}
}

// anyone is the program that has the kernel choose one.
var anyone = []bpf.Instruction{bpf.RetConstant{Val: nowhere}}

// steer gives the group that conn is in a program.
func steer(conn syscall.Conn, program []bpf.Instruction) error {
	assembled, err := bpf.Assemble(program)
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(assembled))
	for i, in := range assembled {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return control(raw, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
			&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	})
}

// leaveGroup makes the socket get no more packets, without losing those that it
// has.
func leaveGroup(conn *net.UDPConn) error {
	address := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return control(raw, func(fd int) error { return ownsocket.LeaveGroup(fd, reachable(address).Addr()) })
}
