package kubezone

import (
	"maps"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"

	"github.com/miekg/dns"
)

// clientMetadata is what is published about the client of a query.
func clientMetadata(t *testing.T, k *Kubezone, client string) map[string]string {
	t.Helper()
	ctx := metadata.ContextWithMetadata(t.Context())
	w := &test.ResponseWriter{RemoteIP: client}
	ctx = k.Metadata(ctx, request.Request{W: w, Req: new(dns.Msg).SetQuestion("example.org.", dns.TypeA)})
	values := map[string]string{}
	for _, label := range metadata.Labels(ctx) {
		values[label] = metadata.ValueFunc(ctx, label)()
	}
	return values
}

// What is known of pods is published where the metadata plugin is there, and
// their labels are kept then only.
func TestClientMetadata(t *testing.T) {
	const pod = "10.244.9.9"
	named := map[string]string{"kubernetes/client-namespace": "prod", "kubernetes/client-pod-name": "client"}
	labelled := maps.Clone(named)
	labelled["kubernetes/client-label/app"] = "client"
	for _, c := range []struct {
		name, options string
		metadata      bool
		want          map[string]string
	}{
		{"with the metadata plugin", "pods verified", true, labelled},
		{"without", "pods verified", false, named},
		{"without pods", "pods insecure", true, map[string]string{}},
	} {
		k := start(t, c.options)
		k.store.Close()
		k.config.metadata = c.metadata
		again, err := newKubezone(k.config, "kubezone")
		if err != nil {
			t.Fatal(err)
		}
		if got := clientMetadata(t, again, pod); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v; want %v", c.name, got, c.want)
		}
		again.store.Close()
	}
}

// The metadata plugin is found before the chain is made.
func TestHasMetadata(t *testing.T) {
	c := caddy.NewTestController("dns", "metadata")
	server := dnsserver.GetConfig(c)
	if hasMetadata(server) {
		t.Error("found in an empty server block")
	}
	server.AddPlugin(func(next plugin.Handler) plugin.Handler { return next })
	if hasMetadata(server) {
		t.Error("another plugin is taken for it")
	}
	setup, err := caddy.DirectiveAction("dns", "metadata")
	if err != nil {
		t.Fatal(err)
	}
	if err := setup(c); err != nil {
		t.Fatal(err)
	}
	if !hasMetadata(server) {
		t.Error("not found")
	}
}
