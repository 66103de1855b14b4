//go:build linux

// Package selfmark marks the packets that a server sends to itself. The rules of
// nodelocal let them through to the server's own sockets, whatever else the
// node's rules do with packets to the same address.
package selfmark

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Mark is on the packets. Its bits are none of kube-proxy's, Cilium's, Calico's
// or the AWS CNI's.
const Mark = 0x6b

// Set marks what a socket sends, as the Control of a net.Dialer. It needs
// NET_ADMIN.
func Set(_, _ string, c syscall.RawConn) error {
	var err error
	if errControl := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, Mark)
	}); errControl != nil {
		return errControl
	}
	return os.NewSyscallError("setsockopt SO_MARK", err)
}

// Try is Set for those who can do without, as they have no NET_ADMIN where there
// are no rules of ours.
func Try(network, address string, c syscall.RawConn) error {
	_ = Set(network, address, c)
	return nil
}
