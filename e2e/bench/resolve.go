package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/kubezone/kubezone/e2e/bench/population"
)

// A crowd is so many goroutines of a pod that look up one name all the time.
type crowd struct {
	key         string
	concurrency int
}

var crowds = []crowd{{"testdns-200", 200}, {"testdns-1000", 1000}}

// overLimit is what counts as a slow lookup.
const overLimit = 100 * time.Millisecond

// A crowdResult is what testdns printed about a side, in the order of rounds.
type crowdResult struct {
	requests, errors, over int // of all rounds
	perSecond, average     []float64
	most                   float64 // milliseconds
}

// crowd has everybody resolve through a resolv.conf like a pod's, in a network namespace of its own.
func (b *bench) crowd(c crowd) (map[string]*crowdResult, error) {
	p, err := population.New(queryPopulation)
	if err != nil {
		return nil, err
	}
	in, remove, err := b.newNetns()
	if err != nil {
		return nil, err
	}
	defer remove()
	f, err := b.startFeed(queryPopulation, in)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	last := &p.Services[len(p.Services)-1]
	conf := fmt.Sprintf("search %s.svc.cluster.local svc.cluster.local cluster.local\nnameserver 127.0.0.1\noptions ndots:5\n", last.Namespace)
	if err := os.WriteFile(filepath.Join("/etc/netns", in.name, "resolv.conf"), []byte(conf), 0o644); err != nil {
		return nil, err
	}
	results := map[string]*crowdResult{}
	for round := range b.rounds {
		for _, s := range b.sides() {
			if s.binary == "" {
				continue
			}
			if results[s.name] == nil {
				results[s.name] = new(crowdResult)
			}
			if err := b.runCrowd(results[s.name], c, s, f, in, last.Name); err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			b.progress("%4d-way testdns  round %d  %-18s %7.0f lookups/s, avg %.1f ms", c.concurrency, round+1, s.name,
				results[s.name].perSecond[round], results[s.name].average[round])
		}
	}
	return results, nil
}

func (b *bench) runCrowd(r *crowdResult, c crowd, s side, f *feed, in *netns, host string) error {
	srv, err := b.startAt(s, f, in, []string{"53", "9153", "6053"}, "", false)
	if err != nil {
		return err
	}
	defer srv.stop()
	warm := func() error {
		output, err := in.command(b.program("testdns"), "-host", host).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("testdns: %w: %s", err, output)
		}
		return err
	}
	for deadline := time.Now().Add(time.Minute); ; {
		if err = warm(); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return err
		}
	}
	seconds := max(1, int(b.seconds.Seconds()))
	output, err := in.command(b.program("testdns"), "-host", host, "-c", strconv.Itoa(c.concurrency),
		"-d", strconv.Itoa(seconds), "-l", strconv.Itoa(int(overLimit.Milliseconds()))).Output()
	var requests, failed, over int
	var least, most, average float64
	if n, _ := fmt.Sscanf(string(output), "request count: %d\nerror count: %d\nrequest time: min %f ms, max %f ms, avg %f ms\nover the limit: %d\n",
		&requests, &failed, &least, &most, &average, &over); n != 6 {
		return fmt.Errorf("testdns: %w: printed %q", err, output)
	}
	r.requests += requests
	r.errors += failed
	r.over += over
	r.perSecond = append(r.perSecond, float64(requests)/float64(seconds))
	r.average = append(r.average, average)
	r.most = max(r.most, most)
	return nil
}

// newNetns makes a network namespace with a loopback interface and a folder for its /etc.
func (b *bench) newNetns() (*netns, func(), error) {
	n := &netns{fmt.Sprintf("kubezone-bench-%d", os.Getpid())}
	if err := ip("netns", "add", n.name); err != nil {
		return nil, nil, err
	}
	etc := filepath.Join("/etc/netns", n.name)
	remove := func() {
		_ = ip("netns", "delete", n.name)
		_ = os.RemoveAll(etc)
	}
	err := os.MkdirAll(etc, 0o755)
	if err == nil {
		err = ip("-netns", n.name, "link", "set", "lo", "up")
	}
	if err != nil {
		remove()
		return nil, nil, err
	}
	return n, remove, nil
}
