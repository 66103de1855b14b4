//go:build linux

package udpbatch

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// The library is the slow twin.
func FuzzUnpackQuery(f *testing.F) {
	for _, edns := range []bool{false, true} {
		m := new(dns.Msg).SetQuestion("web.prod.svc.cluster.local.", dns.TypeSRV)
		if edns {
			m.SetEdns0(1232, true)
		}
		packed, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed)
	}
	f.Fuzz(func(t *testing.T, packet []byte) { agree(t, packet) })
}

// agree checks that we unpack a message as the library does, if we do.
func agree(t *testing.T, packet []byte) {
	t.Helper()
	ours := unpackQuery(packet)
	if ours == nil {
		return
	}
	m := new(dns.Msg)
	if err := m.Unpack(packet); err != nil {
		t.Fatalf("we unpack %x; the library says %v", packet, err)
	}
	if !reflect.DeepEqual(ours, m) {
		t.Fatalf("%x: unpacked\n%#v\nwant\n%#v", packet, ours, m)
	}
}

func TestUnpackQuery(t *testing.T) {
	ours := 0
	for _, p := range hostilePackets(t) {
		if len(p.packet) < headerSize {
			continue
		}
		agree(t, p.packet)
		if unpackQuery(p.packet) != nil {
			ours++
		}
	}
	if ours < 50 {
		t.Errorf("%d packets were unpacked by us; want the common ones", ours)
	}
	name := strings.Repeat("a.", 126) // 252 octets, and the root
	for _, name := range []string{".", "a.", name, name + "a.", "a" + name, strings.Repeat("a", 63) + "." + name, "*.example.org.", "_a._b-c.example.", `\$.example.`} {
		for _, edns := range []bool{false, true} {
			m := new(dns.Msg).SetQuestion(name, dns.TypeSRV)
			if edns {
				m.SetEdns0(1232, true)
			}
			if packed, err := m.Pack(); err == nil {
				agree(t, packed)
				for n := range len(packed) {
					agree(t, packed[:n])
				}
			}
		}
	}
	random := rand.New(rand.NewPCG(3, 4))
	good, err := new(dns.Msg).SetQuestion("web.prod.svc.cluster.local.", dns.TypeA).SetEdns0(1232, false).Pack()
	if err != nil {
		t.Fatal(err)
	}
	for range 20000 {
		p := bytes.Clone(good)
		for range 1 + random.IntN(3) {
			p[random.IntN(len(p))] = byte(random.Uint32())
		}
		agree(t, p)
	}
}

// Two allocations: the message with its parts, and the name.
func TestUnpackQueryAllocates(t *testing.T) {
	packed, err := new(dns.Msg).SetQuestion("web.prod.svc.cluster.local.", dns.TypeA).SetEdns0(1232, false).Pack()
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() { unpackQuery(packed) }); n > 2 {
		t.Errorf("%v allocations; want 2", n)
	}
}
