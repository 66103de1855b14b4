package differential

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/e2e/harness"
)

const (
	changesPerState = 30
	firstChanges    = 300 // fill the empty cluster
	workers         = 8   // of which some wait for a reply that stock does not send
	enoughFailures  = 25
)

// TestDifferential asks both servers the same about one cluster.
func TestDifferential(t *testing.T) {
	programs := controlplane(t)
	cluster := startCluster(t, programs)
	kubeconfig, _ := cluster.Kubeconfig(t, "", "kube-system", "coredns")
	dir := t.TempDir()
	for name, text := range files {
		harness.WriteFile(t, dir+"/"+name, text)
	}
	environment := []string{"KUBECONFIG=" + kubeconfig, "FILES=" + dir}
	ours := harness.StartServer(t, corefile(), environment...)
	t.Setenv("KUBEZONE_BIN", programs+"/coredns-stock")
	stock := harness.StartServer(t, corefile(), environment...)

	g := &gardener{cluster: cluster, random: rand.New(rand.NewPCG(*seed, 0))}
	g.read(t)
	r := &run{fired: make([]int, len(differences)), failures: map[string]string{}}
	started, changes := time.Now(), firstChanges
	for r.asked < *queries && len(r.failures) < enoughFailures {
		g.change(t, changes)
		changes = changesPerState
		g.awaitBoth(t, ours, stock)
		r.askAll(t, g, ours, stock, min(*perState, *queries-r.asked))
	}
	t.Logf("seed %d: %d queries over %d states of the cluster in %.0fs, %d equal as they are",
		*seed, r.asked, g.generation, time.Since(started).Seconds(), r.equal)
	for i, d := range differences {
		t.Logf("%7d  %s", r.fired[i], d.id)
	}
	const enough = 100_000 // queries in which every difference comes up
	for i, d := range differences {
		if r.fired[i] == 0 && r.asked >= enough {
			t.Errorf("difference %s never came up", d.id)
		}
	}
	for _, failure := range r.failures {
		t.Error(failure)
	}
}

// A run counts.
type run struct {
	asked int

	mu       sync.Mutex // guards the rest
	equal    int
	fired    []int             // by difference
	failures map[string]string // the first of each kind
}

// askAll asks a number of questions about one state, of all blocks.
func (r *run) askAll(t *testing.T, g *gardener, ours, stock *harness.Server, count int) {
	t.Helper()
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() {
			random := rand.New(rand.NewPCG(*seed, uint64(g.generation*workers+w+1)))
			for i, b := range blocks {
				n := count*(i+1)/len(blocks) - count*i/len(blocks)
				r.askBlock(newCurious(random, view{g.world, b}), b.at(ours), b.at(stock), g.generation, n*(w+1)/workers-n*w/workers)
			}
		})
	}
	running.Wait()
	r.asked += count
}

func (r *run) askBlock(c *curious, ours, stock string, generation, count int) {
	a, b := newClient(ours), newClient(stock)
	defer a.close()
	defer b.close()
	for range count {
		q := c.ask()
		fired, err := compare(c.view, q, a, b)
		r.note(c.view.block, q, generation, fired, err)
	}
}

func (r *run) note(b *block, q question, generation int, fired []int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, i := range fired {
		r.fired[i]++
	}
	if err == nil {
		if len(fired) == 0 {
			r.equal++
		}
		return
	}
	kind, _, _ := strings.Cut(err.Error(), "Z:") // the first lines: what stock said, in short
	kind += fmt.Sprint(fired, dns.CountLabel(q.name()))
	if _, known := r.failures[kind]; !known && len(r.failures) < enoughFailures {
		var ids []string
		for _, i := range fired {
			ids = append(ids, differences[i].id)
		}
		r.failures[kind] = fmt.Sprintf("state %d, block %q (%s)\n%s\nafter %v:\n%v", generation, b.name, strings.Join(b.options, "; "), q, ids, err)
	}
}

// compare asks both, and explains what differs by the table.
func compare(v view, q question, ours, stock *client) (fired []int, err error) {
	c := &comparison{cluster: v, block: v.block, question: q, meaning: v.meaningOf(q.name())}
	c.view = v.of(c.meaning)
	c.exists, c.records = c.view.exists(c.meaning)
	mine, ourErr := ours.exchange(q)
	theirs, err := stock.exchange(q)
	if ourErr == errSilent && c.meaning.form != elsewhere {
		mine, ourErr = ours.insist(q)
	}
	if err == errSilent && c.meaning.form != elsewhere && !strings.HasSuffix(c.meaning.zone, ".arpa.") {
		theirs, err = stock.insist(q)
	}
	switch {
	case ourErr == errSilent && err == errSilent && c.meaning.form == elsewhere:
		return nil, nil // another plugin's way
	case ourErr != nil:
		return nil, fmt.Errorf("ours: %w", ourErr)
	case err != nil && err != errSilent:
		return nil, fmt.Errorf("stock: %w", err)
	}
	if mine.size > c.cap() && c.meaning.form != elsewhere {
		return nil, fmt.Errorf("ours: a reply of %d octets; want at most %d", mine.size, c.cap())
	}
	c.ours, c.stock, c.silent = mine.Msg, theirs.Msg, theirs.Msg == nil
	if c.silent {
		c.stock = new(dns.Msg)
	}
	full := max(mine.size, theirs.size) > c.cap()/2 // our guess at what fits is a careful one
	if q.network == "udp" && theirs.Msg != nil && (mine.Truncated || theirs.Truncated || full) {
		return compareTruncated(v, q, ours, stock, mine, theirs)
	}
	c.ask = func(name string, qtype uint16) (*dns.Msg, error) {
		other := question{message: q.message.Copy(), network: q.network}
		other.message.Question[0].Name, other.message.Question[0].Qtype = name, qtype
		r, err := ours.exchange(other)
		return r.Msg, err
	}
	return c.explain()
}

// compareTruncated compares over TCP, and the truncated replies with that.
func compareTruncated(v view, q question, ours, stock *client, mine, theirs reply) (fired []int, err error) {
	q.network = "tcp"
	if fired, err = compare(v, q, ours, stock); err != nil {
		return fired, err
	}
	full, err := ours.exchange(q)
	if err != nil {
		return fired, err
	}
	if theirs.Truncated && !mine.Truncated && len(theirs.Answer) == len(full.Answer) {
		fired = append(fired, slices.IndexFunc(differences, func(d difference) bool { return d.id == truncation }))
	}
	cut := len(mine.Answer) != len(full.Answer)
	another := fromNext(full.Msg) // plugin's, which says TC where its authority section is cut
	aliased := slices.ContainsFunc(mine.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeCNAME })
	switch {
	case cut && !mine.Truncated, mine.Truncated && !cut && !aliased && !another:
		return fired, fmt.Errorf("TC is %t for %d of %d records over UDP:\n%v", mine.Truncated, len(mine.Answer), len(full.Answer), mine)
	case !slices.ContainsFunc(mine.Answer, func(rr dns.RR) bool { return !contains(full.Answer, rr) }):
		return fired, nil
	}
	return fired, fmt.Errorf("over UDP %v\nis no part of what TCP has, %v", mine, full)
}

func contains(rrs []dns.RR, rr dns.RR) bool {
	return slices.ContainsFunc(rrs, func(other dns.RR) bool {
		a, one := rr.(*dns.SRV)
		b, two := other.(*dns.SRV)
		if one && two { // the weights depend on how many there are
			return a.Port == b.Port && a.Target == b.Target
		}
		return dns.IsDuplicate(rr, other)
	})
}
