//go:build linux

package udpbatch

import (
	"net"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestAddressesAsTheNetPackageHasThem(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	mapped := netip.MustParseAddr("::ffff:192.0.2.1").As16()
	for _, test := range []struct {
		name string
		from sockaddr
		want net.UDPAddr
	}{
		{"IPv4", sockaddr4(netip.MustParseAddrPort("192.0.2.1:5353")), net.UDPAddr{IP: net.IP{192, 0, 2, 1}, Port: 5353}},
		{"IPv6", sockaddr6("2001:db8::1", 53, 0), net.UDPAddr{IP: net.ParseIP("2001:db8::1"), Port: 53}},
		{"mapped", sockaddr6("::ffff:192.0.2.1", 53, 0), net.UDPAddr{IP: mapped[:], Port: 53}},
		{"link-local", sockaddr6("fe80::1", 53, uint32(lo.Index)), net.UDPAddr{IP: net.ParseIP("fe80::1"), Port: 53, Zone: "lo"}},
		{"interface that has gone", sockaddr6("fe80::1", 53, 1<<30), net.UDPAddr{IP: net.ParseIP("fe80::1"), Port: 53, Zone: "1073741824"}},
	} {
		var got net.UDPAddr
		var storage [net.IPv6len]byte
		if !test.from.udpAddr(&got, &storage) || got.String() != test.want.String() || len(got.IP) != len(test.want.IP) {
			t.Errorf("%s: %#v; want %#v", test.name, got, test.want)
		}
	}
	for name, from := range map[string]sockaddr{
		"no address":    {},
		"other family":  {raw: unix.RawSockaddrInet6{Family: unix.AF_UNIX}, length: unix.SizeofSockaddrInet6},
		"short address": {raw: unix.RawSockaddrInet6{Family: unix.AF_INET6}, length: unix.SizeofSockaddrInet4},
	} {
		if from.udpAddr(new(net.UDPAddr), new([net.IPv6len]byte)) {
			t.Errorf("%s counts as an address", name)
		}
	}
}

// A reply that the kernel refuses costs no other.
func TestRefusedReplyIsTheOnlyOneLost(t *testing.T) {
	client, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	raw, err := server.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	good := client.LocalAddr().(*net.UDPAddr).AddrPort()
	const total = atOnce + 10
	var out outbox
	for i := range total {
		to := good
		if i%40 == 1 {
			to = netip.AddrPortFrom(good.Addr(), 0) // no port: EINVAL
		}
		buffer := replyBuffers.Get().(*[replySize]byte)
		out.push(&response{from: sockaddr4(to)}, append(buffer[:0], byte(i)), buffer)
	}
	refused := 0
	newSender(raw).send(&out, func() { refused++ })
	out.empty()
	if refused != 2 || len(out.headers) != 0 {
		t.Errorf("%d replies were refused and %d are left; want 2 and 0", refused, len(out.headers))
	}
	_ = client.SetReadDeadline(time.Now().Add(5 * time.Second))
	for i := range total {
		if i%40 == 1 {
			continue
		}
		var b [8]byte
		if n, err := client.Read(b[:]); err != nil || n != 1 || b[0] != byte(i) {
			t.Fatalf("reply %d: %v, %v", i, b[:n], err)
		}
	}
}

func sockaddr4(a netip.AddrPort) (s sockaddr) {
	v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&s.raw))
	v4.Family, v4.Addr = unix.AF_INET, a.Addr().As4()
	s.raw.Port = networkOrder(a.Port())
	s.length = unix.SizeofSockaddrInet4
	return s
}

func sockaddr6(a string, port uint16, scope uint32) sockaddr {
	return sockaddr{
		raw:    unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: networkOrder(port), Addr: netip.MustParseAddr(a).As16(), Scope_id: scope},
		length: unix.SizeofSockaddrInet6,
	}
}

func networkOrder(port uint16) uint16 {
	b := [2]byte{byte(port >> 8), byte(port)}
	return *(*uint16)(unsafe.Pointer(&b))
}
