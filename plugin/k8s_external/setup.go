package k8sexternal

import (
	"slices"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/kubezone/kubezone/plugin/internal/respond"
	"github.com/kubezone/kubezone/plugin/kubezone"
)

const directive = "k8s_external"

var log = clog.NewWithPlugin(directive)

func init() { plugin.Register(directive, setup) }

func setup(c *caddy.Controller) error {
	cfg, err := parse(c)
	if err != nil {
		return plugin.Error(directive, err)
	}
	for _, w := range cfg.warnings {
		log.Warning(w)
	}
	kubezone.WantExternal(c)
	server := dnsserver.GetConfig(c)
	e := newK8sExternal(cfg)
	c.OnStartup(func() error {
		if err := e.connect(server); err != nil {
			return plugin.Error(directive, err)
		}
		return nil
	})
	server.AddPlugin(func(next plugin.Handler) plugin.Handler {
		e.Next = next
		return e
	})
	server.Plugin = slices.Insert(server.Plugin, 0, plugin.Plugin(func(next plugin.Handler) plugin.Handler {
		return respond.Gate{Next: next, Zones: e.Zones}
	}))
	return nil
}
