package nodelocal

import (
	"net/netip"
	"slices"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"

	"github.com/kubezone/kubezone/plugin/internal/corefile"
)

// hook makes the server block listen on the addresses, and ties the node's rules
// to the life of the server.
func hook(c *caddy.Controller, cfg config, at corefile.Place) error {
	first, _ := c.Get(storageKey{}).(*claim)
	if first != nil && !first.cfg.equal(cfg) {
		return at.Errorf("%s: %s has other addresses or options; want the same in every server block", directive, first.at)
	}
	block := dnsserver.GetConfig(c)
	port, err := plainPort(block)
	if err != nil {
		return at.Errorf("%s: %w", directive, err)
	}
	if first != nil && first.plan.port != port {
		return at.Errorf("%s: port %d; want that of %s, which is %d", directive, port, first.at, first.plan.port)
	}
	cl := first
	if cl == nil {
		cl = newClaim(c, cfg, at, port)
		c.Set(storageKey{}, cl)
		c.OnStartup(func() error {
			// Every directive has been set up by now, so this comes after what the
			// others do at the end.
			c.OnFinalShutdown(cl.onLastShutdown)
			return cl.start()
		})
		c.OnRestart(cl.onRestart)
		c.OnRestartFailed(cl.onRestartFailed)
		c.OnShutdown(cl.onShutdown)
		c.OnFinalShutdown(cl.onFinalShutdown)
	}
	cl.blocks = append(cl.blocks, block)
	listen(block, cl.plan.listen)

	n := &Nodelocal{addresses: cl.plan.listen, selfName: selfLabel + block.Zone, inFlight: &inFlight, serving: cl.serving}
	if block.Zone == "." {
		n.selfName = selfLabel
	}
	if cl.selfName == "" {
		cl.selfName = n.selfName
	}
	block.AddPlugin(func(next plugin.Handler) plugin.Handler {
		n.Next = next
		return n
	})
	return nil
}

// storageKey is where the first directive of a Corefile is kept while it is set
// up.
type storageKey struct{}

// listen makes a server block listen on addresses, beside those of bind if that
// is there too.
func listen(block *dnsserver.Config, addresses []netip.Addr) {
	if slices.Equal(block.ListenHosts, []string{""}) {
		block.ListenHosts = nil
	}
	for _, a := range addresses {
		if !slices.Contains(block.ListenHosts, a.String()) {
			block.ListenHosts = append(block.ListenHosts, a.String())
		}
	}
}
