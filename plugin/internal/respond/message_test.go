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
