package udpbatch

import (
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
)

// hook makes the server block's UDP sockets be served by the plugin.
func hook(c *caddy.Controller, cfg config, at place) error {
	blocks, err := blocksOf(c)
	if err != nil {
		return err
	}
	in := &instance{cfg: cfg, at: at, caddy: starting()}
	if err := blocks.check(in, c.ServerBlockIndex); err != nil {
		return err
	}
	c.Set(key(c.ServerBlockIndex), in)
	dnsserver.GetConfig(c).UDPDecorateWriterFunc = in.serve

	// When the callback runs, every directive has been set up and CoreDNS knows
	// which block has which addresses; no socket is open yet.
	c.OnStartup(func() error {
		addresses, err := blocks.addresses(in, c.ServerBlockIndex)
		if err != nil {
			return plugin.Error(directive, err)
		}
		in.claim(addresses)
		return nil
	})
	c.OnRestart(func() error {
		in.restarting = true
		return nil
	})
	c.OnRestartFailed(func() error {
		in.restarting = false
		return nil
	})
	c.OnShutdown(in.onShutdown)
	c.OnFinalShutdown(in.onFinalShutdown)
	return nil
}

func init() { caddy.OnProcessExit = append(caddy.OnProcessExit, onExit) }

// starting is the instance that is being set up: caddy appends it to the list
// before it does anything else with it.
func starting() *caddy.Instance {
	instances := caddy.Instances()
	return instances[len(instances)-1]
}
