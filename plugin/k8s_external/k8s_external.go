// Package k8sexternal is a CoreDNS plugin that serves the Services of a
// Kubernetes cluster under the addresses at which they are reached from outside
// of it. It answers from what the kubezone plugin of the same server block
// holds.
package k8sexternal

import (
	"fmt"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/upstream"
	"github.com/kubezone/kubezone/plugin/internal/respond"
	"github.com/kubezone/kubezone/plugin/internal/schema"
	"github.com/kubezone/kubezone/plugin/kubezone"
)

// K8sExternal answers for its zones. It is safe for concurrent use once it has
// been connected.
type K8sExternal struct {
	config
	respond.Responder
	schema *schema.Schema // of all zones
}

var _ plugin.Handler = (*K8sExternal)(nil)

func newK8sExternal(cfg config) *K8sExternal {
	e := &K8sExternal{
		config: cfg,
		Responder: respond.Responder{
			Directive: directive,
			Fall:      cfg.fall,
			Lookup:    upstream.New(),
		},
		schema: &schema.Schema{Config: schema.Config{
			Grammar:     schema.External,
			PrimaryZone: cfg.primary,
			ApexLabel:   cfg.apex,
			TTL:         cfg.ttl,
			NegativeTTL: cfg.ttl,
		}},
	}
	if cfg.headless {
		e.schema.Features = schema.ExternalEndpoints
	}
	for _, name := range cfg.zones {
		e.Zones = append(e.Zones, respond.NewZone(name, e.schema, cfg.fall))
	}
	return e
}

// connect finds the plugin that follows the cluster. It stands later in the
// chain, so that it is there only when all plugins have been set up.
func (e *K8sExternal) connect(server *dnsserver.Config) error {
	k := follower(server)
	if k == nil {
		return fmt.Errorf("%s: want the kubernetes or kubezone directive of this project in the same server block", e.at)
	}
	return e.follow(k)
}

// follower is the plugin that follows the cluster in the server block, or nil.
func follower(server *dnsserver.Config) *kubezone.Kubezone {
	for _, name := range []string{"kubernetes", "kubezone"} {
		if k, ok := server.Handler(name).(*kubezone.Kubezone); ok {
			return k
		}
	}
	return nil
}

// follow makes the plugin answer from what k holds.
func (e *K8sExternal) follow(k *kubezone.Kubezone) error {
	x := k.External()
	if !x.Kept {
		return fmt.Errorf("%s: %s was set up first and keeps no external addresses: k8s_external must come before it in plugin.cfg", e.at, k.Name())
	}
	e.schema.Index, e.schema.Local = x.Index, x.Local
	e.Objects, e.Explain = x.Objects, x.Explain
	if !x.Endpoints {
		e.schema.Features |= schema.NoEndpoints
	}
	if x.Headless {
		e.schema.Features |= schema.HeadlessEndpoints
	}
	if e.headless && !x.Endpoints {
		log.Warningf("%s - headless: ignored, since noendpoints is set in %s", e.at, k.Name())
	}
	return nil
}
