package kube

import (
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

func TestStates(t *testing.T) {
	api := newAPIServer(t, prod)
	g := newGate(t, api.Listener.Addr().String())
	c := api.config(t)
	c.Kubeconfig = writeKubeconfig(t, "https://"+g.Addr().String(), api.certificate(t), "token: secret")
	c = withSnapshot(t, c)
	log := captureLog(t)
	is := func(s *Store, want State) func() bool {
		return func() bool {
			for _, st := range s.Status() {
				if st.State != want {
					return false
				}
			}
			return true
		}
	}
	age := func(s *Store) time.Duration { return time.Since(statusOf(s, index.Services).AsOf) }

	g.shut()
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	if !is(s, Starting)() || !statusOf(s, index.Services).AsOf.IsZero() {
		t.Errorf("at first %+v; want starting", s.Status())
	}
	g.open()
	eventually(t, "synced", is(s, Synced))
	eventually(t, "a snapshot", func() bool { _, err := os.Stat(c.Snapshot.File); return err == nil })
	g.shut()
	api.cutWatches()
	eventually(t, "stale", is(s, Stale))
	before := age(s)
	eventually(t, "getting old", func() bool { return age(s) > before })
	eventually(t, "one line", func() bool {
		return log.count("Now stale: services, namespaces, endpointslices, pods") == 1
	})
	s.Close()

	s = open(t, c)
	if !is(s, Restored)() || age(s) <= 0 || age(s) > time.Hour {
		t.Errorf("after a restart %+v; want restored, with the age of the snapshot", s.Status())
	}
	g.open()
	eventually(t, "synced again", is(s, Synced))

	api.refuseAll("services", status(http.StatusForbidden, "Forbidden", "no"))
	api.cutWatches()
	eventually(t, "a kind that is refused", func() bool {
		return statusOf(s, index.Services).State == Stale && statusOf(s, index.Namespaces).State == Synced && s.Stale()
	})
	api.refuseAll("services", nil)
	eventually(t, "synced once more", func() bool { return is(s, Synced)() && !s.Stale() })
}
