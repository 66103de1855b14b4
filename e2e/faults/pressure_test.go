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

// Many replicas that start while the API server refuses them do not drown it: the requests of 20 are counted, and what
// it takes until all are ready once it serves again.
func TestRestartedReplicas(t *testing.T) {
	const count = 20
	for _, binary := range []string{ours, stock} {
		if _, err := os.Stat(binary); err != nil {
			continue
		}
		name := map[string]string{ours: "kubezone", stock: "stock"}[binary]
		t.Run(name, func(t *testing.T) {
			p := startProxy(t, cluster)
			p.fail(http.StatusServiceUnavailable)
			g := newEmptyRig(t, cluster, "many-"+name, 0)
			kubeconfig, _ := cluster.Kubeconfig(t, p.url, "kube-system", "coredns")
			var servers []*harness.Server
			for range count {
				servers = append(servers, startServer(t, binary, corefile, "KUBECONFIG="+kubeconfig, "UPSTREAM="+g.resolver))
			}
			started := p.requests()
			over := span{5 * time.Second, time.Minute}.now()
			time.Sleep(over)
			refused := p.requests() - started
			before, began := p.requests(), time.Now()
			p.mend()
			var waiting sync.WaitGroup
			for _, s := range servers {
				waiting.Go(func() {
					err := harness.Poll(time.Minute, func() error {
						status, _, err := s.Get(s.Ready + "/ready")
						if err == nil && status != http.StatusOK {
							err = fmt.Errorf("ready: %d", status)
						}
						return err
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			waiting.Wait()
			t.Logf("%s: %d replicas made %d requests while they started and %d in the %s after that, refused with 503; %d more until all were ready, %.1fs after it ended",
				name, count, started, refused, over, p.requests()-before, time.Since(began).Seconds())
			// Attempts for one kind come closer at first: nine in the first 5 s; then one in 4 to 5 s.
			const first, pause = 12, 4 * time.Second
			if most := count * (len(kinds) + 1) * (first + int(over/pause)); binary == ours && refused > most {
				t.Errorf("%d requests in %s; want at most %d", refused, over, most)
			}
		})
	}
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
