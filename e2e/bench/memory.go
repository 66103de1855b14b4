package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/e2e/bench/population"
)

// A size is a cluster whose cost in memory is measured.
type size struct {
	key, name  string
	population string
	pods       bool // all pods are served, and `pods verified` asks for them
	budgets    memoryBudgets
}

// memoryBudgets are what kubezone may take beside stock; 0 is no budget.
type memoryBudgets struct{ heap, rss, syncPeak, relistPeak float64 }

var sizes = []size{
	{key: "mem-a", name: "(a) 2,000 services, 15,000 endpoints", population: "a"},
	{key: "mem-b", name: "(b) 20,000 services, 240,000 endpoints", population: "b",
		budgets: memoryBudgets{heap: 0.25, rss: 0.4}},
	{key: "mem-c1", name: "(c1) 5,000 services, 150,000 endpoints", population: "c",
		budgets: memoryBudgets{syncPeak: 0.4, relistPeak: 0.4}},
	{key: "mem-c2", name: "(c2) as c1, and 150,000 pods, `pods verified`", population: "c", pods: true},
}

// A memoryResult is what the rounds of a size found out about a side: octets, but for ready, which is in seconds. Each
// list has one element for each round.
type memoryResult struct {
	ready       []float64 // from the start to the right answers
	pulled      []float64 // from the API server until then
	syncPeak    []float64 // RSS
	rss         []float64 // some time after
	relistPeak  []float64 // RSS, the API server restarted with its objects as they were
	rewritePeak []float64 // RSS, every object changed meanwhile
	heap, inUse []float64 // of Go, after a collection at the end
	asked       int       // while the API server restarted
	wrong       int       // of them, with SERVFAIL, NXDOMAIN or no answer
	firstWrong  string
}

// A sizeResult is what was found out about a size, by side.
type sizeResult struct {
	size  size
	sides map[string]*memoryResult
}

func (b *bench) memory() ([]*sizeResult, error) {
	var results []*sizeResult
	for _, z := range sizes {
		if !b.wants(z.key) {
			continue
		}
		result, err := b.runSize(z)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", z.name, err)
		}
		results = append(results, result)
	}
	return results, nil
}

// memoryRounds are fewer than others, as they take a minute and differ by little.
func (b *bench) memoryRounds() int { return min(b.rounds, 2) }

func (b *bench) runSize(z size) (*sizeResult, error) {
	p, err := population.New(z.population)
	if err != nil {
		return nil, err
	}
	var flags []string
	options := ""
	if z.pods {
		flags, options = []string{"-pods"}, "        pods verified\n"
	}
	f, err := b.startFeed(z.population, nil, flags...)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	result := &sizeResult{size: z, sides: map[string]*memoryResult{}}
	for round := range b.memoryRounds() {
		for _, s := range b.clusterSides() {
			m := result.sides[s.name]
			if m == nil {
				m = new(memoryResult)
				result.sides[s.name] = m
			}
			if err := b.runMemory(m, s, f, p, options); err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			const mib = 1 << 20
			b.progress("%-46s round %d  %-16s ready %.1f s, MiB: sync peak %.0f, RSS %.0f, relist peak %.0f, rewrite peak %.0f, heap %.1f; %d of %d wrong",
				z.name, round+1, s.name, m.ready[round], m.syncPeak[round]/mib, m.rss[round]/mib, m.relistPeak[round]/mib,
				m.rewritePeak[round]/mib, m.heap[round]/mib, m.wrong, m.asked)
		}
	}
	return result, nil
}

// restFor is how long a server is left alone before its RSS is read: Go gives memory back little by little.
const restFor = 10 * time.Second

func (b *bench) runMemory(m *memoryResult, s side, f *feed, p *population.Population, options string) error {
	before, err := f.stats()
	if err != nil {
		return err
	}
	started := time.Now()
	srv, err := b.start(s, f, options, true)
	if err != nil {
		return err
	}
	defer srv.stop()
	wanted := lastNames(p)
	if options != "" {
		wanted = append(wanted, lastPod(p))
	}
	if err := srv.awaitReady(wanted); err != nil {
		return err
	}
	m.ready = append(m.ready, time.Since(started).Seconds())
	srv.settle()
	after, err := f.stats()
	if err != nil {
		return err
	}
	m.pulled = append(m.pulled, float64(after.Sent-before.Sent))
	m.syncPeak = append(m.syncPeak, float64(srv.memory("VmHWM")))
	b.heapProfile(srv, "sync")
	time.Sleep(restFor)
	m.rss = append(m.rss, float64(srv.memory("VmRSS")))

	peak, err := m.relist(srv, f, p, false)
	if err != nil {
		return err
	}
	m.relistPeak = append(m.relistPeak, peak)
	if peak, err = m.relist(srv, f, p, true); err != nil {
		return err
	}
	m.rewritePeak = append(m.rewritePeak, peak)

	// The collection is run before the profile is made. The plugin's server breaks off what takes it more than 5 s.
	if err := get(srv.pprof+"/debug/pprof/heap?gc=1", io.Discard); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	page := new(strings.Builder)
	if err := get(srv.metrics+"/metrics", page); err != nil {
		return err
	}
	m.heap = append(m.heap, metric(page.String(), "go_memstats_heap_alloc_bytes"))
	m.inUse = append(m.inUse, metric(page.String(), "go_memstats_heap_inuse_bytes"))
	return nil
}

// relist restarts the API server under the server, which is asked all the while, and returns the peak of its RSS.
func (m *memoryResult) relist(srv *server, f *feed, p *population.Population, rewrite bool) (peak float64, err error) {
	const away = 500 * time.Millisecond
	if err := srv.forgetPeak(); err != nil {
		return 0, err
	}
	before, err := f.stats()
	if err != nil {
		return 0, err
	}
	ctx, stop := context.WithCancel(context.Background())
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		m.askOn(ctx, srv.dns, p)
	}()
	err = f.restart(away, rewrite)
	if err == nil {
		err = f.awaitRelist(before)
	}
	if err == nil {
		time.Sleep(restFor / 2) // the queries go on
	}
	stop()
	<-asked
	srv.settle()
	return float64(srv.memory("VmHWM")), err
}

// awaitRelist waits until all kinds that the server follows have been listed once more, and sent.
func (f *feed) awaitRelist(before stats) error {
	const (
		within = 2 * time.Minute // reflectors wait up to 30 s between two attempts
		quiet  = time.Second     // in which nothing is sent any more
	)
	var sent int64
	lastSent := time.Now()
	for deadline := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		now, err := f.stats()
		if err != nil {
			return err
		}
		if now.Sent != sent {
			sent, lastSent = now.Sent, time.Now()
		}
		listed := true
		for _, resource := range []string{"services", "endpointslices", "pods"} {
			listed = listed && (before.lists(resource) == 0 || now.lists(resource) > before.lists(resource))
		}
		if listed && time.Since(lastSent) > quiet {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no new list within %v: %v", within, now.Requests)
		}
	}
}

// askOn asks for names that exist, and for one type that does not, until ctx is done.
func (m *memoryResult) askOn(ctx context.Context, server string, p *population.Population) {
	const pause = 5 * time.Millisecond
	random := rand.New(rand.NewPCG(3, 4))
	pod, _ := p.Find(population.Headless5000)
	for n := 0; ctx.Err() == nil; n++ {
		s := anyClusterIP(p, random)
		e := pod.First + random.IntN(pod.Count)
		q := []question{
			{s.FQDN(), dns.TypeA, dns.RcodeSuccess},
			{s.FQDN(), dns.TypeAAAA, dns.RcodeSuccess},
			{pod.EndpointFQDN(e, population.Addr(e)), dns.TypeA, dns.RcodeSuccess},
			{population.ReverseName(s.ClusterIP), dns.TypePTR, dns.RcodeSuccess},
		}[n%4]
		m.asked++
		rcode, err := ask(server, q)
		if err == nil && rcode != q.rcode {
			err = fmt.Errorf("%s", dns.RcodeToString[rcode])
		}
		if err != nil {
			m.wrong++
			if m.firstWrong == "" {
				m.firstWrong = fmt.Sprintf("%s %s: %v", q.name, dns.TypeToString[q.qtype], err)
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

func get(url string, to io.Writer) error {
	response, err := http.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	_, err = io.Copy(to, response.Body)
	return err
}

// metric is the value of a metric without labels.
func metric(page, name string) float64 {
	for lines := bufio.NewScanner(strings.NewReader(page)); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			v, err := strconv.ParseFloat(value, 64)
			if err == nil {
				return v
			}
		}
	}
	return 0
}
