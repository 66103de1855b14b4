package kubezone

import (
	"context"
	"testing"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/kubezone/kubezone/plugin/internal/respond"

	"github.com/miekg/dns"
)

// Whatever message the server hands to its plugins, the reply to it can be
// packed, fits, and is one that a resolver understands.
func FuzzReply(f *testing.F) {
	plugins := []*Kubezone{
		start(f, "pods verified\nzonal"),
		start(f, "pods insecure\nmulticluster clusterset.local\nmanifests testdata/clusterset.yaml"),
		startWith(f, headlessManifest(f, 60)), // more than a datagram has room for
	}
	for _, size := range []uint16{0, 100, 512, 700, 1232, 4096} {
		for name, qtype := range map[string]uint16{
			"db.prod.svc.cluster.local.":                            dns.TypeA,
			"_pg._tcp.db.prod.svc.cluster.local.":                   dns.TypeSRV,
			"_PG._tcp.DB.prod.svc.cluster.LOCAL.":                   dns.TypeA,
			"ext.prod.svc.cluster.local.":                           dns.TypeMX,
			"loop1.prod.svc.cluster.local.":                         dns.TypeA,
			"fd00-244--99.prod.pod.cluster.local.":                  dns.TypeAAAA,
			"zone-a.pin._zone.db.prod.svc.cluster.local.":           dns.TypeA,
			`\000\..prod.svc.clusterset.local.`:                     dns.TypeANY,
			"cluster.local.":                                        dns.TypeNS,
			"clusterset.local.":                                     dns.TypeSOA,
			"10.1.244.10.in-addr.arpa.":                             dns.TypePTR,
			"96.10.in-addr.arpa.":                                   dns.TypeAXFR,
			"a.very.long.name.of.an.external.host.example.invalid.": dns.TypeHTTPS,
		} {
			r := new(dns.Msg).SetQuestion(name, qtype)
			if size > 0 {
				r.SetEdns0(size, size > 1000)
			}
			wire, err := r.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(wire)
		}
	}
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Ttl: 0xffff}} // DO, and bits that mean nothing
	key := new(dns.Msg).SetTsig("key.", dns.HmacSHA256, 300, 1).Extra[0]
	for _, odd := range []dns.Msg{
		{Extra: []dns.RR{opt}},
		{Extra: []dns.RR{opt, opt}},
		{Extra: []dns.RR{opt, key}},
		{Extra: []dns.RR{key, opt}},
		{Answer: []dns.RR{opt}, Ns: []dns.RR{key}},
		{MsgHdr: dns.MsgHdr{Opcode: dns.OpcodeNotify}},
		{MsgHdr: dns.MsgHdr{Truncated: true, Authoritative: true, Zero: true, Rcode: dns.RcodeRefused}},
	} {
		odd.Question = []dns.Question{{Name: "db.prod.svc.cluster.local.", Qtype: dns.TypeA, Qclass: dns.ClassINET}}
		wire, err := odd.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		for _, k := range plugins {
			if small, ok := served(t, k, wire, "udp"); ok {
				large, _ := served(t, k, wire, "tcp")
				checkSizes(t, small, large)
			}
		}
	})
}

// An exchanged message is a query and its reply, as the server sends it.
type exchanged struct {
	query, reply *dns.Msg
	size         int // of the reply, in octets
}

// served does what the server does with a message, and checks the reply. It
// does nothing with messages that a plugin never sees.
func served(t *testing.T, k *Kubezone, wire []byte, network string) (exchanged, bool) {
	r := new(dns.Msg)
	if r.Unpack(wire) != nil || !passes(r) {
		return exchanged{}, false
	}
	recorder := dnstest.NewRecorder(&test.ResponseWriter{TCP: network == "tcp"})
	w := request.NewScrubWriter(r, recorder)
	rcode, _ := respond.Gate{Next: k, Zones: k.Zones}.ServeDNS(context.Background(), w, r)
	if !plugin.ClientWrite(rcode) {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(r, rcode)) // a recorder takes everything
	}
	m := recorder.Msg
	if m == nil {
		t.Fatalf("no reply to %v", r)
	}
	packed, err := m.Pack()
	if err != nil {
		t.Fatalf("%v\nin reply to %v", err, r)
	}
	if m.Rcode == rcodeOfNext {
		return exchanged{}, false
	}
	e := exchanged{query: new(dns.Msg), reply: new(dns.Msg), size: len(packed)}
	_ = e.query.Unpack(wire) // anew, as the plugin may have changed it
	if err := e.reply.Unpack(packed); err != nil {
		t.Fatalf("%v\nin reply to %v", err, r)
	}
	e.check(t)
	return e, true
}

// passes tells whether CoreDNS gives a message to its plugins.
func passes(r *dns.Msg) bool {
	if r.Response || r.Opcode != dns.OpcodeQuery && r.Opcode != dns.OpcodeNotify {
		return false
	}
	if len(r.Question) != 1 || len(r.Answer) > 1 || len(r.Ns) > 1 || len(r.Extra) > 2 {
		return false
	}
	opt := r.IsEdns0()
	return (opt == nil || opt.Version() == 0) && r.Question[0].Qclass == dns.ClassINET
}

func (e exchanged) check(t *testing.T) {
	m, r := e.reply, e.query
	if !m.Response || m.Id != r.Id || m.Opcode != r.Opcode || m.Question[0] != r.Question[0] {
		t.Errorf("the reply does not match the query:\n%v\n%v", r, m)
	}
	asked, opt := r.IsEdns0(), m.IsEdns0()
	if (asked == nil) != (opt == nil) {
		t.Errorf("OPT %v in the query, %v in the reply", asked, opt)
	}
	if opt != nil && (opt.Hdr.Ttl&0x7fff != 0 || opt.UDPSize() > respond.MaxUDPSize || opt.Do() != asked.Do()) {
		t.Errorf("OPT %v in reply to %v", opt, asked)
	}
	soas := 0
	for _, rr := range m.Ns {
		if rr.Header().Rrtype != dns.TypeSOA {
			t.Errorf("%v in the authority section", rr)
		}
		soas++
	}
	alias := len(m.Answer) > 0 && m.Answer[0].Header().Rrtype == dns.TypeCNAME
	negative := m.Rcode == dns.RcodeNameError || m.Rcode == dns.RcodeSuccess && len(m.Answer) == 0 && !m.Truncated
	switch {
	case alias && soas > 1, !alias && negative && soas != 1, !alias && !negative && soas != 0:
		t.Errorf("%d SOA records in\n%v", soas, m)
	case !alias && m.Rcode != dns.RcodeSuccess && len(m.Answer) > 0:
		t.Errorf("an error with an answer:\n%v", m)
	case (negative || len(m.Answer) > 0) != m.Authoritative:
		t.Errorf("AA %t in\n%v", m.Authoritative, m)
	}
}

// checkSizes compares the replies over UDP and TCP: the small one fits, and says
// so if a record of the answer is missing, and only then.
func checkSizes(t *testing.T, small, large exchanged) {
	limit := dns.MinMsgSize
	if opt := small.query.IsEdns0(); opt != nil {
		limit = min(max(limit, int(opt.UDPSize())), respond.MaxUDPSize)
	}
	if small.size > limit {
		t.Errorf("%d octets; the client takes %d:\n%v", small.size, limit, small.reply)
	}
	if cut := len(small.reply.Answer) < len(large.reply.Answer); small.reply.Truncated != cut || large.reply.Truncated {
		t.Errorf("%d records over UDP with TC %t, %d over TCP with TC %t", len(small.reply.Answer), small.reply.Truncated,
			len(large.reply.Answer), large.reply.Truncated)
	}
	if small.reply.Rcode != large.reply.Rcode {
		t.Errorf("%s over UDP, %s over TCP", dns.RcodeToString[small.reply.Rcode], dns.RcodeToString[large.reply.Rcode])
	}
}
