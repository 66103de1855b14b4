package wire

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func message(t testing.TB, qname string, records ...string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion(qname, dns.TypeA)
	m.Response, m.Authoritative = true, true
	sections := []*[]dns.RR{&m.Answer, &m.Ns, &m.Extra}
	for _, text := range records {
		if text == "" { // the next section
			sections = sections[1:]
			continue
		}
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		*sections[0] = append(*sections[0], rr)
	}
	return m
}

// What Pack makes says the same as what dns.Msg.Pack makes, and is not longer
// where all names are known ones.
func TestPack(t *testing.T) {
	edns := message(t, "a.example.", "a.example. 5 IN A 10.0.0.1")
	edns.SetEdns0(1232, true)
	edns.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: 3, ExtraText: "stale"}}
	flags := message(t, "a.example.")
	flags.Rcode, flags.Opcode, flags.Id = dns.RcodeRefused, dns.OpcodeNotify, 0xbeef
	flags.Truncated, flags.RecursionDesired, flags.RecursionAvailable = true, true, true
	flags.Zero, flags.AuthenticatedData, flags.CheckingDisabled = true, true, true
	for name, m := range map[string]*dns.Msg{
		"no records": message(t, "web.prod.svc.cluster.local."),
		"root":       message(t, ".", ". 5 IN NS a.root.", "", ". 5 IN SOA a.root. b.root. 1 2 3 4 5"),
		"A":          message(t, "web.prod.svc.cluster.local.", "web.prod.svc.cluster.local. 5 IN A 10.0.0.1", "web.prod.svc.cluster.local. 5 IN A 10.0.0.2"),
		"AAAA":       message(t, "web.prod.svc.cluster.local.", "web.prod.svc.cluster.local. 5 IN AAAA fd00::1"),
		"another spelling": message(t, "WEB.prod.svc.cluster.local.",
			"web.prod.svc.cluster.local. 5 IN A 10.0.0.1", "WEB.prod.svc.cluster.local. 5 IN A 10.0.0.1"),
		"negative": message(t, "missing.prod.svc.cluster.local.", "",
			"cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 12345 7200 1800 86400 5"),
		"SRV": message(t, "_pg._tcp.db.prod.svc.cluster.local.",
			"_pg._tcp.db.prod.svc.cluster.local. 5 IN SRV 0 50 5432 db-0.db.prod.svc.cluster.local.",
			"_pg._tcp.db.prod.svc.cluster.local. 5 IN SRV 0 50 5432 db-1.db.prod.svc.cluster.local.", "", "",
			"db-0.db.prod.svc.cluster.local. 5 IN A 10.0.0.1", "db-1.db.prod.svc.cluster.local. 5 IN A 10.0.0.2"),
		"PTR": message(t, "1.0.0.10.in-addr.arpa.", "1.0.0.10.in-addr.arpa. 5 IN PTR web.prod.svc.cluster.local.",
			"1.0.0.10.in-addr.arpa. 5 IN PTR db.prod.svc.cluster.local.", "1.0.0.10.in-addr.arpa. 5 IN PTR local."),
		"CNAME":                     message(t, "a.example.", "a.example. 5 IN CNAME b.example.", "b.example. 5 IN CNAME example.", "example. 5 IN A 10.0.0.1"),
		"a suffix that is no label": message(t, "bexample.", "bexample. 5 IN CNAME example.", "example. 5 IN CNAME xbexample."),
		"other types": message(t, "a.example.", "a.example. 5 IN TXT \"1.1.0\"", "a.example. 5 IN MX 10 mail.a.example.",
			"a.example. 5 IN HINFO \"RFC8482\" \"\"", "a.example. 5 IN TYPE65280 \\# 3 010203"),
		"EDNS":  edns,
		"flags": flags,
	} {
		compare(t, name, m)
	}
	many := message(t, "q.example.")
	for i := range 12 {
		many.Answer = append(many.Answer, message(t, ".", fmt.Sprintf("x%d.y%[1]d.example. 5 IN CNAME z.y%[1]d.example.", i)).Answer...)
	}
	compare(t, "more names than are remembered", many)
	large := message(t, "db.example.")
	for i := range 4000 {
		large.Answer = append(large.Answer, message(t, ".", fmt.Sprintf("n%d.db.example. 5 IN CNAME m%[1]d.db.example.", i)).Answer...)
	}
	compare(t, "beyond the reach of pointers", large)
}

func compare(t *testing.T, name string, m *dns.Msg) {
	t.Helper()
	before := m.String()
	packed, ok := Pack(m, make([]byte, 0, 512))
	if !ok {
		t.Errorf("%s: not packed", name)
		return
	}
	if m.String() != before {
		t.Errorf("%s: the message changed", name)
	}
	m.Compress = true
	reference, err := m.Pack()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var got, want dns.Msg
	if err := got.Unpack(packed); err != nil {
		t.Errorf("%s: %v\n%x", name, err, packed)
		return
	}
	if err := want.Unpack(reference); err != nil {
		t.Fatal(err)
	}
	if got.String() != want.String() {
		t.Errorf("%s: got %s\nwant %s", name, &got, &want)
	}
	if len(m.Answer)+len(m.Ns)+len(m.Extra) < 4 && len(packed) > len(reference) {
		t.Errorf("%s: %d octets; dns.Msg.Pack needs %d", name, len(packed), len(reference))
	}
}

func TestPackLeavesToOthers(t *testing.T) {
	long := strings.Repeat(strings.Repeat("x", 62)+".", 5)
	for name, m := range map[string]*dns.Msg{
		"no question":       {},
		"an escape":         message(t, `a\.b.example.`),
		"extended rcode":    {Question: []dns.Question{{Name: "a."}}, MsgHdr: dns.MsgHdr{Rcode: dns.RcodeBadVers}},
		"not qualified":     {Question: []dns.Question{{Name: "a.example"}}},
		"empty name":        {Question: []dns.Question{{Name: ""}}},
		"empty label":       {Question: []dns.Question{{Name: "a..example."}}},
		"leading dot":       {Question: []dns.Question{{Name: ".example."}}},
		"long label":        {Question: []dns.Question{{Name: strings.Repeat("x", 64) + "."}}},
		"long name":         {Question: []dns.Question{{Name: long}}},
		"no record":         {Question: []dns.Question{{Name: "a."}}, Answer: []dns.RR{nil}},
		"no address":        {Question: []dns.Question{{Name: "a."}}, Answer: []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "a."}}}},
		"to be signed":      {Question: []dns.Question{{Name: "a."}}, Extra: []dns.RR{&dns.TSIG{Hdr: dns.RR_Header{Name: "a.", Rrtype: dns.TypeTSIG}}}},
		"record not packed": {Question: []dns.Question{{Name: "a."}}, Answer: []dns.RR{&dns.MX{Hdr: dns.RR_Header{Name: "a."}, Mx: "b"}}},
	} {
		if packed, ok := Pack(m, nil); ok {
			t.Errorf("%s: packed as %x", name, packed)
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
		m := message(t, name())
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
		compare(t, "random names", m)
		if t.Failed() {
			return
		}
	}
}

func BenchmarkPack(b *testing.B) {
	for _, n := range []int{1, 20} {
		m := message(b, "headless.bench.svc.cluster.local.")
		for i := range n {
			m.Answer = append(m.Answer, message(b, ".", fmt.Sprintf("headless.bench.svc.cluster.local. 5 IN A 10.0.0.%d", i)).Answer...)
		}
		m.Compress = n > 1
		b.Run(fmt.Sprintf("ours/%d", n), func(b *testing.B) {
			buffer := make([]byte, 0, 2048)
			for b.Loop() {
				Pack(m, buffer)
			}
		})
		b.Run(fmt.Sprintf("dns.Msg/%d", n), func(b *testing.B) {
			buffer := make([]byte, 2048)
			for b.Loop() {
				if _, err := m.PackBuffer(buffer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
