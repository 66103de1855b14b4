package nodelocal

import (
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"
)

var log = clog.NewWithPlugin(directive)

func init() { plugin.Register(directive, setup) }

func setup(c *caddy.Controller) error {
	cfg, at, err := parse(c)
	if err == nil {
		err = hook(c, cfg, at)
	}
	if err != nil {
		return plugin.Error(directive, err)
	}
	return nil
}
