//go:build linux

package udpbatch

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A load asks one question at a steady rate, from several sockets, and does not
// wait for replies before it asks again.
type load struct {
	asked, answered atomic.Int64

	mu    sync.Mutex // guards tooks
	tooks []time.Duration
}

// run asks for a time, then waits a little for late replies.
func (l *load) run(t testing.TB, server, name string, perSecond int, length, linger time.Duration) {
	t.Helper()
	const sockets = 16
	var running sync.WaitGroup
	for i := range sockets {
		conn, err := net.Dial("udp", server)
		if err != nil {
			t.Error(err)
			return
		}
		var sent [1 << 16]atomic.Int64 // by ID
		begin := time.Now()
		end := begin.Add(length)
		running.Go(func() {
			defer conn.Close()
			reply := make([]byte, dns.MaxMsgSize)
			for {
				_ = conn.SetReadDeadline(end.Add(linger))
				n, err := conn.Read(reply)
				if err != nil {
					return
				}
				if n < headerSize {
					continue
				}
				id := uint16(reply[0])<<8 | uint16(reply[1])
				at := sent[id].Swap(0)
				if at == 0 {
					t.Errorf("%s: a reply that nobody waits for, ID %d", name, id)
					continue
				}
				l.answered.Add(1)
				l.mu.Lock()
				l.tooks = append(l.tooks, time.Since(begin)-time.Duration(at))
				l.mu.Unlock()
			}
		})
		running.Go(func() {
			query, err := new(dns.Msg).SetQuestion(name, dns.TypeTXT).Pack()
			if err != nil {
				t.Error(err)
				return
			}
			pace := time.NewTicker(sockets * time.Second / time.Duration(perSecond))
			defer pace.Stop()
			for id := uint16(i); ; id += sockets {
				if now := <-pace.C; now.After(end) {
					return
				}
				query[0], query[1] = byte(id>>8), byte(id)
				sent[id].Store(int64(time.Since(begin)))
				l.asked.Add(1)
				if _, err := conn.Write(query); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
}

func (l *load) percentile(p float64) time.Duration {
	slices.Sort(l.tooks)
	if len(l.tooks) == 0 {
		return 0
	}
	return l.tooks[int(p*float64(len(l.tooks)-1))]
}

// 1,000 queries a second that take 2 s each: 2,000 handlers wait at a time.
func TestSlowHandlersDoNotDelayOthers(t *testing.T) {
	port := freePort(t)
	start(t, fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch {\nworkers 2500\n}\nanswer\n}", port))
	server := fmt.Sprintf("127.0.0.1:%d", port)
	e := listenerOf(t, server)

	// The machine may be too busy for any p99, but not each time.
	const tries = 3
	for try := 1; ; try++ {
		var alone, fast, slow load
		alone.run(t, server, "plain.cluster.local.", 1000, time.Second, time.Second)
		const length = 3 * time.Second
		var running sync.WaitGroup
		running.Go(func() { slow.run(t, server, "sleep-2s.example.org.", 1000, length, 4*time.Second) })
		running.Go(func() { fast.run(t, server, "plain.cluster.local.", 1000, length, time.Second) })
		running.Wait()

		t.Logf("fast alone: p50 %s, p99 %s; beside slow: p50 %s, p99 %s, max %s", alone.percentile(0.5), alone.percentile(0.99), fast.percentile(0.5), fast.percentile(0.99), fast.percentile(1))
		t.Logf("late %v, expected %v, dropped %v", metric(t, "dispatched_total", e.address, "late"), metric(t, "dispatched_total", e.address, "expected"), metric(t, "dropped_total", e.address, dropQueue))
		if n, of := fast.answered.Load(), fast.asked.Load(); n != of {
			t.Errorf("%d of %d fast queries answered; want all", n, of)
		}
		if n, of := slow.answered.Load(), slow.asked.Load(); n != of {
			t.Errorf("%d of %d slow queries answered; want all", n, of)
		}
		const more = 250 * time.Millisecond
		if fast.percentile(0.99) <= alone.percentile(0.99)+more {
			return
		}
		if try == tries {
			t.Fatalf("p99 of fast queries is %s; want no more than alone, %s", fast.percentile(0.99), alone.percentile(0.99))
		}
	}
}

func TestReloadLosesNothing(t *testing.T) {
	port := freePort(t)
	server := fmt.Sprintf("127.0.0.1:%d", port)
	corefile := func(i int) string {
		return fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch %d {\nbatch %d\n}\nanswer\n}", port, 1+i%3, 8+i)
	}
	i := start(t, corefile(0))
	listenerOf(t, server)

	var l load
	var running sync.WaitGroup
	const length = 8 * time.Second
	running.Go(func() { l.run(t, server, "plain.example.org.", 2000, length, 2*time.Second) })
	end := time.Now().Add(length)
	n := 0
	for ; n < 100 && time.Now().Before(end); n++ {
		i = reload(t, i, corefile(n))
	}
	running.Wait()
	defer func() { stop(t, i) }()
	t.Logf("%d reloads, %d queries", n, l.asked.Load())
	if got, want := l.answered.Load(), l.asked.Load(); got != want {
		e := listenerOf(t, server)
		t.Errorf("%d of %d queries answered through %d reloads; want all; %v dropped for want of a worker, %v replies refused by the kernel",
			got, want, n, metric(t, "dropped_total", e.address, dropQueue), metric(t, "dropped_total", e.address, dropWrite))
	}
	if got := len(listenerOf(t, server).open()); got != 1+(n-1)%3 {
		t.Errorf("%d sockets; want %d", got, 1+(n-1)%3)
	}
}

// A reload may bring the directive, and take it away.
func TestReloadWithAndWithout(t *testing.T) {
	port := freePort(t)
	server := fmt.Sprintf("127.0.0.1:%d", port)
	with, without := fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch\nanswer\n}", port), fmt.Sprintf(".:%d {\nbind 127.0.0.1\nanswer\n}", port)
	i := start(t, without)
	defer func() { stop(t, i) }()

	var l load
	var running sync.WaitGroup
	running.Go(func() { l.run(t, server, "plain.example.org.", 2000, 2*time.Second, 2*time.Second) })
	for n := range 20 {
		i = reload(t, i, []string{with, without}[n%2])
		if n%2 == 0 {
			listenerOf(t, server)
		}
	}
	running.Wait()
	if got, want := l.answered.Load(), l.asked.Load(); got != want {
		t.Errorf("%d of %d queries answered; want all", got, want)
	}
	process.mu.Lock()
	defer process.mu.Unlock()
	address := "dns://" + server
	if process.listeners[address] != nil || len(process.claims[address]) != 0 {
		t.Errorf("listener %v and %d claims are left; want none", process.listeners[address], len(process.claims[address]))
	}
}

// At the end of the process, what has arrived is answered, and what arrives
// meanwhile goes to CoreDNS's own socket.
func TestShutdownLosesNothing(t *testing.T) {
	for range 5 {
		port := freePort(t)
		server := fmt.Sprintf("127.0.0.1:%d", port)
		i := start(t, fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch 3\nanswer\n}", port))
		listenerOf(t, server)
		var fast, slow load
		var running sync.WaitGroup
		running.Go(func() { fast.run(t, server, "plain.example.org.", 4000, 500*time.Millisecond, time.Second) })
		running.Go(func() { slow.run(t, server, "sleep-200ms.example.net.", 100, 300*time.Millisecond, time.Second) })
		time.Sleep(200 * time.Millisecond)
		for _, err := range i.ShutdownCallbacks() {
			t.Error(err)
		}
		running.Wait()
		if got, want := fast.answered.Load(), fast.asked.Load(); got != want {
			t.Errorf("%d of %d queries answered; want all", got, want)
		}
		if got, want := slow.answered.Load(), slow.asked.Load(); got != want {
			t.Errorf("%d of %d slow queries answered; want all", got, want)
		}
		stop(t, i)
	}
}

// Far more than the server can do: memory stays bounded, and service goes on.
func TestFlood(t *testing.T) {
	port := freePort(t)
	server := fmt.Sprintf("127.0.0.1:%d", port)
	start(t, fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch 2 {\nworkers 8\nqueue 16\n}\nanswer\n}", port))
	e := listenerOf(t, server)

	var running sync.WaitGroup
	end := time.Now().Add(3 * time.Second)
	for i := range 4 {
		name := []string{"sleep-20ms.example.net.", "plain.example.org."}[i%2]
		running.Go(func() {
			conn, err := net.Dial("udp", server)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			query, err := new(dns.Msg).SetQuestion(name, dns.TypeTXT).Pack()
			if err != nil {
				t.Error(err)
				return
			}
			for time.Now().Before(end) {
				_, _ = conn.Write(query)
			}
		})
	}
	busiest, longest := 0, 0
	for time.Now().Before(end) {
		busy, waiting := e.workers.load()
		busiest, longest = max(busiest, busy), max(longest, waiting)
		time.Sleep(5 * time.Millisecond)
	}
	running.Wait()
	t.Logf("at most %d workers busy and %d queries waiting; %v dropped", busiest, longest, metric(t, "dropped_total", e.address, dropQueue))
	if busiest > 8 || longest > 16 {
		t.Errorf("%d workers were busy and %d queries waited; want at most 8 and 16", busiest, longest)
	}
	if metric(t, "dropped_total", e.address, dropQueue) == 0 {
		t.Error("nothing was dropped; want the oldest of those that waited")
	}
	eventually(t, "an answer after the flood", func() bool {
		_, err := try(server, "plain.cluster.local. TXT", time.Second)
		return err == nil
	})
}

func TestOldestWaitingIsDropped(t *testing.T) {
	var q queue
	q.resize(3)
	numbered := func(n int) job { return job{suffix: suffix(n)} }
	for n := range 5 {
		dropped, full := q.push(numbered(n))
		if full != (n >= 3) || full && dropped.suffix != suffix(n-3) {
			t.Errorf("push %d: dropped %d, %v", n, dropped.suffix, full)
		}
	}
	if dropped := q.resize(2); len(dropped) != 1 || dropped[0].suffix != 2 {
		t.Errorf("resize dropped %v; want the oldest, 2", dropped)
	}
	for _, want := range []suffix{4, 3} {
		if j, ok := q.pop(); !ok || j.suffix != want {
			t.Errorf("pop: %d, %v; want %d", j.suffix, ok, want)
		}
	}
	if _, ok := q.pop(); ok {
		t.Error("an empty queue has something")
	}
	q.resize(0)
	if dropped, full := q.push(numbered(7)); !full || dropped.suffix != 7 {
		t.Error("a queue of nothing takes something")
	}
}

// Before CoreDNS closes its own socket that is out of the group, and what it held is answered: what comes after that is
// another process's, or refused.
func TestExitLosesNothing(t *testing.T) {
	port := freePort(t)
	server := fmt.Sprintf("127.0.0.1:%d", port)
	i := start(t, fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch\nanswer\n}", port))
	listenerOf(t, server)
	for _, err := range i.ShutdownCallbacks() {
		t.Error(err)
	}
	conn, err := net.Dial("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	query, err := new(dns.Msg).SetQuestion("plain.example.org.", dns.TypeTXT).Pack()
	if err != nil {
		t.Fatal(err)
	}
	const queries = 50
	for range queries {
		if _, err := conn.Write(query); err != nil {
			t.Fatal(err)
		}
	}
	onExit()
	if err := i.Stop(); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, dns.MaxMsgSize)
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	for n := range queries {
		if _, err := conn.Read(buffer); err != nil {
			t.Fatalf("%d of %d queries answered: %v", n, queries, err)
		}
	}
}
