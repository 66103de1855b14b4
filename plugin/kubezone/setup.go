package kubezone

import (
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
)

func init() { RegisterAs("kubezone") }

// RegisterAs makes the plugin answer to directive too. A build that does not
// link the stock kubernetes plugin calls it with "kubernetes", before main
// runs; registering a directive twice panics, as everywhere in caddy.
func RegisterAs(directive string) {
	plugin.Register(directive, func(c *caddy.Controller) error { return setup(c, directive) })
}

func setup(c *caddy.Controller, directive string) error {
	return plugin.Error(directive, c.ArgErr())
}
