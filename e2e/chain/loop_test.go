package chain

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/e2e/harness"
)

// looping has a way back from every ExternalName of testdata/loops.yaml to itself. The block on the port {$HEALTH} is the
// other end of a loop over the network.
const looping = `.:{$DNS} {
	errors
	ready :{$READY}
	prometheus :{$METRICS}
	rewrite stop {
		name exact rewritten.example.net rewritten.loop.svc.cluster.local
	}
	template ANY ANY template.example.net {
		answer "template.example.net. 60 IN CNAME template.loop.svc.cluster.local."
	}
	kubernetes cluster.local other.example {
		manifests {$DATA}/loops.yaml
	}
	forward example.com 127.0.0.1:{$HEALTH}
}
second.example:{$DNS} {
	rewrite stop {
		name exact block.loop.svc.second.example block.loop.svc.cluster.local
	}
	kubernetes {
		manifests {$DATA}/loops.yaml
	}
}
.:{$HEALTH} {
	rewrite stop {
		name exact network.example.com network.loop.svc.cluster.local
	}
	forward . 127.0.0.1:{$DNS}
}
`

// Every loop within the process ends in SERVFAIL, quickly, with each alias once.
func TestLoopsOfExternalNames(t *testing.T) {
	t.Parallel()
	s := serve(t, looping)
	memory := residentMemory(t, s)
	for _, name := range []string{"self", "a", "b", "zones", "back", "rewritten", "template", "block"} {
		for _, qtype := range []string{"A", "AAAA", "MX", "SRV", "HTTPS"} {
			for _, network := range []string{"udp", "tcp"} {
				checkLoop(t, s, name+".loop.svc.cluster.local. "+qtype, network, time.Second)
			}
		}
	}
	const many = 500
	for range many {
		checkLoop(t, s, "a.loop.svc.cluster.local. A", "udp", time.Second)
	}
	if grown := residentMemory(t, s) - memory; grown > 64<<20 {
		t.Errorf("%d MiB more memory after %d loops", grown>>20, many)
	}
	s.Expect(t, "web.loop.svc.cluster.local. A", "A 10.96.0.10")
}

// A loop over the network begins anew with every turn. It ends within the time that forward gives a query, with many at
// once, and leaves the server as it was.
func TestLoopOverTheNetwork(t *testing.T) {
	t.Parallel()
	s := serve(t, looping)
	memory := residentMemory(t, s)
	var running sync.WaitGroup
	for range 20 {
		running.Go(func() {
			started := time.Now()
			client := &dns.Client{Timeout: 15 * time.Second}
			reply, _, err := client.Exchange(new(dns.Msg).SetQuestion("network.loop.svc.cluster.local.", dns.TypeA), s.DNS)
			const deadline = 6 * time.Second // forward's own is 5 s
			switch took := time.Since(started); {
			case err != nil:
				t.Errorf("after %.1fs: %v", took.Seconds(), err)
			case took > deadline:
				t.Errorf("an answer after %.1fs", took.Seconds())
			case reply.Rcode != dns.RcodeServerFailure:
				t.Errorf("%v; want SERVFAIL", reply)
			}
		})
	}
	running.Wait()
	s.Expect(t, "web.loop.svc.cluster.local. A", "A 10.96.0.10")
	if turns := metric(t, s, `coredns_kubezone_outcomes_total{outcome="cname",reason="alias"} `); turns < 50 {
		t.Errorf("the alias was answered %.0f times; that is no loop", turns)
	}
	if grown := residentMemory(t, s) - memory; grown > 128<<20 {
		t.Errorf("%d MiB more memory", grown>>20)
	}
}

func checkLoop(t *testing.T, s *harness.Server, question, network string, within time.Duration) {
	t.Helper()
	started := time.Now()
	reply, err := s.Exchange(harness.Question{Text: question}.Message(t), network)
	if err != nil {
		t.Fatalf("%s: %v", question, err)
	}
	if took := time.Since(started); took > within {
		t.Errorf("%s: an answer after %.1fs", question, took.Seconds())
	}
	if reply.Rcode != dns.RcodeServerFailure {
		t.Errorf("%s: %v; want SERVFAIL", question, reply)
	}
	seen := make(map[string]bool)
	for _, rr := range reply.Answer {
		text := strings.ToLower(rr.String())
		if _, ok := rr.(*dns.CNAME); !ok || seen[text] {
			t.Errorf("%s: %v; want each CNAME once", question, reply)
			return
		}
		seen[text] = true
	}
	if len(seen) == 0 {
		t.Errorf("%s: no CNAME in %v", question, reply)
	}
}

// residentMemory is what the server's process takes, in octets.
func residentMemory(t *testing.T, s *harness.Server) int64 {
	t.Helper()
	return int64(metric(t, s, "process_resident_memory_bytes "))
}

// metric is the value of the one metric whose line begins like this.
func metric(t *testing.T, s *harness.Server, begin string) float64 {
	t.Helper()
	_, page, err := s.Get(s.Metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(page) {
		if text, found := strings.CutPrefix(line, begin); found {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatalf("%s has no metric %s", s.Metrics, begin)
	return 0
}
