package faults

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kubezone/kubezone/e2e/harness"
)

// A row is one of the fault matrix.
type row struct {
	id, fault string
	options   string       // of ours, in the Corefile
	oursOnly  bool         // the stock server lacks what it takes
	account   string       // of kube-system, whose rights the servers have; "" is that of rbac.yaml
	services  int          // more than the usual
	healing   span         // for so long after the fault answers may be as old as it
	starting  func(*proxy) // the servers start under this fault: SERVFAIL may be answered
	run       func(*rig)
}

// reconnectWithin is how soon what healed is followed again: the longest pause between two attempts is 5 s.
const reconnectWithin = 7 * time.Second

// outage breaks something, changes the cluster meanwhile, has the symptoms looked at, heals, and waits for what was
// changed to show.
func outage(lasts, within span, begin func(*proxy), symptoms ...func(*rig)) func(*rig) {
	return func(g *rig) {
		g.truth.breaks()
		g.each(begin)
		g.create("late")
		g.remove("doomed")
		over := time.After(lasts.now())
		for _, look := range symptoms {
			look(g)
		}
		<-over
		g.each((*proxy).mend)
		g.truth.heals()
		g.converge(within.now())
		for _, kind := range kinds {
			g.ours().awaitMetric(g, fmt.Sprintf("coredns_kubezone_state{kind=%q,state=\"synced\"} 1", kind), reconnectWithin)
		}
	}
}

// kinds are those that the servers follow.
var kinds = []string{"services", "endpointslices", "namespaces"}

// stale waits until every kind is known to be, its age grows, and answers are marked.
func stale(g *rig) {
	g.Helper()
	for _, kind := range kinds {
		g.ours().awaitMetric(g, fmt.Sprintf("coredns_kubezone_state{kind=%q,state=\"stale\"} 1", kind), 10*time.Second)
	}
	const age = `coredns_kubezone_data_age_seconds{kind="services"}`
	first := metric(g, g.ours().server, age)
	harness.Eventually(g, 2*time.Second, func() error {
		if now := metric(g, g.ours().server, age); now <= first {
			return fmt.Errorf("%s is %g after %g; want it to grow", age, now, first)
		}
		return nil
	})
	g.ours().logs(g, "Now stale: ")
	if a := ask(g.T, g.ours().server, g.question("kept")); !a.stale {
		g.Errorf("%s is not marked as stale", a)
	}
}

// logs is a symptom: a line of our log.
func logs(text string) func(*rig) {
	return func(g *rig) {
		g.Helper()
		g.ours().logs(g, text)
	}
}

// refused is a symptom: requests that came back with this status, as counted.
func refused(code int) func(*rig) {
	return func(g *rig) {
		g.Helper()
		name := fmt.Sprintf(`coredns_kubernetes_rest_client_requests_total{code="%d",host=%q,method="GET"}`, code, strings.TrimPrefix(g.ours().proxy.url, "https://"))
		harness.Eventually(g, 3*time.Second, func() error {
			if metric(g, g.ours().server, name) == 0 {
				return fmt.Errorf("%s is 0", name)
			}
			return nil
		})
	}
}

var rows = []row{
	{id: "1", fault: "API server away before the start", starting: (*proxy).refuse, run: func(g *rig) {
		for _, question := range g.truth.questions() {
			switch {
			case question == outside:
				g.ours().server.Expect(g, question, outsideAnswer)
			case strings.HasSuffix(question, " PTR"):
				g.ours().server.Expect(g, question, "SERVFAIL") // unwritten, and so without a word why
			default:
				g.ours().expectEDE(g, question, "SERVFAIL", 14)
			}
		}
		g.ours().server.Expect(g, harness.Reverse(publicAddress)+" PTR", "PTR www.example.org.")
		if status, _, err := g.ours().server.Get(g.ours().server.Ready + "/ready"); err != nil || status != http.StatusServiceUnavailable {
			g.Errorf("ready: %d %v; want 503", status, err)
		}
		time.Sleep(6 * time.Second) // until the stock server opens its port, and leaks
		g.each((*proxy).mend)
		g.converge(reconnectWithin)
		g.ours().server.AwaitReady(g)
	}},
	{id: "3", fault: "API server away after sync", healing: span{3 * time.Second, reconnectWithin},
		run: outage(span{3 * time.Second, 10 * time.Minute}, span{3 * time.Second, reconnectWithin}, (*proxy).refuse, stale, logs("is away, what is known stays"))},
	{id: "4", fault: "watches cut", healing: always(2 * time.Second), run: outage(span{}, always(2*time.Second), (*proxy).cut)},
	{id: "5", fault: "API server silent, without a reset", healing: always(4 * time.Second), run: func(g *rig) {
		began := time.Now()
		outage(span{}, always(4*time.Second), func(p *proxy) { p.set(func() { p.frozen = true }) }, stale, func(g *rig) {
			g.Logf("noticed after %.1fs", time.Since(began).Seconds())
		})(g)
	}},
	{id: "6", fault: "410 Gone", healing: always(3 * time.Second), run: outage(always(2*time.Second), always(3*time.Second), func(p *proxy) {
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
	{id: "7", fault: "watches drop a window", options: "selfcheck 2s", healing: always(10 * time.Second), run: func(g *rig) {
		g.truth.breaks()
		g.each(func(p *proxy) { p.set(func() { p.silent = true }) })
		g.create("late")
		g.remove("doomed")
		time.Sleep(500 * time.Millisecond)
		g.each((*proxy).mend)
		g.truth.heals()
		g.converge(10 * time.Second)
		g.ours().awaitMetric(g, `coredns_kubezone_drift_total{kind="services"} 2`, time.Second)
		g.ours().logs(g, "A watch of services was silent about 2 objects")
	}},
	{id: "8a", fault: "429", healing: span{4 * time.Second, reconnectWithin},
		run: outage(span{4 * time.Second, time.Minute}, span{4 * time.Second, reconnectWithin}, failing(http.StatusTooManyRequests), stale, refused(http.StatusTooManyRequests))},
	{id: "8b", fault: "500", healing: span{3 * time.Second, reconnectWithin},
		run: outage(span{4 * time.Second, time.Minute}, span{3 * time.Second, reconnectWithin}, failing(http.StatusInternalServerError), stale, refused(http.StatusInternalServerError))},
	{id: "8c", fault: "503", healing: span{3 * time.Second, reconnectWithin},
		run: outage(span{4 * time.Second, time.Minute}, span{3 * time.Second, reconnectWithin}, failing(http.StatusServiceUnavailable), stale, refused(http.StatusServiceUnavailable))},
	{id: "9", fault: "slices take their time at the start", starting: func(p *proxy) {
		p.set(func() {
			p.delay = func(r *http.Request) time.Duration {
				if strings.HasSuffix(r.URL.Path, "/endpointslices") {
					return span{6 * time.Second, time.Minute}.now()
				}
				return 0
			}
		})
	}, run: func(g *rig) {
		for question, want := range map[string]string{g.question("kept"): g.truth.now(g.question("kept")), outside: outsideAnswer, g.question("missing"): "NXDOMAIN"} {
			g.ours().server.ExpectWithin(g, 2*time.Second, question, want)
		}
		g.ours().expectEDE(g, g.question("set"), "SERVFAIL", 14)
		g.ours().awaitMetric(g, `coredns_kubezone_state{kind="endpointslices",state="starting"} 1`, time.Second)
		g.ours().awaitMetric(g, `coredns_kubezone_state{kind="services",state="synced"} 1`, time.Second)
		g.converge(span{10 * time.Second, 65 * time.Second}.now())
		g.ours().server.AwaitReady(g)
	}},
	{id: "10", fault: "401", healing: always(reconnectWithin),
		run: outage(span{4 * time.Second, time.Minute}, span{3 * time.Second, reconnectWithin}, failing(http.StatusUnauthorized), stale, refused(http.StatusUnauthorized), logs("does not accept our credentials"))},
	{id: "12", fault: "403", healing: always(reconnectWithin),
		run: outage(span{4 * time.Second, time.Minute}, span{3 * time.Second, reconnectWithin}, failing(http.StatusForbidden), stale, refused(http.StatusForbidden), logs("add list and watch on services to the ClusterRole"))},
	{id: "14", fault: "reload each second under load", run: func(g *rig) {
		lists := g.ours().lists(g)
		flood := g.flood(0)
		for n := range int(span{5 * time.Second, time.Minute}.now() / time.Second) {
			g.reload(withTTL(n))
			time.Sleep(time.Second)
		}
		g.endFlood(flood)
		if again := g.ours().lists(g); again != lists {
			g.Errorf("%g lists after the reloads; want %g, as before", again, lists)
		}
		g.create("late")
		g.converge(2 * time.Second)
	}},
	{id: "16", fault: "reload with a broken Corefile", run: func(g *rig) {
		g.reload("broken {")
		time.Sleep(time.Second)
		g.create("late")
		g.converge(2 * time.Second)
		g.ours().logs(g, "[ERROR] SIGUSR1")
	}},
	{id: "15", fault: "reload while the API server is away", healing: always(reconnectWithin), run: func(g *rig) {
		g.truth.breaks()
		g.each((*proxy).refuse)
		g.reload(withTTL(9))
		g.create("late")
		time.Sleep(3 * time.Second)
		// A reload that needs other objects cannot have them: it fails, and the old instance goes on.
		g.ours().reload(g, withOptions("labels none=such"))
		harness.Eventually(g, 12*time.Second, func() error { // startup_timeout is 5 s
			return g.ours().hasLogged("[ERROR] SIGUSR1")
		})
		g.ours().server.Expect(g, g.question("kept"), g.truth.now(g.question("kept")))
		g.ours().reload(g, withTTL(9))
		g.each((*proxy).mend)
		g.truth.heals()
		g.converge(reconnectWithin)
	}},
	{id: "21", fault: "slices flap as fast as the API server bears", run: (*rig).flap},
	{id: "30", fault: "a list without services", services: 120, healing: always(3 * time.Second), run: func(g *rig) {
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
		g.ours().awaitMetric(g, `coredns_kubezone_brake_engaged{kind="services"} 1`, 10*time.Second)
		g.ours().logs(g, "Held back for 60s: a list of services")
		time.Sleep(2 * time.Second)
		g.each(func(p *proxy) { p.set(func() { p.rewrap = nil }) })
		g.each((*proxy).cut) // the next list is whole
		time.Sleep(time.Second)
		g.each((*proxy).mend)
		g.each((*proxy).cut)
		g.truth.heals()
		g.converge(3 * time.Second)
		g.ours().awaitMetric(g, `coredns_kubezone_brake_engaged{kind="services"} 0`, 3*time.Second)
	}},
}

func failing(code int) func(*proxy) { return func(p *proxy) { p.fail(code) } }

func isServices(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/services") }

func withTTL(n int) string { return withOptions(fmt.Sprintf("ttl %d", 5+n)) }

// reload gives every server a Corefile, and has it read.
func (g *rig) reload(text string) {
	for _, s := range g.sides {
		s.reload(g, text)
	}
}

func TestFaults(t *testing.T) {
	for _, r := range rows {
		t.Run("row "+r.id+", "+r.fault, func(t *testing.T) {
			g := newRig(t, cluster, r)
			r.run(g)
			g.finish(r)
		})
	}
}
