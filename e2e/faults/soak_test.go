package faults

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubezone/kubezone/e2e/harness"
)

var soakFor = flag.Duration("soak", 15*time.Second, "how long TestSoak lasts; a slope is judged from half an hour on")

const (
	soakChanges  = 5  // a second, in the cluster
	soakServices = 40 // that come and go
	soakSets     = 20 // headless ones whose endpoints change
)

// A soaking is a sample of what must not grow.
type soaking struct{ heap, goroutines, resident, descriptors float64 }

// TestSoak asks at half of capacity while services come and go and endpoints change, and fails if memory or goroutines
// grow. `make long` runs it for an hour.
func TestSoak(t *testing.T) {
	t.Setenv("GOGC", "100") // so that sample can tell the heap
	g := newEmptyRig(t, cluster, "soak", 0)
	var steady []string
	for n := range 200 {
		name := fmt.Sprintf("steady-%d", n)
		ip := g.make(name, "")
		steady = append(steady, g.question(name), harness.Reverse(ip)+" PTR", g.question(fmt.Sprintf("missing-%d", n)))
	}
	g.headless("kept", addresses(20)...)
	steady = append(steady, g.question("kept"))
	for n := range 20 { // for a heap above the least that the collector lets grow
		var list []string
		for i := range 1000 {
			list = append(list, fmt.Sprintf("10.%d.%d.%d", 140+n, i/250, i%250))
		}
		large := fmt.Sprintf("large-%d", n)
		g.headless(large, list...)
		g.truth.forget(g.question(large)) // a reply holds a part of it
	}
	var sets []*set
	for n := range soakSets {
		sets = append(sets, g.headless(fmt.Sprintf("set-%d", n), addresses(3)...))
	}
	for n := range soakServices {
		g.truth.write(g.question(fmt.Sprintf("churn-%d", n)), "NXDOMAIN", func() {})
	}
	r := row{id: "soak", fault: fmt.Sprintf("none, for %s", *soakFor)}
	s := g.add(ours, r)
	s.server.AwaitReady(t)
	list := askings(t, s.server, steady)
	half := capacity(t, s.server.DNS, list, min(10*time.Second, *soakFor/5)) / 2
	s.open(g, r)
	flood := startLoad(t, s.server.DNS, list, half)
	samples := g.soak(flood, sets, max(time.Second, min(time.Minute, *soakFor/10)))
	g.endFlood([]*load{flood})
	g.finish(r)
	t.Logf("%.0f queries a second; half of capacity is %.0f", float64(flood.asked.Load())/soakFor.Seconds(), half)
	judgeGrowth(t, samples)
}

// addresses are n random ones that are no other's.
func addresses(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("198.18.%d.%d", rand.N(256), i)
	}
	return list
}

// soak changes the cluster until the time is over, and takes a sample at every interval.
func (g *rig) soak(l *load, sets []*set, interval time.Duration) []soaking {
	random := rand.New(rand.NewPCG(7, 11))
	exists := make([]bool, soakServices)
	var samples []soaking
	began := time.Now()
	pace := time.NewTicker(time.Second / soakChanges)
	defer pace.Stop()
	for next := interval; next <= *soakFor; {
		<-pace.C
		if n := random.IntN(soakServices + soakSets); n < soakServices {
			g.toggle(fmt.Sprintf("churn-%d", n), &exists[n])
		} else {
			g.resize(sets[n-soakServices], addresses(1+random.IntN(20)))
		}
		if time.Since(began) >= next {
			s := sample(g.T, g.sides[0].server)
			g.Logf("after %s: heap %.2f MiB, resident %.1f MiB, %.0f goroutines, %.0f descriptors; asked %d, wrong %d, lost %d", next,
				s.heap, s.resident, s.goroutines, s.descriptors, l.asked.Load(), l.wrong.Load(), l.lost.Load())
			samples = append(samples, s)
			next += interval
		}
	}
	return samples
}

// toggle deletes a Service that exists, and creates one that does not.
func (g *rig) toggle(name string, exists *bool) {
	g.Helper()
	*exists = !*exists
	if *exists {
		began := time.Now()
		ip := g.make(name, "")
		g.truth.since(began, g.question(name), "A "+ip)
		return
	}
	g.truth.write(g.question(name), "NXDOMAIN", func() {
		if err := g.cluster.Client.CoreV1().Services(g.namespace).Delete(g.Context(), name, metav1.DeleteOptions{}); err != nil {
			g.Fatal(err)
		}
	})
}

// sample reads the metrics of a server, a few times, as goroutines that answer come and go. With GOGC at 100, the
// collector's goal is twice what it left alive, so half of it is the heap without the garbage of the moment.
func sample(t *testing.T, s *harness.Server) soaking {
	t.Helper()
	values := metrics(t, s)
	for range 9 {
		time.Sleep(20 * time.Millisecond)
		values["go_goroutines"] = min(values["go_goroutines"], metrics(t, s)["go_goroutines"])
	}
	const mib = 1 << 20
	return soaking{
		heap:        values["go_memstats_next_gc_bytes"] / 2 / mib,
		goroutines:  values["go_goroutines"],
		resident:    values["process_resident_memory_bytes"] / mib,
		descriptors: values["process_open_fds"],
	}
}

// judgeGrowth fits lines through the samples but for the first tenth, in which caches and connections fill, and fails if
// they rise. Short runs have too few samples to tell.
func judgeGrowth(t *testing.T, samples []soaking) {
	t.Helper()
	samples = samples[len(samples)/10:]
	for _, of := range []struct {
		name    string
		value   func(soaking) float64
		atLeast float64 // what may be added in any case
	}{
		{"heap (MiB)", func(s soaking) float64 { return s.heap }, 0.5},
		{"resident (MiB)", func(s soaking) float64 { return s.resident }, 4},
		{"goroutines", func(s soaking) float64 { return s.goroutines }, 2},
		{"descriptors", func(s soaking) float64 { return s.descriptors }, 2},
	} {
		mean, growth := fit(samples, of.value)
		t.Logf("%s: mean %.2f, fitted growth over the run %+.3f", of.name, mean, growth)
		if *soakFor >= 30*time.Minute && growth > max(of.atLeast, mean/20) {
			t.Errorf("%s grew by %.2f of %.2f; want it flat", of.name, growth, mean)
		}
	}
}

// fit is the mean of the values, and by how much the line of least squares rises from the first to the last.
func fit(samples []soaking, value func(soaking) float64) (mean, growth float64) {
	n := float64(len(samples))
	for _, s := range samples {
		mean += value(s) / n
	}
	var above, squares float64
	for i, s := range samples {
		x := float64(i) - (n-1)/2
		above += x * (value(s) - mean)
		squares += x * x
	}
	if squares == 0 {
		return mean, 0
	}
	return mean, above / squares * (n - 1)
}
