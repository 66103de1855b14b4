package nodelocal

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// The plugin answers itself alone, and counts what passes through it.
func TestServeDNS(t *testing.T) {
	const self = "_nodelocal.cluster.local."
	var inFlight atomic.Int64
	var seen int64
	n := &Nodelocal{
		addresses: []netip.Addr{netip.MustParseAddr("10.240.0.1")}, // of test.ResponseWriter's client
		selfName:  self,
		inFlight:  &inFlight,
		Next: test.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			seen = inFlight.Load()
			m := new(dns.Msg).SetReply(r)
			return dns.RcodeSuccess, w.WriteMsg(m)
		}),
	}
	for _, tc := range []struct {
		name, client, question string
		answered               bool // by the plugin
	}{
		{"from an address of the node", "10.240.0.1", self, true},
		{"from a pod", "10.244.0.7", self, false},
		{"another name", "10.240.0.1", "kubernetes.default.svc.cluster.local.", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			seen = 0
			w := dnstest.NewRecorder(&test.ResponseWriter{RemoteIP: tc.client})
			if _, err := n.ServeDNS(t.Context(), w, new(dns.Msg).SetQuestion(tc.question, dns.TypeTXT)); err != nil {
				t.Fatal(err)
			}
			if answered := len(w.Msg.Answer) == 1; answered != tc.answered {
				t.Fatalf("answer %v; want one of the plugin's: %v", w.Msg.Answer, tc.answered)
			}
			if tc.answered {
				if txt := w.Msg.Answer[0].(*dns.TXT).Txt[0]; txt != identity {
					t.Errorf("it says it is %q; want %q", txt, identity)
				}
			} else if seen != 1 {
				t.Errorf("%d queries were at work in the next plugin; want 1", seen)
			}
		})
	}
	if left := inFlight.Load(); left != 0 {
		t.Errorf("%d queries are at work at the end; want 0", left)
	}
}

// A query that the plugin only counts costs what CoreDNS takes to call the next
// plugin: 1 allocation.
func TestCostOfAQuery(t *testing.T) {
	var inFlight atomic.Int64
	n := &Nodelocal{selfName: "_nodelocal.", inFlight: &inFlight, Next: test.HandlerFunc(
		func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) { return dns.RcodeSuccess, nil })}
	w, m := &test.ResponseWriter{}, new(dns.Msg).SetQuestion("kubernetes.default.svc.cluster.local.", dns.TypeA)
	ctx := t.Context()
	if allocs := testing.AllocsPerRun(1000, func() { _, _ = n.ServeDNS(ctx, w, m) }); allocs > 1 {
		t.Errorf("%v allocations; want 1", allocs)
	}
}
