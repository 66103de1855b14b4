package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/e2e/bench/population"
)

// The rate of the latency rounds is a part of what the slowest side of CoreDNS can do, which leaves it far from
// saturation, and no more than the machine's timers and the client can do well.
const (
	partOfSlowest = 0.3
	mostRate      = 5000 // queries a second
)

// A queryResult is what all rounds of a row found out about a side. Each list has one element for each round.
type queryResult struct {
	cpu     []float64 // microseconds a query, while as much is asked as is answered
	rate    []float64 // queries a second then
	slowCPU []float64 // microseconds a query at the fixed rate
	latency sample    // of all rounds at the fixed rate
	wrong   int       // replies with another rcode than the right one
}

// A rowResult is what was found out about a row, by side.
type rowResult struct {
	row   row
	rate  float64 // fixed
	sides map[string]*queryResult
}

// queries runs the rows: in each round every side gets the same questions, one side after the other.
func (b *bench) queries() ([]*rowResult, error) {
	p, err := population.New(queryPopulation)
	if err != nil {
		return nil, err
	}
	f, err := b.startFeed(queryPopulation, nil)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	var servers []*server
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	for _, s := range b.sides() {
		srv, err := b.start(s, f, "", b.profiles != "")
		if err != nil {
			return nil, err
		}
		servers = append(servers, srv)
		if err := srv.awaitReady(lastNames(p)); err != nil {
			return nil, err
		}
	}
	for _, s := range servers {
		s.settle()
	}
	var results []*rowResult
	for _, r := range rows {
		if !b.wants(r.key) {
			continue
		}
		result := &rowResult{row: r, sides: map[string]*queryResult{}}
		able := slices.DeleteFunc(slices.Clone(servers), func(s *server) bool { return s.side.name == r.cannot })
		for _, s := range able {
			result.sides[s.side.name] = new(queryResult)
		}
		if err := b.runRow(result, able, p); err != nil {
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
		results = append(results, result)
	}
	return results, nil
}

func (b *bench) runRow(result *rowResult, servers []*server, p *population.Population) error {
	r := &result.row
	path, err := r.writeQuestions(p, b.dir)
	if err != nil {
		return err
	}
	messages, err := r.messages(p)
	if err != nil {
		return err
	}
	ask := askUDP
	flooded := func(s *server) (flood, error) { return dnsperf(s.dns, path, b.seconds) }
	if r.network == "tcp" {
		ask = askTCP
		flooded = func(s *server) (flood, error) { return floodTCP(s.dns, messages, r.rcode, b.seconds) }
	}
	for round := range b.rounds {
		for _, s := range servers {
			stop := b.profile(s, r.key, round)
			before := s.cpu()
			f, err := flooded(s)
			used := s.cpu() - before
			stop()
			if err != nil {
				return err
			}
			if f.answered == 0 {
				return fmt.Errorf("%s answers nothing", s.side.name)
			}
			q := result.sides[s.side.name]
			q.cpu = append(q.cpu, microseconds(used)/float64(f.answered))
			q.rate = append(q.rate, f.rate)
			q.wrong += f.answered - f.rcodes[dns.RcodeToString[r.rcode]]
			b.progress("%-36s round %d  %-18s %8.1f us  %7.0f q/s", r.name, round+1, s.side.name, q.cpu[round], f.rate)
		}
		if result.rate == 0 {
			result.rate = mostRate
			for _, s := range servers {
				if s.side.binary != "" {
					result.rate = min(result.rate, partOfSlowest*result.sides[s.side.name].rate[0])
				}
			}
		}
		for _, s := range servers {
			before := s.cpu()
			found, err := ask(s.dns, messages, r.rcode, result.rate, b.seconds)
			used := s.cpu() - before
			if err != nil {
				return fmt.Errorf("%s: %w", s.side.name, err)
			}
			q := result.sides[s.side.name]
			q.slowCPU = append(q.slowCPU, microseconds(used)/float64(max(1, len(found.took))))
			q.latency.add(found)
			q.wrong += found.wrong
		}
	}
	return nil
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// lastNames are those of the last objects of a population: who knows them knows all.
func lastNames(p *population.Population) []question {
	last := &p.Services[len(p.Services)-1]
	list := []question{
		{last.FQDN(), dns.TypeA, dns.RcodeSuccess},
		{population.ReverseName(population.Addr(p.Pods - 1)), dns.TypePTR, dns.RcodeSuccess},
	}
	if s, _ := p.Find(population.Headless5000); s != nil {
		e := s.First + s.Count - 1
		list = append(list, question{s.EndpointFQDN(e, population.Addr(e)), dns.TypeA, dns.RcodeSuccess})
	}
	return list
}

// lastPod is the name of the last pod, which needs `pods verified`.
func lastPod(p *population.Population) question {
	last := &p.Services[len(p.Services)-1]
	label := strings.ReplaceAll(population.Addr(p.Pods-1).String(), ".", "-")
	return question{label + "." + last.Namespace + ".pod." + population.Domain, dns.TypeA, dns.RcodeSuccess}
}

// awaitReady waits until the server answers all these questions right.
func (s *server) awaitReady(wanted []question) error {
	const (
		within = 2 * time.Minute
		pause  = 5 * time.Millisecond
	)
	for deadline := time.Now().Add(within); len(wanted) > 0; {
		if rcode, err := ask(s.dns, wanted[0]); err == nil && rcode == wanted[0].rcode {
			wanted = wanted[1:]
			continue
		}
		select {
		case <-s.done:
			return fmt.Errorf("%s ended: %s", s.side.name, s.output())
		case <-time.After(pause):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s has no answer to %v: %s", s.side.name, wanted[0], s.output())
		}
	}
	return nil
}

// A question is one with its right outcome.
type question struct {
	name  string
	qtype uint16
	rcode int
}

// ask asks once, over UDP.
func ask(server string, q question) (rcode int, err error) {
	client := dns.Client{Timeout: time.Second}
	reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(q.name, q.qtype), server)
	if err != nil {
		return 0, err
	}
	return reply.Rcode, nil
}
