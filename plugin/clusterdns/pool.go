package clusterdns

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/plugin/internal/kube"
)

// How often the name of a headless Service is looked up: as often as its TTL
// usually allows.
const lookupInterval = 5 * time.Second

// Where servers are known from, in the order in which they are preferred.
const (
	fromSlices = iota
	fromHeadless
	fromCorefile
	sources
)

var sourceNames = [sources]string{"endpointslices", "headless", "to"}

// A pool holds the servers that are known. Queries read it without a lock.
type pool struct {
	cfg    config
	all    atomic.Pointer[[]*server]
	follow *kube.Endpoints // nil without an API server
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu    sync.Mutex // guards what follows
	known [sources][]netip.AddrPort
}

// newPool makes a pool that knows the servers of the Corefile.
func newPool(cfg config) *pool {
	p := &pool{cfg: cfg}
	p.all.Store(new([]*server))
	p.learn(fromCorefile, cfg.to)
	return p
}

// start begins to find other servers.
func (p *pool) start() (err error) {
	cfg := p.cfg
	p.follow, err = kube.FollowEndpoints(cfg.kube(), cfg.namespace, cfg.service, func(found []netip.AddrPort) { p.learn(fromSlices, found) })
	if err != nil && (len(cfg.to) == 0 || cfg.kubeconfig != "") {
		return fmt.Errorf("%w; or name servers with to ADDRESS", err)
	}
	if err != nil {
		log.Infof("The endpoints of %s/%s cannot be followed: %v", cfg.namespace, cfg.service, err)
	}
	if cfg.headless != "" {
		ctx, cancel := context.WithCancel(context.Background())
		p.cancel = cancel
		p.work.Go(func() { p.lookUp(ctx) })
	}
	return nil
}

func (p *pool) close() {
	if p.follow != nil {
		p.follow.Close()
	}
	if p.cancel != nil {
		p.cancel()
	}
	p.work.Wait()
	for _, s := range p.servers() {
		s.stop()
	}
}

// servers are those to be asked.
func (p *pool) servers() []*server { return *p.all.Load() }

// endpoints are the servers themselves, and none that only leads to some.
func (p *pool) endpoints() []netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, found := range p.known[:fromCorefile] {
		if len(found) > 0 {
			return slices.Clone(found)
		}
	}
	return nil
}

// learn takes note of what a source knows. The first source that knows servers
// counts; one that knows none any more leaves it to the next.
func (p *pool) learn(source int, found []netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known[source] = found
	best := fromSlices
	for best < fromCorefile && len(p.known[best]) == 0 {
		best++
	}
	p.use(p.known[best])
	for source, name := range sourceNames {
		n := 0
		if source == best {
			n = len(p.known[best])
		}
		servers.WithLabelValues(p.cfg.zones[0], name).Set(float64(n))
	}
}

// use makes a set of addresses the servers. One that was there keeps its
// connections.
func (p *pool) use(addresses []netip.AddrPort) {
	before := p.servers()
	var now []*server
	for _, a := range addresses {
		i := slices.IndexFunc(before, func(s *server) bool { return s.address == a })
		if i < 0 {
			now = append(now, newServer(a))
		} else {
			now = append(now, before[i])
		}
	}
	p.all.Store(&now)
	for _, s := range before {
		if !slices.Contains(now, s) {
			s.stop()
		}
	}
}

// choose returns the server to ask next, nil if all have been. Of two at random
// it takes the one that is less busy, among those that are well if there are any.
func (p *pool) choose(tried []*server) *server {
	var well, other []*server
	for _, s := range p.servers() {
		switch {
		case slices.Contains(tried, s):
		case s.well():
			well = append(well, s)
		default:
			other = append(other, s)
		}
	}
	if len(well) == 0 {
		well = other
	}
	if len(well) == 0 {
		return nil
	}
	a, b := well[rand.IntN(len(well))], well[rand.IntN(len(well))]
	if b.asking.Load() < a.asking.Load() {
		return b
	}
	return a
}

// lookUp finds the servers by the name of a headless Service until ctx is done.
func (p *pool) lookUp(ctx context.Context) {
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
			if found := p.resolve(ctx); len(found) > 0 {
				p.learn(fromHeadless, found)
			}
			next.Reset(lookupInterval)
		}
	}
}

// resolve asks the servers of the Corefile for the headless Service. With no
// answer, what was known last counts.
func (p *pool) resolve(ctx context.Context) []netip.AddrPort {
	var found []netip.AddrPort
	client := dns.Client{Net: "tcp", Timeout: silence}
	for _, to := range p.cfg.to {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			reply, _, err := client.ExchangeContext(ctx, new(dns.Msg).SetQuestion(p.cfg.headless, qtype), to.String())
			if err != nil {
				continue
			}
			for _, rr := range reply.Answer {
				if a, ok := addressOf(rr); ok {
					found = append(found, netip.AddrPortFrom(a, dnsPort))
				}
			}
		}
		if len(found) > 0 {
			break
		}
	}
	slices.SortFunc(found, netip.AddrPort.Compare)
	return slices.Compact(found)
}

func addressOf(rr dns.RR) (netip.Addr, bool) {
	switch rr := rr.(type) {
	case *dns.A:
		a, ok := netip.AddrFromSlice(rr.A)
		return a.Unmap(), ok
	case *dns.AAAA:
		return netip.AddrFromSlice(rr.AAAA)
	}
	return netip.Addr{}, false
}
