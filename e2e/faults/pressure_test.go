package faults

import (
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/kubezone/kubezone/e2e/harness"
)

// Many replicas that start while the API server refuses them do not drown it: in the first seconds they make fewer
// requests than stock ones.
func TestRestartedReplicas(t *testing.T) {
	const count, first = 20, 5 * time.Second
	over := span{first, time.Minute}.now()
	restarts := map[string]*restart{}
	for _, name := range []string{"kubezone", "stock"} {
		binary := map[string]string{"kubezone": ours, "stock": stock}[name]
		if _, err := os.Stat(binary); err != nil && name == "stock" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			g := newEmptyRig(t, cluster, "many-"+name, 0)
			r := &restart{}
			for range count {
				p := startProxy(t, cluster)
				p.fail(http.StatusServiceUnavailable)
				kubeconfig, _ := cluster.Kubeconfig(t, p.url, "kube-system", "coredns")
				r.proxies = append(r.proxies, p)
				r.servers = append(r.servers, startServer(t, binary, corefile, "KUBECONFIG="+kubeconfig, "UPSTREAM="+g.resolver))
			}
			r.await(t, over)
			restarts[name] = r
			refused, inAll := r.within(first), r.within(over)
			t.Logf("%s: each of %d replicas made %.1f requests in the first %s that were refused with 503, %.1f in %s; all were ready %.1fs after it ended",
				name, count, refused/count, first, inAll/count, over, r.heal(t).Seconds())
		})
	}
	if restarts["stock"] == nil {
		return
	}
	if refused, most := restarts["kubezone"].within(first), restarts["stock"].within(first); refused > most {
		t.Errorf("%.0f requests in the first %s; want no more than stock's %.0f", refused, first, most)
	}
}

// A restart is that of replicas, each behind a proxy of its own.
type restart struct {
	proxies []*proxy
	servers []*harness.Server
}

// await returns once every replica has been refused for so long.
func (r *restart) await(t *testing.T, refused time.Duration) {
	t.Helper()
	for _, p := range r.proxies {
		harness.Eventually(t, refused+time.Minute, func() error {
			if requests := p.requests(); len(requests) == 0 || time.Since(requests[0]) < refused {
				return fmt.Errorf("%d requests, or for less than %s", len(requests), refused)
			}
			return nil
		})
	}
}

// within is how many requests there were, each replica's counted from its first on.
func (r *restart) within(first time.Duration) float64 {
	n := 0
	for _, p := range r.proxies {
		requests := p.requests()
		for _, at := range requests {
			if at.Sub(requests[0]) < first {
				n++
			}
		}
	}
	return float64(n)
}

// heal has the API server serve, and returns how long it takes until all replicas are ready.
func (r *restart) heal(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	for _, p := range r.proxies {
		p.mend()
	}
	for _, s := range r.servers {
		s.AwaitReady(t)
	}
	return time.Since(began)
}

// What the self-check costs, in requests and octets, on a cluster whose size is known.
func TestSelfCheckCost(t *testing.T) {
	const services, sets = 600, 60
	r := row{id: "selfcheck", options: "selfcheck 3s", oursOnly: true}
	g := newEmptyRig(t, cluster, "selfcheck", 0)
	var writers sync.WaitGroup
	for first := range 4 {
		writers.Go(func() {
			for n := first; n < services; n += 4 {
				g.make(fmt.Sprintf("service-%d", n), "")
			}
			for n := first; n < sets; n += 4 {
				g.headless(fmt.Sprintf("set-%d", n), addresses(100)...)
			}
		})
	}
	writers.Wait()
	s := g.add(ours, r)
	s.server.AwaitReady(t)
	before, events := s.proxy.checkCost(), s.lists(t)
	const rounds = 3
	time.Sleep(rounds * 3 * time.Second)
	after := s.proxy.checkCost()
	held := metrics(t, s.server)
	var objects, pages int
	for _, kind := range kinds {
		n := int(held[fmt.Sprintf("coredns_kubezone_objects{kind=%q}", kind)])
		objects += n
		pages += (n + 499) / 500
	}
	requests, octets := after.requests-before.requests, after.octets-before.octets
	t.Logf("%d objects of %d kinds: %.1f requests and %.0f octets a round, %.0f an object", objects, len(kinds),
		float64(requests)/rounds, float64(octets)/rounds, float64(octets)/rounds/float64(objects))
	if most := (rounds + 1) * pages; requests == 0 || requests > most {
		t.Errorf("%d requests in %d rounds; want 1 to %d", requests, rounds, most)
	}
	if again := s.lists(t); again != events {
		t.Errorf("%g lists although nothing differed", again-events)
	}
}
