//go:build linux

package ownsocket

import (
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A socket is found by its address, gets no packets once it has left, and keeps those that it has.
func TestLeaveGroup(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"} {
		t.Run(host, func(t *testing.T) {
			conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host)})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			address := conn.LocalAddr().(*net.UDPAddr).AddrPort()
			want := netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
			all, err := All()
			if err != nil {
				t.Fatal(err)
			}
			at := slices.IndexFunc(all, func(s Socket) bool { return s.Address == want && s.Type == unix.SOCK_DGRAM })
			if at < 0 {
				t.Fatalf("no socket at %s in %v", want, all)
			}

			client, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(want))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if _, err := client.Write([]byte("before")); err != nil {
				t.Fatal(err)
			}
			if err := LeaveGroup(all[at].FD, want.Addr()); err != nil {
				t.Fatal(err)
			}
			_, errAfter := client.Write([]byte("after"))
			buffer := make([]byte, 16)
			_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			n, from, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil || string(buffer[:n]) != "before" {
				t.Errorf("%q, %v; want what came before", buffer[:n], err)
			}
			if _, err := conn.WriteToUDPAddrPort([]byte("reply"), from); err != nil {
				t.Errorf("a reply: %v", err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if n, _, err := conn.ReadFromUDPAddrPort(buffer); err == nil {
				t.Errorf("%q came after the socket had left (%v)", buffer[:n], errAfter)
			}
		})
	}
}

func TestOfWhatIsNone(t *testing.T) {
	var pipe [2]int
	if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	for _, fd := range pipe {
		defer syscall.Close(fd)
		if s, ok := Of(fd); ok {
			t.Errorf("a pipe is %v", s)
		}
	}
}
