package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/e2e/bench/population"
)

// A churnResult is what was found out about a side while slices changed.
type churnResult struct {
	programming sample  // from when a change was sent until an answer showed it
	calm, busy  sample  // answers to queries for other names, before and meanwhile
	control     sample  // the same meanwhile, of a second server that follows a cluster in which nothing changes
	cpu         float64 // of the server meanwhile, in parts of one CPU
}

// A churn is a way to change slices.
type churn struct {
	key, name  string
	population string
	service    string // "" for all headless ones
	rate       int    // slice updates a second
	rounds     int
	duration   time.Duration // of one round
	within     time.Duration // that every change must be visible; 0 for no limit
	patience   time.Duration // that a change is looked for
	control    bool          // a second server is measured whose cluster is at rest
}

func (b *bench) churns() []churn {
	return []churn{
		{key: "programming", name: "200 slice updates a second", population: queryPopulation, rate: 200,
			rounds: b.rounds, duration: b.churnFor, patience: answerWithin},
		{key: "churn", name: "a service of 20,000 endpoints in slices of 20, 1,000 slice updates a second", population: "churn",
			service: population.Huge, rate: 1000,
			rounds: 1, duration: b.hugeChurnFor, within: time.Second, patience: answerWithin, control: true},
	}
}

// otherRate is how often other names are asked for meanwhile.
const otherRate = 500 // queries a second

// add takes in a later round. The CPU is that of all rounds, of which these are so many before.
func (r *churnResult) add(o *churnResult, before int) {
	r.programming.add(o.programming)
	r.calm.add(o.calm)
	r.busy.add(o.busy)
	r.control.add(o.control)
	r.cpu += (o.cpu - r.cpu) / float64(before+1)
}

// churn measures the sides, which take turns.
func (b *bench) churn(c churn) (map[string]*churnResult, error) {
	results := make(map[string]*churnResult)
	for _, s := range b.clusterSides() {
		results[s.name] = new(churnResult)
	}
	for round := range c.rounds {
		for _, s := range b.clusterSides() {
			found, err := b.runChurn(c, s)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", c.name, s.name, err)
			}
			results[s.name].add(found, round)
			b.progress("%s  round %d  %-18s %s ms", c.name, round+1, s.name, quantiles(&found.programming))
		}
	}
	return results, nil
}

// runChurn measures one side, once.
func (b *bench) runChurn(c churn, s side) (*churnResult, error) {
	p, err := population.New(c.population)
	if err != nil {
		return nil, err
	}
	f, err := b.startFeed(c.population, nil)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	srv, err := b.start(s, f, "", b.profiles != "")
	if err != nil {
		return nil, err
	}
	defer srv.stop()
	if err := srv.awaitReady(lastNames(p)); err != nil {
		return nil, err
	}
	srv.settle()
	var control *server
	if c.control {
		var stopControl func()
		if control, stopControl, err = b.startControl(c, s, p); err != nil {
			return nil, err
		}
		defer stopControl()
	}
	messages, err := otherNames(p)
	if err != nil {
		return nil, err
	}
	result := new(churnResult)
	if result.calm, err = askUDP(srv.dns, messages, dns.RcodeSuccess, otherRate, c.duration/3); err != nil {
		return nil, err
	}
	var others sync.WaitGroup
	var othersErr, controlErr error
	others.Go(func() {
		result.busy, othersErr = askUDP(srv.dns, messages, dns.RcodeSuccess, otherRate, c.duration)
	})
	if control != nil {
		ownMessages := cloned(messages) // askUDP writes into them
		others.Go(func() {
			result.control, controlErr = askUDP(control.dns, ownMessages, dns.RcodeSuccess, otherRate, c.duration)
		})
	}
	stop := b.profile(srv, c.key, 0)
	started, before := time.Now(), srv.cpu()
	prober := newProber(srv.dns, c.patience)
	err = f.churn(c.rate, c.duration, c.service, prober.probe)
	result.cpu = (srv.cpu() - before).Seconds() / time.Since(started).Seconds()
	stop()
	others.Wait()
	result.programming = prober.wait()
	if err == nil {
		err = errors.Join(othersErr, controlErr)
	}
	// Who reads the watch too slowly is not even sent all changes.
	result.programming.lost = c.rate*int(c.duration.Seconds()) - len(result.programming.took)
	return result, err
}

// startControl starts a second server of the side, beside which nothing changes: what its clients see meanwhile is the
// machine's noise.
func (b *bench) startControl(c churn, s side, p *population.Population) (control *server, stop func(), err error) {
	f, err := b.startFeed(c.population, nil)
	if err != nil {
		return nil, nil, err
	}
	if control, err = b.start(s, f, "", false); err != nil {
		f.stop()
		return nil, nil, err
	}
	stop = func() {
		control.stop()
		f.stop()
	}
	if err := control.awaitReady(lastNames(p)); err != nil {
		stop()
		return nil, nil, err
	}
	control.settle()
	return control, stop, nil
}

func cloned(messages [][]byte) [][]byte {
	list := make([][]byte, len(messages))
	for i, m := range messages {
		list[i] = slices.Clone(m)
	}
	return list
}

// otherNames are questions for names that no churn changes.
func otherNames(p *population.Population) ([][]byte, error) {
	random := rand.New(rand.NewPCG(5, 6))
	var list [][]byte
	for range questionsPerRow {
		m, err := new(dns.Msg).SetQuestion(clusterIP(p, random), dns.TypeA).Pack()
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// A prober finds out when an answer shows a change.
type prober struct {
	server  string
	within  time.Duration // that a change must be seen; it is lost otherwise
	changes chan change
	running sync.WaitGroup

	mu    sync.Mutex // guards found
	found sample
}

func newProber(server string, within time.Duration) *prober {
	const probers = 256 // each waits for one change at a time: at 1,000 a second, enough for 256 ms
	p := &prober{server: server, within: within, changes: make(chan change, 1<<16)}
	for range probers {
		p.running.Go(p.run)
	}
	return p
}

// probe has a change looked for.
func (p *prober) probe(c change) { p.changes <- c }

// wait returns what was found once every change was seen, or given up.
func (p *prober) wait() sample {
	close(p.changes)
	p.running.Wait()
	return p.found
}

func (p *prober) run() {
	conn, err := dns.Dial("udp", p.server)
	if err != nil {
		return // none is seen, so all are lost
	}
	defer conn.Close()
	for c := range p.changes {
		took, ok := seen(conn, c, p.within)
		p.mu.Lock()
		if ok {
			p.found.took = append(p.found.took, took)
		} else {
			p.found.lost++
		}
		p.mu.Unlock()
	}
}

// seen asks until the answer has the new address, and tells how long after the change was sent that was. The pauses grow
// with the time that has gone by, so that the answer is exact to a quarter and a slow server is not asked to death.
func seen(conn *dns.Conn, c change, within time.Duration) (time.Duration, bool) {
	addr, err := netip.ParseAddr(c.Addr)
	if err != nil {
		return 0, false
	}
	for sent := time.Unix(0, c.Sent); time.Since(sent) < within; time.Sleep(max(200*time.Microsecond, time.Since(sent)/4)) {
		if err := conn.SetDeadline(time.Now().Add(answerWithin)); err != nil {
			return 0, false
		}
		q := new(dns.Msg).SetQuestion(c.Name, dns.TypeA)
		if err := conn.WriteMsg(q); err != nil {
			return 0, false
		}
		reply, err := conn.ReadMsg()
		if err != nil || reply.Id != q.Id {
			continue
		}
		for _, rr := range reply.Answer {
			if a, ok := rr.(*dns.A); ok && addr == netip.AddrFrom4([4]byte(a.A.To4())) {
				return time.Since(sent), true
			}
		}
	}
	return 0, false
}
