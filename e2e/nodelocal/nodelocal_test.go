package nodelocal

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kubezone/kubezone/e2e/harness"
)

// The ordinary path, ours, and the ordinary path again, for both families, UDP and TCP, a pod and the node.
func TestBeforeDuringAfter(t *testing.T) {
	r := newRig(t)
	r.expect(t, clusterIP, "dns1", "dns2")
	p := r.start(t, "")
	r.expect(t, asked, "node")
	p.Stop()
	r.expect(t, asked, "dns1", "dns2") // the node's own addresses by the fallback
	if rules := r.rules(t); strings.Contains(rules, "notrack") {
		t.Errorf("rules are left:\n%s", rules)
	}
}

// A server that cannot answer yet gets no queries.
func TestUnreadyServerGetsNoQueries(t *testing.T) {
	r := newRig(t)
	p := startDNS(t, r.node, `.:53 {
	nodelocal 169.254.20.10 10.96.0.10
	kubezone cluster.local {
		endpoint http://192.0.2.1:8080
	}
}
`)
	awaitLog(t, p, 20*time.Second, "CoreDNS-", 1)
	for range 10 {
		r.expect(t, []string{cluster4}, "dns1", "dns2")
	}
	if strings.Contains(p.Log(), "come here") {
		t.Errorf("queries go to a server that has no objects:\n%s", p.Log())
	}
}

// The kernel takes the rules away with the process, so that only what was on its way is lost.
func TestKill(t *testing.T) {
	r := newRig(t)
	p := r.start(t, "")
	l := startLoad(r)
	time.Sleep(time.Second)
	p.Kill()
	gone := time.Now()
	time.Sleep(time.Second)
	l.expectLossUntil(t, gone)
	r.expect(t, asked, "dns1", "dns2")
}

// A server that hangs loses the queries 3 s after its last answer to itself, and gets them again when it goes on.
func TestHang(t *testing.T) {
	const within = 3 * time.Second
	r := newRig(t)
	p := r.start(t, "")
	l := startLoad(r)
	p.Signal(syscall.SIGSTOP)
	stopped := time.Now()
	time.Sleep(within + time.Second)
	l.expectLossUntil(t, stopped.Add(within+100*time.Millisecond))
	r.expect(t, asked, "dns1", "dns2")
	p.Signal(syscall.SIGCONT)
	r.expectWithin(t, 5*time.Second, asked, "node")
}

// New queries are led away before the server ends, and those that it has are answered.
func TestCleanExitLosesNothing(t *testing.T) {
	r := newRig(t)
	batched := func(t testing.TB) *harness.Process { return r.start(t, "") }
	for _, start := range []func(testing.TB) *harness.Process{batched, r.startPlain} {
		p := start(t)
		r.awaitSwitch(t, p)
		l := startLoad(r)
		time.Sleep(time.Second)
		p.Stop()
		time.Sleep(500 * time.Millisecond)
		l.expectNoLoss(t)
		r.expect(t, asked, "dns1", "dns2")
	}
}

// The successor serves beside its predecessor, which then leads new packets there, whichever of them has udpbatch.
func TestUpgradeLosesNothing(t *testing.T) {
	r := newRig(t)
	old := r.startPlain(t)
	r.awaitSwitch(t, old)
	batched := func(t testing.TB) *harness.Process { return r.start(t, "") }
	for _, start := range []func(testing.TB) *harness.Process{r.startPlain, batched, batched} {
		l := startLoad(r)
		next := start(t)
		r.awaitSwitch(t, next)
		old.Stop()
		time.Sleep(500 * time.Millisecond)
		l.expectNoLoss(t)
		r.expect(t, asked, "node")
		if !strings.Contains(old.Log(), "leading new queries there") {
			t.Errorf("the old server saw no successor:\n%s", old.Tail(20))
		}
		old = next
	}
	// udpbatch has the kernel choose its own sockets, so that a successor without it may get nothing until it is gone.
	l := startLoad(r)
	last := r.startPlain(t)
	awaitLog(t, last, 20*time.Second, "CoreDNS-", 1)
	old.Stop()
	r.awaitSwitch(t, last)
	l.expectNoLoss(t)
	r.expect(t, asked, "node")
}

// A reload keeps rules, addresses and queries.
func TestReloadLosesNothing(t *testing.T) {
	r := newRig(t)
	p := r.start(t, "")
	l := startLoad(r)
	for n := range 3 {
		time.Sleep(300 * time.Millisecond)
		p.Signal(syscall.SIGUSR1)
		awaitLog(t, p, 20*time.Second, "Reloading complete", n+1)
	}
	l.expectNoLoss(t)
	r.expect(t, asked, "node")
}
