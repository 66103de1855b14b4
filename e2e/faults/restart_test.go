package faults

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kubezone/kubezone/e2e/harness"
)

// Rows 2 and 18: with a snapshot a server that was killed is back with right answers within a second of its start, the
// API server there or not.
func TestRestartWithSnapshot(t *testing.T) {
	r := row{id: "2, 18", fault: "killed and started while the API server is away", oursOnly: true}
	g := newEmptyRig(t, cluster, "restart", time.Hour)
	g.create("kept")
	g.headless("set", "192.0.2.11", "192.0.2.12")
	g.truth.write(g.question("missing"), "NXDOMAIN", func() {})
	g.truth.write(outside, outsideAnswer, func() {})
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	r.options = "snapshot " + snapshot + " 1s"
	s := g.add(ours, r)
	s.server.AwaitReady(t)
	harness.Eventually(t, 5*time.Second, func() error {
		_, err := os.Stat(snapshot)
		return err
	})
	s.server.Kill()
	s.proxy.refuse()
	var sum tally
	for range 3 {
		s.server = g.serve(s, withOptions(r.options))
		for _, question := range g.truth.questions() {
			s.server.ExpectWithin(t, opened, question, g.truth.now(question))
		}
		took := time.Since(s.server.Started)
		t.Logf("right answers %.2fs after the start", took.Seconds())
		if took > time.Second {
			t.Errorf("right answers %.2fs after the start; want 1s", took.Seconds())
		}
		s.open(g, r)
		if a := ask(t, s.server, g.question("kept")); !a.stale {
			t.Errorf("%s is not marked as stale", a)
		}
		s.awaitMetric(t, `coredns_kubezone_state{kind="services",state="restored"} 1`, time.Second)
		if age := metric(t, s.server, `coredns_kubezone_data_age_seconds{kind="services"}`); age <= 0 {
			t.Errorf("age %g; want the snapshot's", age)
		}
		if status, _, err := s.server.Get(s.server.Ready + "/ready"); err != nil || status != http.StatusOK {
			t.Errorf("ready: %d %v; want 200", status, err)
		}
		time.Sleep(time.Second)
		s.client.stop()
		s.pages.stop()
		s.sum = s.client.sum()
		s.judge(t, r)
		sum.add(s.sum)
		s.server.Kill()
	}
	record(r, s.name, sum)
}

// A process that is given the snapshot of another serves it and leaves it alone: two replicas on one node, with a
// hostPath, never take turns at a file.
func TestSnapshotOfAnotherReplica(t *testing.T) {
	g := newEmptyRig(t, cluster, "replicas", 0)
	g.create("kept")
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	r := row{options: "snapshot " + snapshot + " 1s"}
	first := g.add(ours, r)
	first.server.AwaitReady(t)
	harness.Eventually(t, 5*time.Second, func() error {
		_, err := os.Stat(snapshot)
		return err
	})
	second := &side{name: "second", proxy: first.proxy, kubeconfig: first.kubeconfig}
	second.server = g.serve(second, withOptions(r.options))
	second.server.AwaitReady(t)
	second.logs(t, "another process writes this file: give each replica its own")
	second.server.Stop()
	first.server.Stop()
	// The lock is the process's, not the file's: whoever comes after a container that was killed may write.
	third := &side{name: "third", proxy: first.proxy, kubeconfig: first.kubeconfig}
	third.server = g.serve(third, withOptions(r.options))
	third.server.AwaitReady(t)
	third.server.Kill()
	before := modified(t, snapshot)
	fourth := &side{name: "fourth", proxy: first.proxy, kubeconfig: first.kubeconfig}
	fourth.server = g.serve(fourth, withOptions(r.options))
	fourth.server.AwaitReady(t)
	fourth.logs(t, "Restored ")
	harness.Eventually(t, 5*time.Second, func() error {
		if !modified(t, snapshot).After(before) {
			return os.ErrNotExist
		}
		return nil
	})
}

func modified(t *testing.T, file string) time.Time {
	t.Helper()
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return st.ModTime()
}
