package nodelocal

import (
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/kubezone/kubezone/e2e/harness"
)

// lookups is how often both questions are asked at once: enough for thousands of clashes where there are any.
const lookups = 1000

// A resolver sends its questions for A and AAAA from one socket. On the ordinary path both make an entry in the connection
// tracking table when they are handled at the same time, and the two clash: older kernels drop one, which the client waits
// 5 s for. With the server on the node there is no entry at all.
//
// Two entries clash if two processors make them at the same time. With one processor the entries themselves are what
// there is to see.
func TestConnectionTracking(t *testing.T) {
	r := newRig(t)
	// A node has many rules, and the more there are the longer an entry is not confirmed.
	r.nft(t, "table inet many {\nchain forward {\ntype filter hook forward priority 0\n"+strings.Repeat("ip saddr 192.0.2.1 counter\n", 3000)+"}\n}\n")
	n := 0
	for attempt := 0; n == 0 && attempt < 4; attempt++ {
		before := r.clashes(t)
		r.resolve(t)
		n = r.clashes(t) - before
		if runtime.NumCPU() < 2 {
			break
		}
	}
	entries := r.dnsEntries(t)
	if entries == 0 || n == 0 && runtime.NumCPU() >= 2 {
		t.Errorf("%d entries on the ordinary path, of which %d clash; want some, or this test shows nothing", entries, n)
	}
	t.Logf("ordinary path: %d entries, %d of %d lookups made some clash", entries, n, lookups)

	p := r.start(t, "")
	r.node.Run(t, "conntrack", "-F")
	before := r.clashes(t)
	r.resolve(t)
	r.expect(t, asked, "node")
	if n := r.clashes(t) - before; n != 0 {
		t.Errorf("%d of %d lookups on the node made entries clash; want 0", n, lookups)
	}
	if n := r.dnsEntries(t); n != 0 {
		t.Errorf("%d entries for DNS in the connection tracking table; want 0", n)
	}
	p.Stop()
}

// resolve looks a name up again and again, as a resolver does.
func (r *rig) resolve(t *testing.T) {
	t.Helper()
	queries := make([][]byte, 2)
	for i, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		query, err := new(dns.Msg).SetQuestion("kubernetes.default.svc.cluster.local.", qtype).Pack()
		if err != nil {
			t.Fatal(err)
		}
		queries[i] = query
	}
	sockets := make([]net.Conn, lookups)
	descriptors := make([]int, lookups) // two goroutines that write to a net.Conn wait for each other
	for i := range sockets {
		conn, err := r.pod.Dial("udp", net.JoinHostPort(cluster4, "53"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		sockets[i] = conn
		raw, err := conn.(*net.UDPConn).SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { descriptors[i] = int(fd) })
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var senders sync.WaitGroup
	var arrived atomic.Int64
	missing := 0
	for first, query := range queries {
		senders.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for i, conn := range sockets {
				// To be at the same place at the same time takes a processor each; if there is none for a while, go on.
				arrived.Add(1)
				for began := time.Now(); runtime.NumCPU() > 1 && arrived.Load() < int64(2*(i+1)) && time.Since(began) < 50*time.Millisecond; {
				}
				_, _ = unix.Write(descriptors[i], query) // what is lost is missed below
				if first == 0 && missing < 10 {          // the other one waits meanwhile, so that no socket overflows
					missing += 2 - replies(conn)
				}
			}
		})
	}
	senders.Wait()
	if missing > 0 {
		t.Errorf("%d of %d replies are missing", missing, 2*lookups)
	}
}

// replies returns how many of two replies arrive.
func replies(conn net.Conn) int {
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	for n := range 2 {
		if _, err := conn.Read(make([]byte, dns.MaxMsgSize)); err != nil {
			return n
		}
	}
	return 2
}

// clashes is how many entries have clashed on the node so far.
func (r *rig) clashes(t *testing.T) int {
	t.Helper()
	total := 0
	for _, word := range strings.Fields(r.node.Run(t, "conntrack", "-S")) {
		name, value, _ := strings.Cut(word, "=")
		if name == "clash_resolve" || name == "insert_failed" {
			n, err := strconv.Atoi(value)
			if err != nil {
				t.Fatalf("conntrack -S: %v", err)
			}
			total += n
		}
	}
	return total
}

// dnsEntries is how many entries there are for DNS, of both families.
func (r *rig) dnsEntries(t *testing.T) int {
	t.Helper()
	n := 0
	for _, family := range []string{"ipv4", "ipv6"} {
		for line := range strings.Lines(r.node.Run(t, "sh", "-c", "conntrack -L -f "+family+" 2>/dev/null")) {
			if strings.Contains(line, "dport=53 ") {
				n++
			}
		}
	}
	return n
}

// A server that uses too much memory is killed by the kernel, and the node has DNS all the same.
func TestOutOfMemory(t *testing.T) {
	r := newRig(t)
	p := r.start(t, "")
	l := startLoad(r)
	harness.KillByMemory(t, p)
	gone := time.Now()
	time.Sleep(500 * time.Millisecond)
	l.expectLossUntil(t, gone)
	r.expect(t, asked, "dns1", "dns2")
}
