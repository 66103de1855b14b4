package faults

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kubezone/kubezone/e2e/harness"
)

// A row is one of the fault matrix.
type row struct {
	id, fault string
	options   string        // of ours, in the Corefile
	oursOnly  bool          // the stock server lacks what it takes
	services  int           // more than the usual
	healing   time.Duration // for so long after the fault answers may be as old as it
	run       func(*rig)
}

// outage breaks something, changes the cluster meanwhile, heals, and waits for what was changed to show.
func outage(lasts, within time.Duration, begin func(*proxy)) func(*rig) {
	return func(g *rig) {
		g.truth.breaks()
		g.each(begin)
		g.create("late")
		g.remove("doomed")
		time.Sleep(lasts)
		g.each((*proxy).mend)
		g.truth.heals()
		g.converge(within)
	}
}

var rows = []row{
	{id: "3", fault: "API server away after sync", healing: 3 * time.Second, run: func(g *rig) {
		outage(3*time.Second, 3*time.Second, (*proxy).refuse)(g)
	}},
	{id: "4", fault: "watches cut", healing: 2 * time.Second, run: outage(0, 2*time.Second, (*proxy).cut)},
	{id: "5", fault: "API server silent, without a reset", healing: 4 * time.Second, run: func(g *rig) {
		g.truth.breaks()
		g.each(func(p *proxy) { p.set(func() { p.frozen = true }) })
		g.create("late")
		g.sides[0].awaitMetric(g, `coredns_kubezone_state{kind="services",state="stale"} 1`, 10*time.Second)
		g.each((*proxy).mend)
		g.truth.heals()
		g.converge(4 * time.Second)
	}},
	{id: "6", fault: "410 Gone", healing: 3 * time.Second, run: outage(2*time.Second, 3*time.Second, func(p *proxy) {
		p.set(func() {
			p.answer = func(r *http.Request) int {
				if q := r.URL.Query(); isWatch(r) && q.Get("sendInitialEvents") == "" {
					return http.StatusGone
				}
				return 0
			}
		})
		p.cut()
	})},
	{id: "7", fault: "watches drop a window", options: "selfcheck 2s", healing: 10 * time.Second, run: func(g *rig) {
		g.truth.breaks()
		g.each(func(p *proxy) { p.set(func() { p.silent = true }) })
		g.create("late")
		g.remove("doomed")
		time.Sleep(500 * time.Millisecond)
		g.each((*proxy).mend)
		g.truth.heals()
		g.converge(10 * time.Second)
		g.sides[0].awaitMetric(g, `coredns_kubezone_drift_total{kind="services"} 2`, time.Second)
	}},
	{id: "8a", fault: "429 for 4 s", healing: 4 * time.Second, run: outage(4*time.Second, 4*time.Second, func(p *proxy) { p.fail(http.StatusTooManyRequests) })},
	{id: "8b", fault: "500 for 4 s", healing: 3 * time.Second, run: outage(4*time.Second, 3*time.Second, func(p *proxy) { p.fail(http.StatusInternalServerError) })},
	{id: "10", fault: "401 for 4 s", healing: 3 * time.Second, run: outage(4*time.Second, 3*time.Second, func(p *proxy) { p.fail(http.StatusUnauthorized) })},
	{id: "12", fault: "403 for 4 s", healing: 3 * time.Second, run: outage(4*time.Second, 3*time.Second, func(p *proxy) { p.fail(http.StatusForbidden) })},
	{id: "14", fault: "reloads", run: func(g *rig) {
		for n := range 3 {
			g.reload(withTTL(n))
			time.Sleep(time.Second)
		}
		g.create("late")
		g.converge(2 * time.Second)
	}},
	{id: "16", fault: "reload with a broken Corefile", run: func(g *rig) {
		g.reload("broken {")
		time.Sleep(time.Second)
		g.create("late")
		g.converge(2 * time.Second)
	}},
	{id: "15", fault: "reload while the API server is away", healing: 3 * time.Second, run: func(g *rig) {
		g.truth.breaks()
		g.each((*proxy).refuse)
		g.reload(withTTL(9))
		g.create("late")
		time.Sleep(3 * time.Second)
		g.each((*proxy).mend)
		g.truth.heals()
		g.converge(3 * time.Second)
	}},
	{id: "30", fault: "a list without services", services: 120, healing: 3 * time.Second, run: func(g *rig) {
		g.truth.breaks()
		g.each(func(p *proxy) {
			p.set(func() {
				p.answer = func(r *http.Request) int {
					if isServices(r) && isWatch(r) && r.URL.Query().Get("sendInitialEvents") == "" {
						return http.StatusGone
					}
					return 0
				}
				p.rewrap = func(r *http.Request) {
					if q := r.URL.Query(); isServices(r) {
						q.Set("labelSelector", "none=such")
						r.URL.RawQuery = q.Encode()
					}
				}
			})
			p.cut()
		})
		g.sides[0].awaitMetric(g, `coredns_kubezone_brake_engaged{kind="services"} 1`, 10*time.Second)
		time.Sleep(2 * time.Second)
		g.each(func(p *proxy) { p.set(func() { p.rewrap = nil }) })
		g.each((*proxy).cut) // the next list is whole
		time.Sleep(time.Second)
		g.each((*proxy).mend)
		g.each((*proxy).cut)
		g.truth.heals()
		g.converge(3 * time.Second)
		g.sides[0].awaitMetric(g, `coredns_kubezone_brake_engaged{kind="services"} 0`, 3*time.Second)
	}},
}

func isServices(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/services") }

func withTTL(n int) string { return withOptions(fmt.Sprintf("ttl %d", 5+n)) }

// reload gives every server a Corefile, and has it read.
func (g *rig) reload(text string) {
	for _, s := range g.sides {
		s.server.WriteCorefile(g, text)
		s.server.Reload()
	}
}

// awaitMetric waits for a line of the server's metrics.
func (s *side) awaitMetric(t testing.TB, line string, within time.Duration) {
	t.Helper()
	harness.Eventually(t, within, func() error { return hasMetric(s.server, line) })
}

func hasMetric(s *harness.Server, line string) error {
	_, body, err := s.Get(s.Metrics + "/metrics")
	if err == nil && !strings.Contains(body, "\n"+line+"\n") {
		err = fmt.Errorf("no %s in the metrics", line)
	}
	return err
}

func TestFaults(t *testing.T) {
	for _, r := range rows {
		t.Run("row "+r.id+", "+r.fault, func(t *testing.T) {
			g := newRig(t, r)
			r.run(g)
			g.finish(r)
		})
	}
}

// Row 1: without a snapshot a server that finds no API server says so, and denies nothing. Rows 2 and 18: with one, a
// server that was killed is back with right answers within a second, the API server there or not.
func TestRestartWithoutAPIServer(t *testing.T) {
	g := &rig{T: t, namespace: "restart", truth: newTruth(0)}
	g.makeNamespace()
	g.create("kept")
	g.headless("set", "192.0.2.11", "192.0.2.12")
	g.truth.write(g.question("missing"), "NXDOMAIN", func() {})
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	p := startProxy(t, cluster)
	kubeconfig, _ := cluster.Kubeconfig(t, p.url, "kube-system", "coredns")
	start := func() *side {
		return &side{name: "kubezone", proxy: p,
			server: startServer(t, ours, withOptions("snapshot "+snapshot+" 1s"), "KUBECONFIG="+kubeconfig)}
	}

	p.refuse()
	s := start()
	const opened = 2 * time.Second // for a process to start on a busy machine
	s.server.ExpectWithin(t, opened, "dns-version.cluster.local. TXT", `TXT "1.1.0"`)
	for _, question := range g.truth.questions() {
		s.server.Expect(t, question, "SERVFAIL")
	}
	p.mend()
	s.server.AwaitReady(t)
	harness.Eventually(t, 5*time.Second, func() error {
		_, err := filepath.EvalSymlinks(snapshot)
		return err
	})
	s.server.Kill()
	p.refuse()
	for range 3 {
		s = start()
		for _, question := range g.truth.questions() {
			s.server.ExpectWithin(t, opened, question, g.truth.now(question))
		}
		took := time.Since(s.server.Started)
		t.Logf("right answers %.2fs after the start", took.Seconds())
		if took > time.Second {
			t.Errorf("right answers %.2fs after the start; want 1s", took.Seconds())
		}
		if a := ask(t, s.server, g.question("kept")); !a.stale {
			t.Errorf("%s is not marked as stale", a)
		}
		s.awaitMetric(t, `coredns_kubezone_state{kind="services",state="restored"} 1`, time.Second)
		status, _, err := s.server.Get(s.server.Ready + "/ready")
		if err != nil || status != http.StatusOK {
			t.Errorf("ready: %d %v; want 200", status, err)
		}
		s.server.Kill()
	}
}
