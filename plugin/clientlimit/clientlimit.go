// Package clientlimit is a CoreDNS plugin that bounds the queries a second of
// each client address, so that one noisy pod does not take the server from the
// others.
package clientlimit

import (
	"context"
	"hash/maphash"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metrics"
	"github.com/coredns/coredns/plugin/pkg/cache"

	"github.com/miekg/dns"
	"golang.org/x/time/rate"
)

// A ClientLimit has a token bucket for each client address, up to a number of
// them: beyond it, a random one is given up for a new one. It is safe for
// concurrent use. Make one with newClientLimit.
type ClientLimit struct {
	Next plugin.Handler
	config

	seed    maphash.Seed // so that nobody can choose addresses that share a bucket
	buckets *cache.Cache[*bucket]
	lines   *rate.Limiter // of the log
}

// A bucket is what is known of a client.
type bucket struct {
	*rate.Limiter
	logged atomic.Int64 // when the log was last told of it, in Unix seconds
}

// The log tells of a client once in quietFor, and of at most so many in a row.
const (
	quietFor     = time.Minute
	mostLines    = 10
	linesRefresh = 6 * time.Second // as many in quietFor
)

func newClientLimit(cfg config) *ClientLimit {
	return &ClientLimit{
		config:  cfg,
		seed:    maphash.MakeSeed(),
		buckets: cache.New[*bucket](cfg.clients),
		lines:   rate.NewLimiter(rate.Every(linesRefresh), mostLines),
	}
}

// Name implements plugin.Handler.
func (l *ClientLimit) Name() string { return directive }

// ServeDNS implements plugin.Handler. A query beyond the limit is answered with
// REFUSED, so that a resolver asks another server or gives up, or not at all.
func (l *ClientLimit) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	client, ok := addrOf(w.RemoteAddr())
	if !ok || l.exempts(client) {
		return plugin.NextOrFailure(l.Name(), l.Next, ctx, w, r)
	}
	b := l.bucket(client)
	if b.Allow() {
		return plugin.NextOrFailure(l.Name(), l.Next, ctx, w, r)
	}
	limited.WithLabelValues(metrics.WithServer(ctx), l.action.String()).Inc()
	l.tell(client, b)
	if l.action == drop {
		return dns.RcodeSuccess, nil // which makes the server write nothing
	}
	return dns.RcodeRefused, nil
}

// addrOf is the client's, without a port. It is false for what has none.
func addrOf(a net.Addr) (netip.Addr, bool) {
	withPort, ok := a.(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return netip.Addr{}, false
	}
	return withPort.AddrPort().Addr().Unmap().WithZone(""), true
}

func (l *ClientLimit) exempts(client netip.Addr) bool {
	return slices.ContainsFunc(l.exempt, func(p netip.Prefix) bool { return p.Contains(client) })
}

// bucket is the client's, a full one if it is new. Of two queries that are the
// first of a client at the same time, one may have a bucket of its own.
func (l *ClientLimit) bucket(client netip.Addr) *bucket {
	key := maphash.Comparable(l.seed, client)
	if b, ok := l.buckets.Get(key); ok {
		return b
	}
	b := &bucket{Limiter: rate.NewLimiter(rate.Limit(l.qps), l.burst)}
	if l.buckets.Add(key, b) {
		evicted.Inc()
	}
	return b
}

// tell logs that a client is limited, unless it did so of late.
func (l *ClientLimit) tell(client netip.Addr, b *bucket) {
	now := time.Now().Unix()
	last := b.logged.Load()
	if now-last < int64(quietFor.Seconds()) || !b.logged.CompareAndSwap(last, now) || !l.lines.Allow() {
		return
	}
	log.Warningf("Client %s goes beyond %d queries a second: %s", client, l.qps, l.action)
}
