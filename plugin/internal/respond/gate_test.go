package respond

import (
	"context"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"

	"github.com/miekg/dns"
)

// The ready, autopath and cache plugins find others by their names, the first
// plugin behind a gate too.
func TestGateHidesNoPlugin(t *testing.T) {
	r := &Responder{Directive: "kubezone"}
	cfg := &dnsserver.Config{Zone: ".", Plugin: []plugin.Plugin{
		func(next plugin.Handler) plugin.Handler { return Gate{Next: next} },
		func(plugin.Handler) plugin.Handler { return r },
	}}
	if _, err := dnsserver.NewServer("dns://:53", []*dnsserver.Config{cfg}); err != nil {
		t.Fatal(err)
	}
	if got := cfg.Handler("kubezone"); got != plugin.Handler(r) {
		t.Errorf("the handler called kubezone is %T; want the plugin", got)
	}
}

// A reply that another plugin writes, the cache among them, has no OPT record:
// the server's writer gives it the client's.
func TestGateClearsZ(t *testing.T) {
	cached := test.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		return dns.RcodeSuccess, w.WriteMsg(new(dns.Msg).SetReply(r))
	})
	g := Gate{Next: cached, Zones: Zones{{Name: "cluster.local."}}}
	r := new(dns.Msg).SetQuestion("web.prod.svc.cluster.local.", dns.TypeA)
	r.SetEdns0(4096, true)
	const z = 0x7fff
	r.IsEdns0().Hdr.Ttl |= z
	w := dnstest.NewRecorder(&test.ResponseWriter{})
	if _, err := g.ServeDNS(context.Background(), request.NewScrubWriter(r, w), r); err != nil {
		t.Fatal(err)
	}
	if opt := w.Msg.IsEdns0(); opt.Hdr.Ttl&z != 0 || !opt.Do() || opt.UDPSize() != MaxUDPSize {
		t.Errorf("flags %#x, size %d; want DO alone, and %d", opt.Hdr.Ttl, opt.UDPSize(), MaxUDPSize)
	}
}

// What the cache holds comes in the spelling of the client that asked first.
func TestGateSpells(t *testing.T) {
	held := []dns.RR{test.PTR("1.0.96.10.In-Addr.arpa. 30 IN PTR web.prod.svc.cluster.local.")}
	cached := test.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		m := new(dns.Msg).SetReply(r)
		m.Answer = held
		m.Ns = []dns.RR{test.SOA("In-Addr.arpa. 5 IN SOA ns.dns.In-Addr.arpa. h.In-Addr.arpa. 1 2 3 4 5")}
		return dns.RcodeSuccess, w.WriteMsg(m)
	})
	g := Gate{Next: cached, Zones: Zones{{Name: "in-addr.arpa.", Reverse: true}}}
	const name = "1.0.96.10.iN-aDDR.ARPA."
	w := dnstest.NewRecorder(&test.ResponseWriter{})
	if _, err := g.ServeDNS(context.Background(), w, new(dns.Msg).SetQuestion(name, dns.TypePTR)); err != nil {
		t.Fatal(err)
	}
	if answer, authority := w.Msg.Answer[0].Header().Name, w.Msg.Ns[0].Header().Name; answer != name || authority != "iN-aDDR.ARPA." {
		t.Errorf("owner names %s and %s; want those of the query", answer, authority)
	}
	if got := held[0].Header().Name; got != "1.0.96.10.In-Addr.arpa." {
		t.Errorf("the cache holds %s now", got)
	}
}

// With the transfer plugin or not, over UDP or TCP, what is no zone is NOTAUTH.
func TestGateAnswersTransfersBelowZones(t *testing.T) {
	const passed = dns.RcodeYXDomain
	next := test.HandlerFunc(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) { return passed, nil })
	g := Gate{Next: next, Zones: Zones{{Name: "cluster.local."}}}
	for name, want := range map[string]int{"svc.cluster.local.": dns.RcodeNotAuth, "cluster.local.": passed, "local.": passed} {
		w := dnstest.NewRecorder(&test.ResponseWriter{})
		rcode, err := g.ServeDNS(context.Background(), w, new(dns.Msg).SetQuestion(name, dns.TypeAXFR))
		if err != nil {
			t.Fatal(err)
		}
		if w.Msg != nil {
			rcode = w.Msg.Rcode
		}
		if rcode != want {
			t.Errorf("%s: %s; want %s", name, dns.RcodeToString[rcode], dns.RcodeToString[want])
		}
	}
}
