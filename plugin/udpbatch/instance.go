//go:build linux

package udpbatch

import (
	"context"
	"slices"
	"sync"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"

	"github.com/miekg/dns"
)

// An instance is one directive of one Corefile that is or was served.
type instance struct {
	cfg       config
	at        place
	caddy     *caddy.Instance
	addresses []string // that it serves, once started

	servings map[*listener]*serving

	restarting bool // a reload has begun
}

// process holds the listeners by their address, and who wants them to be there.
var process struct {
	mu        sync.Mutex // guards what follows
	listeners map[string]*listener
	claims    map[string][]*instance
	ended     []*listener // closed for good, while CoreDNS's own sockets were open
}

// claim makes sure that the listeners of in's addresses stay from now on.
func (in *instance) claim(addresses []string) {
	process.mu.Lock()
	defer process.mu.Unlock()
	if process.claims == nil {
		process.claims = make(map[string][]*instance)
		process.listeners = make(map[string]*listener)
	}
	in.addresses, in.servings = addresses, make(map[*listener]*serving)
	for _, address := range addresses {
		process.claims[address] = append(process.claims[address], in)
	}
}

// serve is the hook that CoreDNS calls when it begins to serve an address.
func (in *instance) serve(server *dnsserver.Server) dns.DecorateWriter {
	process.mu.Lock()
	if !slices.Contains(process.claims[server.Addr], in) {
		process.mu.Unlock()
		return nil // shut down meanwhile
	}
	e := process.listeners[server.Addr]
	if e == nil {
		e = newListener(server.Addr)
		process.listeners[server.Addr] = e
	}
	s := newServing(server)
	in.servings[e] = s
	process.mu.Unlock()

	e.serve(s, in.cfg)
	return e.ordinary
}

// release gives up in's claims. A listener that nobody else claims is closed;
// for one that another instance has claimed, it waits until that serves it and
// in's queries have been answered. It returns those that it closed.
func (in *instance) release() (closed []*listener) {
	deadline, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	for _, address := range in.addresses {
		process.mu.Lock()
		claims := slices.DeleteFunc(process.claims[address], func(other *instance) bool {
			return other == in || !alive(other.caddy)
		})
		process.claims[address] = claims
		e := process.listeners[address]
		if len(claims) == 0 {
			delete(process.claims, address)
			delete(process.listeners, address)
		}
		s := in.servings[e]
		process.mu.Unlock()
		switch {
		case e == nil:
		case len(claims) == 0:
			e.close()
			closed = append(closed, e)
		default:
			e.handOver(s, deadline.Done())
		}
	}
	in.addresses = nil
	return closed
}

// alive tells whether an instance has neither ended nor failed to start.
func alive(i *caddy.Instance) bool { return slices.Contains(caddy.Instances(), i) }

// onShutdown is called in a reload, when the new servers are about to serve, and
// at the end of the process before any lameduck pause, in which the sockets are
// still needed.
func (in *instance) onShutdown() error {
	if in.restarting {
		in.release()
	}
	return nil
}

func (in *instance) onFinalShutdown() error {
	closed := in.release()
	process.mu.Lock()
	defer process.mu.Unlock()
	process.ended = append(process.ended, closed...)
	return nil
}

// onExit is called once all callbacks for the final shutdown have returned.
// CoreDNS closes its own sockets next.
func onExit() {
	process.mu.Lock()
	ended := process.ended
	process.ended = nil
	process.mu.Unlock()
	for _, e := range ended {
		if err := e.withdraw(); err != nil {
			log.Warningf("%s: packets may be lost: %v", e.address, err)
		}
	}
}
