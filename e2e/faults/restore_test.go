package faults

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/kubezone/kubezone/e2e/harness"
)

// TestControlPlane has the rows that break a control plane itself, which they have to themselves.
func TestControlPlane(t *testing.T) {
	own, err := startCluster(harness.Options{Families: harness.IPv4Only, Binaries: programs, Dir: filepath.Join(t.TempDir(), "original")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Stop)
	for _, r := range []row{
		{id: "29", fault: "poisoned objects", run: (*rig).poison},
		{id: "6r", fault: "history compacted, API server restarted", healing: always(reconnectWithin), run: (*rig).compact},
		{id: "31", fault: "an API server that stopped following", healing: always(reconnectWithin), run: (*rig).visitFollower},
		{id: "7r", fault: "etcd restored from a backup", healing: always(reconnectWithin), run: (*rig).restore},
	} {
		t.Run("row "+r.id+", "+r.fault, func(t *testing.T) {
			g := newRig(t, own, r)
			r.run(g)
			g.finish(r)
		})
	}
}

// compact has the API server forget what the servers would go on from.
func (g *rig) compact() {
	lists := g.ours().lists(g)
	g.truth.breaks()
	g.each((*proxy).refuse)
	g.create("late")
	g.remove("doomed")
	g.cluster.Compact(g)
	g.cluster.StopAPIServer()
	if err := g.cluster.StartAPIServer(); err != nil {
		g.Fatal(err)
	}
	g.each((*proxy).mend)
	g.truth.heals()
	g.converge(reconnectWithin)
	if again := g.ours().lists(g); again == lists {
		g.Error("no list after history was compacted: nothing was tested")
	}
}

// visitFollower leads the servers to an API server that is behind, as a load balancer may, and back. The way back in time
// is checked and told.
func (g *rig) visitFollower() {
	follower := g.cluster.Fork(g, filepath.Join(g.TempDir(), "follower"))
	then := time.Now()
	g.countOn(300)
	g.create("late")
	g.remove("doomed")
	g.converge(2 * time.Second)
	g.truth.breaksTo(then)
	g.each(func(p *proxy) {
		p.turnTo(g.T, follower)
		p.cut()
	})
	g.ours().logs(g, "The API server went back")
	time.Sleep(2 * time.Second)
	g.each(func(p *proxy) {
		p.turnTo(g.T, g.cluster)
		p.cut()
	})
	g.truth.heals()
	g.converge(reconnectWithin)
}

// countOn has the API server go on by so many versions: more than its follower counts by itself meanwhile, so that what
// the follower lacks is of versions that it does not reach.
func (g *rig) countOn(versions int) {
	g.Helper()
	for n := range versions {
		g.cluster.PutRaw(g, "configmaps/default/counted", fmt.Sprintf(`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "counted", "namespace": "default"}, "data": {"n": "%d"}}`, n))
	}
}

// restore puts the API server back to a backup, from where the cluster goes on.
func (g *rig) restore() {
	backup := g.cluster.Fork(g, filepath.Join(g.TempDir(), "backup"))
	then := time.Now()
	const many = 30
	for n := range many {
		g.create(fmt.Sprintf("undone-%d", n))
	}
	g.remove("doomed")
	g.converge(2 * time.Second)

	g.truth.breaks()
	undone := g.truth.undo(then)
	g.cluster = backup
	g.each(func(p *proxy) {
		p.turnTo(g.T, backup)
		p.cut()
	})
	g.create("late")
	g.truth.heals()
	g.converge(reconnectWithin)
	g.ours().logs(g, "The API server went back")
	if drift := metric(g, g.ours().server, `coredns_kubezone_drift_total{kind="services"}`); drift < float64(undone) {
		g.Errorf("drift %g; want at least %d", drift, undone)
	}
}
