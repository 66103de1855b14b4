package wire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// bufferSize is enough for most messages.
const bufferSize = 2048

// packable are messages by name, and whether Pack packs them itself.
func packable(t testing.TB) map[string]struct {
	m    *dns.Msg
	ours bool
} {
	t.Helper()
	type entry = struct {
		m    *dns.Msg
		ours bool
	}
	all := make(map[string]entry)
	rr := func(text string) dns.RR {
		r, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	add := func(name, ours string, change func(*dns.Msg)) {
		for _, compress := range []bool{true, false} {
			m := new(dns.Msg).SetQuestion("web.prod.svc.cluster.local.", dns.TypeA)
			m.Response, m.Authoritative, m.Compress = true, true, compress
			change(m)
			all[fmt.Sprintf("%s, compress %v", name, compress)] = entry{m, ours == "ours"}
		}
	}
	answer := func(name, ours string, records ...string) {
		add(name, ours, func(m *dns.Msg) {
			for _, r := range records {
				m.Answer = append(m.Answer, rr(r))
			}
		})
	}
	answer("nothing", "ours")
	answer("A", "ours", "web.prod.svc.cluster.local. 5 IN A 10.0.0.1")
	answer("A and AAAA", "ours", "web.prod.svc.cluster.local. 5 IN A 10.0.0.1", "web.prod.svc.cluster.local. 5 IN AAAA fd00::1")
	answer("another spelling", "ours", "WEB.prod.SVC.cluster.local. 5 IN A 10.0.0.1", "web.prod.svc.CLUSTER.local. 5 IN A 10.0.0.1")
	answer("PTR", "ours", "1.0.0.10.in-addr.arpa. 5 IN PTR web.prod.svc.cluster.local.", "1.0.0.10.in-addr.arpa. 5 IN PTR www.example.org.")
	answer("CNAME and beyond", "ours", "web.prod.svc.cluster.local. 5 IN CNAME www.example.org.", "www.example.org. 5 IN CNAME web.example.org.", "web.example.org. 9 IN A 192.0.2.1")
	answer("NS", "ours", "cluster.local. 5 IN NS ns.dns.cluster.local.", ". 5 IN NS a.root-servers.net.", "org. 5 IN NS .")
	answer("SRV", "ours", "_http._tcp.web.prod.svc.cluster.local. 5 IN SRV 0 50 80 a.web.prod.svc.cluster.local.",
		"_http._tcp.web.prod.svc.cluster.local. 5 IN SRV 0 50 80 b.web.prod.svc.cluster.local.", "a.web.prod.svc.cluster.local. 5 IN A 10.0.0.1", "b.web.prod.svc.cluster.local. 5 IN A 10.0.0.2")
	answer("TXT", "theirs", `dns-version.cluster.local. 5 IN TXT "1.1.0"`)
	answer("an escape", "theirs", `a\.b.prod.svc.cluster.local. 5 IN A 10.0.0.1`)
	answer("an escape by number", "theirs", `a\200b.prod.svc.cluster.local. 5 IN A 10.0.0.1`)
	answer("MX", "theirs", "example.org. 5 IN MX 10 mail.example.org.")
	add("SOA", "ours", func(m *dns.Msg) {
		m.Rcode = dns.RcodeNameError
		m.Ns = []dns.RR{rr("cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5")}
	})
	add("OPT", "ours", func(m *dns.Msg) { m.SetEdns0(1232, true) })
	add("no question", "ours", func(m *dns.Msg) { m.Question = nil; m.SetEdns0(1232, true) })
	add("two questions", "ours", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) })
	add("OPT and a large rcode", "ours", func(m *dns.Msg) { m.SetEdns0(1232, false); m.Rcode = dns.RcodeBadVers })
	add("a large rcode without OPT", "theirs", func(m *dns.Msg) { m.Rcode = dns.RcodeBadVers })
	add("an impossible rcode", "theirs", func(m *dns.Msg) { m.Rcode = 0x1000 })
	add("EDE", "ours", func(m *dns.Msg) {
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: 3, ExtraText: "stale"}, &dns.EDNS0_EDE{InfoCode: 19}}
	})
	add("a cookie", "theirs", func(m *dns.Msg) {
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"}}
	})
	add("two OPT", "ours", func(m *dns.Msg) { m.SetEdns0(1232, false); m.SetEdns0(512, true); m.Rcode = dns.RcodeBadVers })
	add("all flags", "ours", func(m *dns.Msg) {
		m.Opcode, m.Truncated, m.RecursionDesired, m.RecursionAvailable, m.Zero, m.AuthenticatedData, m.CheckingDisabled = 5, true, true, true, true, true, true
	})
	for name, bad := range map[string]string{"not qualified": "web.prod", "empty": "", "an empty label": "a..b.", "a leading dot": ".a.", "a long label": strings.Repeat("a", 64) + ".", "a long name": strings.Repeat("aa.", 85)} {
		add(name, "theirs", func(m *dns.Msg) { m.Question[0].Name = bad })
		add("owner "+name, "theirs", func(m *dns.Msg) {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: bad, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(1, 2, 3, 4)}}
		})
	}
	for name, ip := range map[string]net.IP{"no address": nil, "an odd address": {1, 2, 3}} {
		add(name, "theirs", func(m *dns.Msg) { m.Answer = []dns.RR{&dns.A{Hdr: *rr("a. A 1.2.3.4").Header(), A: ip}} })
	}
	add("to be signed", "theirs", func(m *dns.Msg) { m.SetTsig("key.", dns.HmacSHA256, 300, 1) })
	add("no record", "theirs", func(m *dns.Msg) { m.Answer = []dns.RR{nil} })
	add("no additional record", "theirs", func(m *dns.Msg) { m.Extra = []dns.RR{nil} })
	for _, n := range []int{20, 1000, 5000} { // the last are beyond where pointers reach
		add(fmt.Sprintf("%d A", n), "ours", func(m *dns.Msg) {
			for i := range n {
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: net.IPv4(10, 1, byte(i>>8), byte(i))})
			}
			m.Ns = []dns.RR{rr("late.example. NS later.example."), rr("late.example. NS later.example.")}
		})
	}
	return all
}

// What we pack is what the library packs.
func TestPack(t *testing.T) {
	for name, tc := range packable(t) {
		t.Run(name, func(t *testing.T) {
			got, ok := Pack(tc.m, make([]byte, bufferSize))
			if ok != tc.ours {
				t.Errorf("packed by us: %v; want %v", ok, tc.ours)
			}
			if !ok {
				return
			}
			want, err := tc.m.Pack()
			if err != nil {
				t.Fatalf("we pack it; the library says %v", err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got\n%x\nwant\n%x", got, want)
			}
		})
	}
}

// The library is the slow twin. The input is a message, which is packed again in
// both ways.
func FuzzPack(f *testing.F) {
	for _, tc := range packable(f) {
		if packed, ok := Pack(tc.m, nil); ok && len(packed) < 1000 {
			f.Add(packed)
		}
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		m := new(dns.Msg)
		if m.Unpack(packet) == nil {
			agree(t, m)
		}
	})
}

// agree checks that we and the library pack a message alike, if we do.
func agree(t *testing.T, m *dns.Msg) {
	t.Helper()
	for _, compress := range []bool{true, false} {
		m.Compress = compress
		got, ok := Pack(m.Copy(), make([]byte, bufferSize))
		if !ok {
			continue
		}
		if want, err := m.Copy().Pack(); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("packed\n%x\nwant\n%x, %v", got, want, err)
		}
	}
}

// Random names of few labels, so that they have much in common.
func TestPackRandomNames(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 9))
	name := func() string {
		var b strings.Builder
		for range 1 + random.IntN(5) {
			b.WriteString([]string{"a.", "b.", "aa.", "svc.", "A."}[random.IntN(5)])
		}
		return b.String()
	}
	for range 20_000 {
		m := new(dns.Msg).SetQuestion(name(), dns.TypeA)
		for range random.IntN(12) {
			h := dns.RR_Header{Name: name(), Class: dns.ClassINET, Ttl: 5}
			switch random.IntN(4) {
			case 0:
				h.Rrtype = dns.TypeCNAME
				m.Answer = append(m.Answer, &dns.CNAME{Hdr: h, Target: name()})
			case 1:
				h.Rrtype = dns.TypeSRV
				m.Answer = append(m.Answer, &dns.SRV{Hdr: h, Target: name()})
			case 2:
				h.Rrtype = dns.TypeSOA
				m.Ns = append(m.Ns, &dns.SOA{Hdr: h, Ns: name(), Mbox: name()})
			case 3:
				h.Rrtype = dns.TypeA
				m.Extra = append(m.Extra, &dns.A{Hdr: h, A: []byte{10, 0, 0, 1}})
			}
		}
		agree(t, m)
	}
}

func TestPackAllocatesNothing(t *testing.T) {
	buffer := make([]byte, bufferSize)
	m := packable(t)["20 A, compress true"].m
	if n := testing.AllocsPerRun(1000, func() { Pack(m, buffer) }); n > 0 {
		t.Errorf("%v allocations; want none", n)
	}
}

func BenchmarkPack(b *testing.B) {
	for _, name := range []string{"A, compress true", "SOA, compress true", "20 A, compress true", "SRV, compress true"} {
		m := packable(b)[name].m
		buffer := make([]byte, bufferSize)
		b.Run(name+"/ours", func(b *testing.B) {
			for b.Loop() {
				Pack(m, buffer)
			}
		})
		b.Run(name+"/library", func(b *testing.B) {
			for b.Loop() {
				_, _ = m.PackBuffer(buffer)
			}
		})
	}
}
