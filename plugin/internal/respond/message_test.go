package respond

import (
	"testing"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
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
