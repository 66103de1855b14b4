package kube

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

// inProcess carries requests to a handler without a network, so that time can be
// that of a synctest bubble.
type inProcess struct{ http.Handler }

func (h inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), nil
}

// newCheckedFeed is a feed of Services that nothing runs, and its table, which
// holds what the API server has.
func newCheckedFeed(t *testing.T, api *apiServer) (*feed, *table[*corev1.Service, index.Service]) {
	t.Helper()
	client, err := restClient(&rest.Config{Host: "http://api", ContentConfig: rest.ContentConfig{ContentType: runtime.ContentTypeProtobuf}},
		corev1.SchemeGroupVersion, &http.Client{Transport: inProcess{api}})
	if err != nil {
		t.Fatal(err)
	}
	s := newServiceTable()
	lw := &listWatch{client: client, kind: s.report.kind, index: s.index, report: s.report, pace: s.pace, reach: &reachability{}}
	f := newFeed(lw, new(corev1.Service), new(corev1.ServiceList), s)
	f.begin(func() {})
	version, objects := api.moment()
	var items []any
	for _, o := range objects["services"] {
		items = append(items, s.slim(o.(*corev1.Service)))
	}
	s.newest = 0
	if err := s.Replace(items, strconv.FormatUint(version, 10)); err != nil {
		t.Fatal(err)
	}
	return f, s
}

func TestCheck(t *testing.T) {
	const web = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: prod}
spec: {clusterIP: 10.96.0.1}
`
	const faulty = `
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: prod}
spec: {type: ExternalName, externalName: "-"}
`
	type serviceTable = table[*corev1.Service, index.Service]
	// deliver gives the table what the API server has under the name, as a late event.
	deliver := func(api *apiServer, s *serviceTable, name string) {
		_, objects := api.moment()
		if o, ok := objects["services"][name]; ok {
			_ = s.Add(o) // of the right type
		}
	}
	for _, c := range []struct {
		name   string
		change func(*testing.T, *apiServer, *serviceTable)
		drift  int
		relist bool
	}{
		{"nothing", func(*testing.T, *apiServer, *serviceTable) {}, 0, false},
		{"an addition was lost", func(t *testing.T, api *apiServer, _ *serviceTable) { api.apply(t, web) }, 1, true},
		{"a change was lost", func(t *testing.T, api *apiServer, _ *serviceTable) { api.apply(t, prod) }, 1, true},
		{"a deletion was lost", func(t *testing.T, api *apiServer, _ *serviceTable) { api.remove("services", "prod/db") }, 1, true},
		{"an addition is on its way", func(t *testing.T, api *apiServer, s *serviceTable) {
			api.apply(t, web)
			time.AfterFunc(recheckAfter/2, func() { deliver(api, s, "prod/web") })
		}, 0, false},
		{"a deletion is on its way", func(t *testing.T, api *apiServer, s *serviceTable) {
			api.remove("services", "prod/db")
			version, _ := api.moment()
			gone := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "db", ResourceVersion: strconv.FormatUint(version, 10)}}
			time.AfterFunc(recheckAfter/2, func() { _ = s.Delete(gone) }) // of the right type
		}, 0, false},
		{"it came after the list", func(t *testing.T, _ *apiServer, s *serviceTable) {
			if err := s.Add(numbered(1, 1000)); err != nil {
				t.Fatal(err)
			}
			s.newest = 0 // not an API server that went back
		}, 0, false},
		{"an object that the DNS has no use for", func(t *testing.T, api *apiServer, s *serviceTable) {
			api.apply(t, faulty)
			deliver(api, s, "prod/alias")
		}, 0, false},
		{"one that was lost", func(t *testing.T, api *apiServer, s *serviceTable) { api.apply(t, faulty) }, 1, true},
		{"the API server went back", func(t *testing.T, api *apiServer, s *serviceTable) {
			if err := s.Add(numbered(1, 1000)); err != nil {
				t.Fatal(err)
			}
		}, 1, true},
		{"it went back, to the same objects", func(t *testing.T, api *apiServer, s *serviceTable) {
			if err := s.Bookmark("1000"); err != nil {
				t.Fatal(err)
			}
		}, 0, true},
		{"there is trouble", func(t *testing.T, api *apiServer, s *serviceTable) {
			api.apply(t, web)
			s.report.troubled("away")
		}, 0, false},
		{"a list is held back", func(t *testing.T, api *apiServer, s *serviceTable) {
			api.apply(t, web)
			s.report.braked.Store(true)
		}, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			api := newAPIServer(t, prod)
			synctest.Test(t, func(t *testing.T) {
				f, s := newCheckedFeed(t, api)
				c.change(t, api, s)
				f.check(t.Context())
				if s.report.drift != c.drift || f.anew != c.relist {
					t.Errorf("drift %d, relist %t; want %d, %t", s.report.drift, f.anew, c.drift, c.relist)
				}
			})
		})
	}
}

// An API server whose state is restored from a copy may take up the watches of
// before and never tell of what differs.
func TestRestoredAPIServer(t *testing.T) {
	api := newAPIServer(t, prod)
	c := api.config(t)
	c.SelfCheck = 40 * time.Millisecond
	s := openSynced(t, c)
	version, objects := api.moment()
	api.apply(t, `
apiVersion: v1
kind: Service
metadata: {name: ghost, namespace: prod}
spec: {clusterIP: 10.96.0.7}
`)
	ghost := index.ObjectKey{Namespace: "prod", Name: "ghost"}
	eventually(t, "service ghost", func() bool { return s.Index().Service(ghost) != nil })
	api.restore(version, objects)
	eventually(t, "its end", func() bool { return s.Index().Service(ghost) == nil })
	if s.Index().Service(dbKey) == nil || statusOf(s, index.Services).Drift != 1 {
		t.Errorf("db %v, drift %d; want db, and 1", s.Index().Service(dbKey), statusOf(s, index.Services).Drift)
	}
}

// An event of an older version is reason enough.
func TestEventFromThePast(t *testing.T) {
	s := newServiceTable()
	calls := 0
	s.rewound = func() { calls++ }
	s.doubt = s.rewound
	list(t, s, 0, 1, 10)
	for _, step := range []struct {
		name string
		do   func() error
		want int
	}{
		{"a newer event", func() error { return s.Add(numbered(1, 11)) }, 0},
		{"a bookmark", func() error { return s.Bookmark("15") }, 0},
		{"an older event", func() error { return s.Update(numbered(1, 14)) }, 1},
		{"an older bookmark", func() error { return s.Bookmark("13") }, 2},
		{"an older list", func() error { return s.Replace(nil, "5") }, 3},
		{"an event after it", func() error { return s.Add(numbered(1, 6)) }, 3},
	} {
		if err := step.do(); err != nil || calls != step.want {
			t.Errorf("%s: %v, %d calls; want %d", step.name, err, calls, step.want)
		}
	}
}

// Each kind has its turn, and a doubt makes all of them have it soon.
func TestCheckIsSpread(t *testing.T) {
	api := newAPIServer(t, prod)
	synctest.Test(t, func(t *testing.T) {
		a, _ := newCheckedFeed(t, api)
		b, _ := newCheckedFeed(t, api)
		check := newSelfCheck(10*time.Minute, []*feed{a, b})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { check.run(ctx) })
		defer running.Wait()
		defer cancel()
		lists := func() int { return len(api.asked("services")) }
		time.Sleep(time.Hour)
		if n := lists(); n < 10 || n > 14 {
			t.Errorf("%d lists in an hour; want 12", n)
		}
		before := lists()
		check.returned()
		time.Sleep(returnLatest)
		synctest.Wait()
		if n := lists() - before; n < 2 || n > 3 {
			t.Errorf("%d lists after the API server came back; want one for each kind, and that whose turn it may have been", n)
		}
	})
}
