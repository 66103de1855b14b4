// Package clusterdns forwards queries to the servers of the cluster's DNS, each
// of which it knows, over TCP.
package clusterdns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/proxy"
	"github.com/coredns/coredns/request"

	"github.com/miekg/dns"
)

const (
	// mostTries is how many servers a query is sent to.
	mostTries = 3
	// allTries is how long they may take in all: a client asks again after 5 s.
	allTries = 4 * time.Second
)

var errBusy = errors.New("too many queries wait for the cluster's DNS")

// A ClusterDNS forwards the queries for some zones.
type ClusterDNS struct {
	Next plugin.Handler

	config
	pool    *pool
	waiting atomic.Int64
}

// Name implements plugin.Handler.
func (c *ClusterDNS) Name() string { return directive }

// Ready implements ready.Readiness: there is a server to ask.
func (c *ClusterDNS) Ready() bool { return len(c.pool.servers()) > 0 }

// Servers are those of the cluster's DNS that are known. The plugin nodelocal
// sends queries there when this server is gone.
func (c *ClusterDNS) Servers(netip.Addr) []netip.AddrPort { return c.pool.endpoints() }

// ServeDNS implements plugin.Handler.
func (c *ClusterDNS) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	state := request.Request{W: w, Req: r}
	if plugin.Zones(c.zones).Matches(state.Name()) == "" {
		return plugin.NextOrFailure(c.Name(), c.Next, ctx, w, r)
	}
	if c.waiting.Add(1) > int64(c.maxConcurrent) {
		c.waiting.Add(-1)
		rejected.Inc()
		return dns.RcodeRefused, plugin.Error(directive, errBusy)
	}
	defer c.waiting.Add(-1)

	reply, err := c.forward(ctx, state)
	if err != nil {
		return dns.RcodeServerFailure, plugin.Error(directive, err)
	}
	if err := w.WriteMsg(reply); err != nil {
		return dns.RcodeServerFailure, plugin.Error(directive, err)
	}
	return dns.RcodeSuccess, nil
}

// forward asks one server after another until one answers. One that cannot
// answer yet, as while it starts, says SERVFAIL; that counts if no other knows
// better.
func (c *ClusterDNS) forward(ctx context.Context, state request.Request) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, allTries)
	defer cancel()
	var failed *dns.Msg
	err := errors.New("no server of the cluster's DNS is known")
	var tried []*server
	for len(tried) < mostTries && ctx.Err() == nil {
		s := c.pool.choose(tried)
		if s == nil {
			break
		}
		if len(tried) > 0 {
			retries.Inc()
		}
		tried = append(tried, s)
		reply, errAsk := s.ask(ctx, state)
		switch {
		case errAsk != nil:
			err = fmt.Errorf("%s: %w", s.address, errAsk)
		case reply.Rcode == dns.RcodeServerFailure:
			failed = reply
		default:
			return reply, nil
		}
	}
	if failed != nil {
		return failed, nil
	}
	return nil, err
}

// A server is one of the cluster's DNS, with the connections to it.
type server struct {
	address netip.AddrPort
	proxy   *proxy.Proxy
	asking  atomic.Int64 // queries that wait for its answer
	avoided atomic.Int64 // until then, in Unix nanoseconds, others are asked first
}

const (
	// avoidance is for how long a server that failed is asked last, until its
	// health is known.
	avoidance = 2 * time.Second
	// healthInterval is how often one that failed is looked at.
	healthInterval = 500 * time.Millisecond
	// idleConnections are closed after this, before a server does it.
	idleConnections = 8 * time.Second
	// maxAge spreads the load anew over what listens behind one address.
	maxAge = time.Minute
)

func newServer(address netip.AddrPort) *server {
	p := proxy.NewProxy(directive, address.String(), "dns")
	p.SetExpire(idleConnections)
	p.SetMaxAge(maxAge)
	p.SetReadTimeout(silence)
	p.GetHealthchecker().SetTCPTransport()
	p.GetHealthchecker().SetRecursionDesired(false)
	p.Start(healthInterval)
	return &server{address: address, proxy: p}
}

func (s *server) stop() { s.proxy.Stop() }

// well tells whether nothing is known against a server.
func (s *server) well() bool {
	return s.proxy.Fails() == 0 && time.Now().UnixNano() >= s.avoided.Load()
}

// ask sends one query. A connection that the server has closed is no failure.
func (s *server) ask(ctx context.Context, state request.Request) (*dns.Msg, error) {
	s.asking.Add(1)
	defer s.asking.Add(-1)
	for {
		reply, _, _, err := s.proxy.Connect(ctx, state, proxy.Options{ForceTCP: true})
		switch {
		case errors.Is(err, proxy.ErrCachedClosed):
			continue
		case err == nil && !state.Match(reply):
			err = errors.New("the reply is to another question")
		}
		if err != nil {
			s.avoided.Store(time.Now().Add(avoidance).UnixNano())
			s.proxy.Healthcheck()
			return nil, err
		}
		return reply, nil
	}
}
