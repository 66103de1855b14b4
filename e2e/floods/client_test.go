package floods

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/e2e/harness"
)

// silent is the address of an upstream that takes everything and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.LocalAddr().String()
}

// A probe asks now and then, whatever becomes of its queries.
type probe struct {
	mu    sync.Mutex // guards what follows
	tooks []time.Duration
	asked int
}

// patience is how long a client waits for one server (resolv.conf(5) says 5 s; most are told less).
const patience = 2 * time.Second

// run asks over a network, each query from a socket of its own, until end is closed and all have ended.
func (p *probe) run(server *harness.Server, network string, every time.Duration, end <-chan struct{}) {
	var running sync.WaitGroup
	defer running.Wait()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-end:
			return
		case <-ticker.C:
		}
		running.Go(func() {
			took, err := ask(server, network, patience)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.asked++
			if err == nil {
				p.tooks = append(p.tooks, took)
			}
		})
	}
}

// ask asks for the name that is in memory.
func ask(server *harness.Server, network string, within time.Duration) (time.Duration, error) {
	began := time.Now()
	client := dns.Client{Net: network, Timeout: within}
	reply, _, err := client.Exchange(new(dns.Msg).SetQuestion("plain.cluster.local.", dns.TypeA), server.DNS)
	if err == nil && len(reply.Answer) != 1 {
		err = fmt.Errorf("%d records; want 1", len(reply.Answer))
	}
	return time.Since(began), err
}

func (p *probe) percentile(share float64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.tooks) == 0 {
		return patience
	}
	slices.Sort(p.tooks)
	return p.tooks[int(share*float64(len(p.tooks)-1))]
}

func (p *probe) lost() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked - len(p.tooks)
}

func (p *probe) String() string {
	return fmt.Sprintf("%d of %d, p50 %.1f ms, p99 %.1f ms", p.asked-p.lost(), p.asked,
		p.percentile(0.5).Seconds()*1000, p.percentile(0.99).Seconds()*1000)
}
