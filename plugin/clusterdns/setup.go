package clusterdns

import (
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"
)

var log = clog.NewWithPlugin(directive)

func init() { plugin.Register(directive, setup) }

func setup(c *caddy.Controller) error {
	cfg, err := parse(c)
	if err != nil {
		return plugin.Error(directive, err)
	}
	h := &ClusterDNS{config: cfg, pool: newPool(cfg)}
	c.OnStartup(func() error {
		if err := h.pool.start(); err != nil {
			return plugin.Error(directive, err)
		}
		return nil
	})
	// The servers of an instance that is replaced are still asked by the queries
	// that it has; connections are closed when they are idle.
	c.OnShutdown(func() error {
		h.pool.close()
		return nil
	})
	dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
		h.Next = next
		return h
	})
	return nil
}
