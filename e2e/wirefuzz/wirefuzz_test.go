package wirefuzz

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubezone/kubezone/e2e/harness"

	"github.com/miekg/dns"
)

var (
	lasting = flag.Duration("for", 12*time.Second, "how long to send, in all")
	seed    = flag.Uint64("seed", 1, "what the packets come from; the same seed gives the same packets in the same order")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("KUBEZONE_BIN") == "" {
		path, err := filepath.Abs("../../bin/coredns")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_ = os.Setenv("KUBEZONE_BIN", path) // the name is a valid one
	}
	os.Exit(m.Run())
}

// servers are the ways the plugin is set up: for its zones alone, and for the root with nothing behind.
var servers = []struct {
	name     string
	outside  int // the rcode of names outside the zones
	corefile string
}{
	{"zones", dns.RcodeRefused, `
		cluster.local:{$DNS} in-addr.arpa:{$DNS} ip6.arpa:{$DNS} {
			bind 127.0.0.1
			errors {
				stacktrace
			}
			ready 127.0.0.1:{$READY}
			prometheus 127.0.0.1:{$METRICS}
			kubezone cluster.local in-addr.arpa ip6.arpa {
				manifests {$DEMO}/manifests
				pods verified
				zonal
			}
			cache {
				# Few, so that it is full before the memory is first measured.
				success 1024
				denial 1024
			}
			loadbalance
		}`},
	{"root", dns.RcodeServerFailure, `
		.:{$DNS} {
			bind 127.0.0.1
			errors {
				stacktrace
				consolidate 1m "no next plugin found$"
			}
			ready 127.0.0.1:{$READY}
			prometheus 127.0.0.1:{$METRICS}
			kubernetes cluster.local in-addr.arpa ip6.arpa {
				manifests {$DEMO}/manifests
				pods verified
				zonal
			}
			hosts {$DEMO}/hosts example.net
		}`},
}

// TestWireFuzz sends broken messages among valid queries. Whatever comes, the server goes on, gives each valid query its
// one right reply in time and each broken one its rcode or its silence, and keeps nothing of it.
func TestWireFuzz(t *testing.T) {
	demo, err := filepath.Abs("../../corefile/demo")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			server := harness.StartServer(t, s.corefile, "DEMO="+demo)
			server.AwaitReady(t)
			r := &run{server: server, outside: s.outside, classes: map[string]*tally{}}
			before := r.measure(t)
			r.send(t, 0, warmUp)
			before.resident = r.measure(t).resident
			left := *lasting / time.Duration(len(servers))
			for slice := uint64(1); left > 0; slice++ {
				r.send(t, slice, min(left, sliceLength))
				left -= sliceLength
				t.Logf("after slice %d: %v", slice, r.measure(t))
			}
			r.settle(t, before)
			t.Log(r.report())
		})
	}
}

const (
	warmUp      = time.Second // in which buffers grow and pools fill
	sliceLength = time.Minute // after which the packets begin anew, from other sockets
)

// A run is one server and what it was sent.
type run struct {
	server  *harness.Server
	outside int

	mu      sync.Mutex // guards what follows
	classes map[string]*tally
	slowest time.Duration
	late    int
}

// A tally is of the packets of a class.
type tally struct{ sent, answered int }

func (r *run) count(class string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.classes[class] == nil {
		r.classes[class] = new(tally)
	}
	r.classes[class].sent++
}

// judge checks the reply to a packet that was sent at a moment.
func (r *run) judge(p packet, wire []byte, network string, sent moment) error {
	if err := p.check(wire, network, r.outside); err != nil {
		return fmt.Errorf("%s over %s: %w\nsent %x\n got %x", p.class, network, err, p.wire, wire)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.classes[p.class].answered++
	r.slowest = max(r.slowest, time.Since(sent.time))
	if sent.since() > replyWithin {
		r.late++
	}
	return nil
}

// A moment is a time, and how long programs have waited for a processor of this machine until then.
type moment struct {
	time   time.Time
	waited time.Duration
}

func now() moment { return moment{time.Now(), waited()} }

// since is the time from then on in which a processor was to be had: a machine that is busy with other tests makes
// everybody wait, and that is not the server's fault.
func (m moment) since() time.Duration {
	took := time.Since(m.time)
	if took > replyWithin {
		took -= min(took, waited()-m.waited)
	}
	return took
}

// waited is the kernel's count of the time in which any program waited for a processor (its pressure stall
// information), or 0 if the kernel does not count.
func waited() time.Duration {
	text, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return 0
	}
	some, _, _ := strings.Cut(string(text), "\n")
	_, total, _ := strings.Cut(some, "total=")
	microseconds, err := strconv.ParseInt(total, 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(microseconds) * time.Microsecond
}

// send sends rounds over UDP and TCP side by side, until the time is over or something is wrong.
func (r *run) send(t *testing.T, slice uint64, lasting time.Duration) {
	t.Helper()
	conn, err := net.Dial("udp", r.server.DNS)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	udp, tcp := &udpClient{run: r, conn: conn}, &tcpClient{run: r, address: r.server.DNS}
	defer tcp.release()

	ctx, stop := context.WithTimeout(t.Context(), lasting)
	defer stop()
	rounds := func(network string, stream uint64, round func(*rand.Rand) error) error {
		random := rand.New(rand.NewPCG(*seed, stream))
		for n := 0; ctx.Err() == nil; n++ {
			if err := round(random); err != nil {
				stop()
				return fmt.Errorf("seed %d, slice %d, round %d over %s: %w", *seed, slice, n, network, err)
			}
		}
		return nil
	}
	var running sync.WaitGroup
	var overUDP, overTCP error
	running.Go(func() { overUDP = rounds("udp", 2*slice, udp.round) })
	running.Go(func() { overTCP = rounds("tcp", 2*slice+1, tcp.round) })
	running.Wait()
	if err := errors.Join(overUDP, overTCP); err != nil {
		t.Fatal(err)
	}
	if err := udp.strays(); err != nil {
		t.Fatal(err)
	}
}

// A measurement is what a server says of itself.
type measurement struct{ panics, goroutines, resident float64 }

func (m measurement) String() string {
	return fmt.Sprintf("%.0f panics, %.0f goroutines, %.1f MiB resident", m.panics, m.goroutines, m.resident/(1<<20))
}

func (r *run) measure(t *testing.T) measurement {
	t.Helper()
	select {
	case <-r.server.Done():
		t.Fatal("the server ended")
	default:
	}
	_, page, err := r.server.Get(r.server.Metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(page)); lines.Scan(); {
		if metric, text, ok := strings.Cut(lines.Text(), " "); ok {
			values[metric], _ = strconv.ParseFloat(text, 64) // comments are no numbers, and none is asked for
		}
	}
	m := measurement{values["coredns_panics_total"], values["go_goroutines"], values["process_resident_memory_bytes"]}
	if m.goroutines == 0 || m.resident == 0 {
		t.Fatal("the metrics lack the number of goroutines, or the memory")
	}
	return m
}

const (
	moreGoroutines = 4        // those of the page with the metrics, which come and go
	idleWorkers    = 128      // that udpbatch keeps for the next queries
	moreResident   = 32 << 20 // octets: a heap that was collected last at another time
	settleWithin   = 15 * time.Second
)

// settle waits until the server is where it was before.
func (r *run) settle(t *testing.T, before measurement) {
	t.Helper()
	most := before.goroutines + moreGoroutines
	if r.server.Batched {
		most += idleWorkers
	}
	harness.Eventually(t, settleWithin, func() error {
		now := r.measure(t)
		if now.goroutines > most || now.resident > before.resident+moreResident {
			return fmt.Errorf("%v; before %v", now, before)
		}
		return nil
	})
	now := r.measure(t)
	if log := r.server.Log(); now.panics != 0 || strings.Contains(log, "panic") {
		t.Errorf("%.0f panics; the log ends\n%s", now.panics, r.server.Tail(40))
	}
	if r.late > 0 {
		t.Errorf("%d replies took more than %.0fs, though a processor was to be had", r.late, replyWithin.Seconds())
	}
	t.Logf("before: %v; after: %v", before, now)
}

// report is how often each class was sent, and answered.
func (r *run) report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, the slowest reply after %.3fs\n", *seed, r.slowest.Seconds())
	var all tally
	for _, class := range slices.Sorted(maps.Keys(r.classes)) {
		c := r.classes[class]
		fmt.Fprintf(&b, "%10d sent %10d answered: %s\n", c.sent, c.answered, class)
		all.sent += c.sent
		all.answered += c.answered
	}
	fmt.Fprintf(&b, "%10d sent %10d answered\n", all.sent, all.answered)
	return b.String()
}
