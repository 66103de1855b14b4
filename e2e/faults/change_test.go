package faults

import (
	"fmt"
	"slices"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubezone/kubezone/e2e/harness"
)

// A set is a headless Service with one slice that changes.
type set struct {
	name  string
	slice *discoveryv1.EndpointSlice // as the API server last had it
}

// resize gives the set other endpoints.
func (g *rig) resize(s *set, addresses []string) {
	g.Helper()
	s.slice.Endpoints = endpoints(addresses)
	g.truth.write(g.question(s.name), harness.Records("A", addresses...), func() {
		var err error
		s.slice, err = g.cluster.Client.DiscoveryV1().EndpointSlices(g.namespace).Update(g.Context(), s.slice, metav1.UpdateOptions{})
		if err != nil {
			g.Error(err)
		}
	})
}

func endpoints(addresses []string) []discoveryv1.Endpoint {
	var list []discoveryv1.Endpoint
	for _, address := range addresses {
		list = append(list, discoveryv1.Endpoint{Addresses: []string{address}})
	}
	return list
}

// flap changes slices as fast as the API server takes it, from several connections, while the client asks for them and
// for what stays. The names that stay must be answered as quickly as before.
func (g *rig) flap() {
	const sets = 8
	calm := g.ours().client.waits()
	began := time.Now()
	var writers sync.WaitGroup
	var changes [sets]int
	for n := range sets {
		name := fmt.Sprintf("flap-%d", n)
		s := g.headless(name, fmt.Sprintf("198.18.%d.1", n))
		writers.Go(func() {
			for turn := 0; time.Since(began) < (span{5 * time.Second, time.Minute}).now(); turn++ {
				var addresses []string
				for i := range 10 {
					addresses = append(addresses, fmt.Sprintf("198.18.%d.%d", n, 1+(turn+i)%250))
				}
				g.resize(s, addresses)
				changes[n]++
			}
		})
	}
	writers.Wait()
	took := time.Since(began)
	busy := g.ours().client.waits()
	total := 0
	for _, n := range changes {
		total += n
	}
	g.Logf("%.0f changes of slices a second; 99%% of replies within %.1f ms, %.1f ms before", float64(total)/took.Seconds(),
		percentile(busy[len(calm):], 99).Seconds()*1e3, percentile(calm, 99).Seconds()*1e3)
	g.converge(time.Second)
}

// waits is how long each reply took so far.
func (c *client) waits() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.took)
}

func percentile(list []time.Duration, percent int) time.Duration {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[(len(sorted)-1)*percent/100]
}
