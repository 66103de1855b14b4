package kube

import (
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// withCIDRs starts a server that has ServiceCIDRs outside of private space.
func withCIDRs(t *testing.T) *apiServer {
	t.Helper()
	api := newAPIServer(t, prod)
	api.cidrs = []string{"198.18.0.0/16", "2001:db8:96::/112"}
	return api
}

func checkCIDRs(t *testing.T, s *Store, want ...string) {
	t.Helper()
	var got []string
	for _, p := range s.ServiceCIDRs() {
		got = append(got, p.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("ServiceCIDRs = %v; want %v", got, want)
	}
}

// ServiceCIDRs are known before Services are, once, whatever else is refused.
func TestServiceCIDRs(t *testing.T) {
	api := withCIDRs(t)
	api.refuseAll("services", status(http.StatusInternalServerError, "", ""))
	fails := 2
	api.refuse["servicecidrs"] = func(*http.Request) *metav1.Status {
		if fails--; fails >= 0 {
			return status(http.StatusServiceUnavailable, "", "")
		}
		return nil
	}
	s := open(t, api.config(t))
	eventually(t, "ServiceCIDRs", func() bool { return len(s.ServiceCIDRs()) > 0 })
	checkCIDRs(t, s, api.cidrs...)
	if s.Synced() {
		t.Error("synced without services")
	}
	if n := len(api.asked("servicecidrs")); n != 3 {
		t.Errorf("%d requests for ServiceCIDRs; want 3, of which 2 failed", n)
	}
}

// An API server without them, or a right that is missing, is told once.
func TestNoServiceCIDRs(t *testing.T) {
	for name, refusal := range map[string]*metav1.Status{"no such API": nil, "no right": status(http.StatusForbidden, metav1.StatusReasonForbidden, "not allowed")} {
		t.Run(name, func(t *testing.T) {
			api := newAPIServer(t, prod)
			api.refuseAll("servicecidrs", refusal)
			log := captureLog(t)
			s := openSynced(t, api.config(t))
			eventually(t, "a line of the log", func() bool { return log.count("ServiceCIDRs are not known") == 1 })
			s.Close()
			if n := len(api.asked("servicecidrs")); n != 1 {
				t.Errorf("%d requests for ServiceCIDRs; want 1", n)
			}
			checkCIDRs(t, s)
		})
	}
}

// A snapshot keeps them, also one that is too old for its objects to be used.
func TestSnapshotKeepsServiceCIDRs(t *testing.T) {
	api := withCIDRs(t)
	c := written(t, api)
	refused := status(http.StatusInternalServerError, "", "")
	api.refuseAll("services", refused)
	api.refuseAll("servicecidrs", refused)
	s := open(t, c)
	checkCIDRs(t, s, api.cidrs...)
	s.Close()

	then := time.Now().Add(-2 * c.Snapshot.MaxStale)
	if err := os.Chtimes(c.Snapshot.File, then, then); err != nil {
		t.Fatal(err)
	}
	s = open(t, c)
	checkCIDRs(t, s, api.cidrs...)
	if s.Index().Service(dbKey) != nil {
		t.Error("the objects of a snapshot older than max_stale are served")
	}
}
