package floods

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/e2e/harness"
)

// packets are a few of each kind, of which two of three are good queries.
func packets(t *testing.T) [][]byte {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	query := func(name string) []byte {
		packed, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		return packed
	}
	var all [][]byte
	for i := range 96 {
		switch {
		case i%12 == 0: // some wait for upstream
			all = append(all, query(fmt.Sprintf("n%d.example.net.", i)))
		case i%12 == 3:
			all = append(all, nil) // a datagram without a payload
		case i%12 == 6:
			garbage := make([]byte, random.IntN(300))
			for n := range garbage {
				garbage[n] = byte(random.Uint32())
			}
			all = append(all, garbage)
		case i%12 == 9:
			broken := query("plain.cluster.local.")
			broken[12+random.IntN(len(broken)-12)] = byte(random.Uint32())
			all = append(all, broken)
		case i == 50:
			all = append(all, append(query("plain.cluster.local."), make([]byte, 65507-37)...)) // IPv4 allows no more: 65,535 in all
		default:
			all = append(all, query("plain.cluster.local."))
		}
	}
	return all
}

// flood sends as fast as it can from several sockets, and returns how many packets that was.
func flood(t *testing.T, server *harness.Server, length time.Duration) int64 {
	const sockets = 4
	all := packets(t)
	var sent atomic.Int64
	var running sync.WaitGroup
	end := time.Now().Add(length)
	for range sockets {
		conn, err := net.Dial("udp", server.DNS)
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			defer conn.Close()
			for time.Now().Before(end) {
				for _, p := range all {
					if _, err := conn.Write(p); err == nil {
						sent.Add(1)
					}
				}
			}
		})
	}
	running.Wait()
	return sent.Load()
}

// resumesWithin is at once, on a machine where a server may wait for a processor for a second.
const resumesWithin = 3 * time.Second

// Under a flood of good and bad packets, the server's memory stays bounded, it goes on, and serves as before at once
// when the flood is over.
func TestFlood(t *testing.T) {
	var figures []figure
	for _, s := range sides(t) {
		t.Run(s.name, func(t *testing.T) {
			server := s.start(t, 4096)
			var p, tcp probe
			end := make(chan struct{})
			var probing sync.WaitGroup
			probing.Go(func() { p.run(server, "udp", 20*time.Millisecond, end) })
			probing.Go(func() { tcp.run(server, "tcp", 100*time.Millisecond, end) })
			before := answered(t, server)
			sent := flood(t, server, *lasting)
			over := time.Now()
			close(end)
			err := harness.Poll(30*time.Second, func() error { _, err := ask(server, "udp", 200*time.Millisecond); return err })
			resumed := time.Since(over)
			probing.Wait()
			served := answered(t, server) - before
			peak := server.Memory("VmHWM")
			figures = append(figures, figure{s.name, fmt.Sprintf(
				"%6.0f packets/s sent, %6.0f/s answered; a client by UDP %v; by TCP %v; peak RSS %3d MiB; served again after %.0f ms",
				float64(sent)/lasting.Seconds(), served/lasting.Seconds(), &p, &tcp, peak>>20, resumed.Seconds()*1000)})
			if !s.ours {
				return
			}
			switch {
			case server.Ended():
				t.Error("the server has ended")
			case err != nil:
				t.Errorf("no answer after the flood: %v", err)
			case resumed > resumesWithin:
				t.Errorf("served again after %s; want at once", resumed)
			}
			if peak > memoryLimit {
				t.Errorf("%d MiB of memory; want at most %d", peak>>20, memoryLimit>>20)
			}
		})
	}
	table(t, "flood of good, broken, empty and 65,535-octet packets, one in twelve waiting for upstream", figures)
}

// answered is how many queries have had a reply.
func answered(t *testing.T, server *harness.Server) (n float64) {
	t.Helper()
	_, page, err := server.Get(server.Metrics + "/metrics")
	if err != nil {
		t.Log(err)
	}
	for line := range strings.Lines(page) {
		if metric, text, ok := strings.Cut(line, "} "); ok && strings.HasPrefix(metric, "coredns_dns_responses_total{") {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				t.Fatal(err)
			}
			n += value
		}
	}
	return n
}
