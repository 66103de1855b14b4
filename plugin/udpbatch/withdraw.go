//go:build linux

package udpbatch

import (
	"context"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubezone/kubezone/plugin/internal/ownsocket"
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
	all, err := ownsocket.All()
	if err != nil {
		return err
	}
	for _, s := range all {
		if isOpenAt(s, address) {
			if err := withdrawFile(s.FD, address, deadline.Done()); err != nil {
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
	if s, ok := ownsocket.Of(own); !ok || !isOpenAt(s, address) {
		return nil
	}
	if err := ownsocket.LeaveGroup(own, reachable(address).Addr()); err != nil {
		return err
	}
	awaitEmpty(own, done)
	return nil
}

// isOpenAt tells whether a socket is one that gets UDP packets for the address
// from anybody.
func isOpenAt(s ownsocket.Socket, address netip.AddrPort) bool {
	if s.Type != unix.SOCK_DGRAM || s.Address != address {
		return false
	}
	_, err := unix.Getpeername(s.FD)
	return err != nil
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
