package kube

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

const prod = `
apiVersion: v1
kind: Namespace
metadata: {name: prod}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: prod}
spec: {clusterIP: None, ports: [{name: sql, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: prod, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: sql, port: 5432, protocol: TCP}]
endpoints:
- {addresses: [10.0.0.1], hostname: db-0}
- {addresses: [10.0.0.2], hostname: db-1, conditions: {ready: false}}
---
apiVersion: v1
kind: Pod
metadata: {name: db-0, namespace: prod}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}
`

var dbKey = index.ObjectKey{Namespace: "prod", Name: "db"}

func TestFollow(t *testing.T) {
	for _, c := range []struct {
		name, media string
		streaming   bool
	}{
		{"streamed lists, protobuf", runtime.ContentTypeProtobuf, true},
		{"streamed lists, JSON", runtime.ContentTypeJSON, true},
		{"pages, protobuf", runtime.ContentTypeProtobuf, false},
		{"pages, JSON", runtime.ContentTypeJSON, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			api := newAPIServer(t, prod)
			api.media, api.streaming = c.media, c.streaming
			s := openSynced(t, api.config(t))
			x := s.Index()
			if !x.HasNamespace("prod") {
				t.Error("no namespace prod")
			}
			st := x.Service(dbKey)
			if st == nil || st.Service.Type != index.Headless || st.Len(index.IPv4, "") != 1 {
				t.Fatalf("service = %+v; want headless with one ready endpoint", st)
			}
			if len(x.PodsIn("prod", netip.MustParseAddr("10.0.0.1"))) == 0 {
				t.Error("no pod at 10.0.0.1")
			}
			if x.Serial() != api.version {
				t.Errorf("serial = %d; want %d, that of the list", x.Serial(), api.version)
			}

			api.apply(t, `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: prod}
spec: {clusterIP: 10.96.0.1}
`)
			web := index.ObjectKey{Namespace: "prod", Name: "web"}
			eventually(t, "service web", func() bool { return x.Service(web) != nil })
			api.apply(t, `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: prod}
spec: {clusterIP: 10.96.0.2}
`)
			eventually(t, "its other address", func() bool { return x.HasOwners(netip.MustParseAddr("10.96.0.2")) })
			api.remove("services", "prod/web")
			eventually(t, "its deletion", func() bool { return x.Service(web) == nil })
			if x.Serial() != api.version {
				t.Errorf("serial = %d; want %d, that of the deletion", x.Serial(), api.version)
			}
			for _, st := range s.Status() {
				if !st.Synced || st.Relists != 0 || st.LastError != "" || st.LastEvent.IsZero() {
					t.Errorf("status = %+v", st)
				}
			}
		})
	}
}

// A relist takes over what changed and leaves alone what did not.
func TestRelistShares(t *testing.T) {
	for _, streaming := range []bool{true, false} {
		t.Run(fmt.Sprintf("streaming %v", streaming), func(t *testing.T) {
			api := newAPIServer(t, prod+`
---
apiVersion: v1
kind: Service
metadata: {name: gone, namespace: prod}
spec: {clusterIP: 10.96.0.9}
`)
			api.streaming = streaming
			s := openSynced(t, api.config(t))
			x := s.Index()
			before := x.Service(dbKey)
			api.refuseAll("services", status(http.StatusServiceUnavailable, "", "starting"))
			api.cutWatches()
			api.remove("services", "prod/gone")
			api.apply(t, `
apiVersion: v1
kind: Service
metadata: {name: new, namespace: prod}
spec: {clusterIP: 10.96.0.10}
`)
			api.compact()
			api.refuseAll("services", nil)
			eventually(t, "relist", func() bool { return statusOf(s, index.Services).Relists == 1 })
			if x.Service(index.ObjectKey{Namespace: "prod", Name: "gone"}) != nil {
				t.Error("a Service deleted while the watch was away is still there")
			}
			if x.Service(index.ObjectKey{Namespace: "prod", Name: "new"}) == nil {
				t.Error("a Service made while the watch was away is not there")
			}
			if x.Service(dbKey) != before {
				t.Error("the state of an unchanged Service was built anew")
			}
		})
	}
}

func statusOf(s *Store, k index.Kind) KindStatus {
	for _, st := range s.Status() {
		if st.Kind == k {
			return st
		}
	}
	return KindStatus{}
}

// A watch that is cut goes on from where it was, at once.
func TestCutWatchResumes(t *testing.T) {
	api := newAPIServer(t, prod)
	s := openSynced(t, api.config(t))
	for i := range 3 {
		api.cutWatches()
		name := fmt.Sprintf("web%d", i)
		api.apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: prod}
spec: {clusterIP: 10.96.0.%d}
`, name, i+1))
		eventually(t, name, func() bool {
			return s.Index().Service(index.ObjectKey{Namespace: "prod", Name: name}) != nil
		})
	}
	if n := statusOf(s, index.Services).Relists; n != 0 {
		t.Errorf("relists = %d; want 0", n)
	}
}

func TestPages(t *testing.T) {
	api := newAPIServer(t, "")
	api.streaming = false
	const pods = 2*pageSize + 1
	for i := range pods {
		api.put(&corev1.Pod{
			TypeMeta:   typeMeta("v1", "Pod"),
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pod-%d", i), Namespace: "prod"},
			Status:     corev1.PodStatus{PodIP: fmt.Sprintf("10.1.%d.%d", i/250, i%250)},
		})
	}
	s := openSynced(t, api.config(t))
	if n := statusOf(s, index.Pods).Objects; n != pods {
		t.Errorf("pods = %d; want %d", n, pods)
	}
	pages := 0
	for _, r := range api.asked("pods") {
		if !r.isWatch() {
			pages++
			if got := r.query.Get("limit"); got != strconv.Itoa(pageSize) {
				t.Errorf("limit = %s; want %d", got, pageSize)
			}
			if got := r.query.Get("resourceVersion"); got != "" {
				t.Errorf("resourceVersion = %q; want none, since a cached list comes in one piece", got)
			}
		}
	}
	if pages != 3 {
		t.Errorf("pages = %d; want 3", pages)
	}
}

// What hides is selected by the API server, what does not is not.
func TestSelectors(t *testing.T) {
	api := newAPIServer(t, prod+`
---
apiVersion: v1
kind: Pod
metadata: {name: done, namespace: prod, labels: {app: web}}
status: {phase: Succeeded, podIP: 10.0.0.9}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: prod, labels: {app: web}}
spec: {clusterIP: 10.96.0.1}
`)
	c := api.config(t)
	c.Labels, c.NamespaceLabels = "app=web", "team=a"
	s := openSynced(t, c)
	x := s.Index()
	if n := x.Count(index.Services); n != 1 {
		t.Errorf("services = %d; want 1", n)
	}
	if n := x.Count(index.Namespaces); n != 0 {
		t.Errorf("namespaces = %d; want 0", n)
	}
	if n := x.Count(index.EndpointSlices); n != 1 {
		t.Errorf("slices = %d; want 1, as slices do not carry their Service's labels", n)
	}
	pods := x.PodsAt(netip.MustParseAddr("10.0.0.1"))
	if len(pods) != 1 || !pods[0].Hidden {
		t.Errorf("pods at 10.0.0.1 = %v; want one that is hidden", pods)
	}
	if len(x.PodsAt(netip.MustParseAddr("10.0.0.9"))) != 0 {
		t.Error("a pod that has ended is there")
	}
	if st := x.Service(index.ObjectKey{Namespace: "prod", Name: "web"}); st != nil {
		t.Error("a Service of a namespace that is not selected is shown")
	}
}

// Each refusal heals by itself, and keeps the other kinds going.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		status *metav1.Status
		want   string // in LastError
	}{
		{"no right", status(http.StatusForbidden, metav1.StatusReasonForbidden, "no"),
			`cannot watch resource "endpointslices" in API group "discovery.k8s.io": add list and watch on endpointslices to the ClusterRole`},
		{"bad token", status(http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "Unauthorized"), "does not accept our credentials"},
		{"no such resource", status(http.StatusNotFound, metav1.StatusReasonNotFound, "not found"), "has no such resource"},
		{"broken server", status(http.StatusInternalServerError, metav1.StatusReasonInternalError, "oops"), "status 500"},
		{"server going away", status(http.StatusServiceUnavailable, "", "apiserver is shutting down"), "status 503"},
		{"busy server", status(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "busy"), "status 429"},
	} {
		t.Run(c.name, func(t *testing.T) {
			logged := captureLog(t)
			api := newAPIServer(t, prod)
			api.refuseAll("endpointslices", c.status)
			s := open(t, api.config(t))
			eventually(t, "the trouble", func() bool {
				return strings.Contains(statusOf(s, index.EndpointSlices).LastError, c.want)
			})
			eventually(t, "the other kinds", func() bool {
				x := s.Index()
				return x.Holds(index.Services) && x.Holds(index.Namespaces) && x.Holds(index.Pods)
			})
			if s.Synced() || s.Index().Holds(index.EndpointSlices) {
				t.Error("synced without slices")
			}
			eventually(t, "several attempts", func() bool { return len(api.asked("endpointslices")) > 2 })
			if n := logged.count(c.want); n != 1 {
				t.Errorf("%d lines of the log say %q; want 1", n, c.want)
			}
			api.refuseAll("endpointslices", nil)
			eventually(t, "healing", s.Synced)
			if got := statusOf(s, index.EndpointSlices).LastError; got != "" {
				t.Errorf("trouble after healing: %s", got)
			}
		})
	}
}

// An API server that names a time to come back is left alone until then.
func TestRetryAfter(t *testing.T) {
	api := newAPIServer(t, prod)
	busy := status(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "busy")
	busy.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
	api.refuseAll("services", busy)
	s := open(t, api.config(t))
	eventually(t, "a refusal", func() bool { return statusOf(s, index.Services).LastError != "" })
	api.refuseAll("services", nil)
	eventually(t, "sync", s.Synced)
	asked := api.asked("services")
	if d := asked[1].at.Sub(asked[0].at); d < time.Second {
		t.Errorf("asked again after %v; want no sooner than 1s", d)
	}
}

// A token that expired is read again from its file.
func TestTokenRotation(t *testing.T) {
	api := newAPIServer(t, prod)
	accepted := "old"
	api.refuse["services"] = func(r *http.Request) *metav1.Status {
		api.mu.Lock()
		defer api.mu.Unlock()
		if r.Header.Get("Authorization") == "Bearer "+accepted {
			return nil
		}
		return status(http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "Unauthorized")
	}
	token := filepath.Join(t.TempDir(), "token")
	writeFile(t, token, "")
	c := api.config(t)
	c.Kubeconfig = writeKubeconfig(t, api.URL, api.certificate(t), fmt.Sprintf("tokenFile: %q", token))
	logged := captureLog(t)
	s := open(t, c)
	eventually(t, "want of a token", func() bool { return statusOf(s, index.Services).LastError != "" })
	if n := logged.count("Following services: cannot watch"); n != 1 {
		t.Errorf("%d lines about the token that is not there; want 1", n)
	}
	writeFile(t, token, "old\n")
	eventually(t, "sync", s.Synced)

	api.mu.Lock()
	accepted = "new"
	api.mu.Unlock()
	api.cutWatches()
	eventually(t, "refusal", func() bool { return statusOf(s, index.Services).LastError != "" })
	writeFile(t, token, "new\n")
	eventually(t, "acceptance", func() bool { return statusOf(s, index.Services).LastError == "" })
}

// Open does not need an API server; one that goes away is told of once.
func TestUnreachable(t *testing.T) {
	logged := captureLog(t)
	api := newAPIServer(t, prod)
	gate := newGate(t, api.Listener.Addr().String())
	c := api.config(t)
	c.Kubeconfig = writeKubeconfig(t, "https://"+gate.Addr().String(), api.certificate(t), "token: secret")
	gate.shut()
	s := open(t, c)
	eventually(t, "the trouble of every kind", func() bool {
		return !slices.ContainsFunc(s.Status(), func(st KindStatus) bool { return st.LastError == "" })
	})
	if s.Synced() {
		t.Error("synced without an API server")
	}
	if n := logged.count("is away"); n != 1 {
		t.Errorf("%d lines say that the API server is away; want 1", n)
	}
	gate.open()
	eventually(t, "sync", s.Synced)

	relists := statusOf(s, index.Services).Relists
	gate.shut()
	eventually(t, "the loss", func() bool { return statusOf(s, index.Services).LastError != "" })
	api.apply(t, `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: prod}
spec: {clusterIP: 10.96.0.1}
`)
	if s.Index().Service(dbKey) == nil || !s.Synced() {
		t.Error("what was known is gone with the API server")
	}
	gate.open()
	eventually(t, "what changed meanwhile", func() bool {
		return s.Index().Service(index.ObjectKey{Namespace: "prod", Name: "web"}) != nil
	})
	if n := statusOf(s, index.Services).Relists; n != relists {
		t.Errorf("%d relists; want none, as the watch could go on", n-relists)
	}
	if n := logged.count("answers again"); n != 2 && n != 1 {
		t.Errorf("%d lines say that the API server answers again; want one for each time", n)
	}
}

// An API server that vanishes without closing its connections is noticed.
func TestBlackhole(t *testing.T) {
	t.Parallel()
	api := newAPIServer(t, prod)
	gate := newGate(t, api.Listener.Addr().String())
	c := api.config(t)
	c.Kubeconfig = writeKubeconfig(t, "https://"+gate.Addr().String(), api.certificate(t), "token: secret")
	s := openSynced(t, c)
	began := time.Now()
	gate.freeze()
	eventually(t, "the loss", func() bool { return statusOf(s, index.Services).LastError != "" })
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("noticed after %v; want at most 10 s", d)
	}
	gate.shut()
	gate.open()
	eventually(t, "another connection", func() bool { return statusOf(s, index.Services).LastError == "" })
}

func TestSharedStore(t *testing.T) {
	api := newAPIServer(t, prod)
	c := api.config(t)
	c.Namespaces = []string{"prod", "dev"}
	first := openSynced(t, c)
	same := c
	same.Namespaces = []string{"dev", "prod", "dev"}
	second := open(t, same)
	if first != second {
		t.Fatal("equal Configs have two Stores")
	}
	other := c
	other.Pods = false
	headless := other
	headless.HeadlessOnly = true
	third, fourth := open(t, other), open(t, headless)
	if third == first || fourth == first || fourth == third {
		t.Fatal("different Configs share a Store")
	}
	lists := len(api.asked("pods"))
	first.Close()
	api.apply(t, `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: prod}
spec: {clusterIP: 10.96.0.1}
`)
	eventually(t, "an event after the first Close", func() bool {
		return second.Index().Service(index.ObjectKey{Namespace: "prod", Name: "web"}) != nil
	})
	if n := len(api.asked("pods")); n != lists {
		t.Errorf("%d requests for pods after the first Close; want %d", n, lists)
	}
	writeFile(t, c.Kubeconfig, strings.ReplaceAll(readFile(t, c.Kubeconfig), "secret", "another"))
	if changed := open(t, c); changed == second {
		t.Error("a Store is shared although the kubeconfig changed")
	}
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestClosedStoreStops(t *testing.T) {
	api := newAPIServer(t, prod)
	s, err := Open(api.config(t))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s.Close()
	again := openSynced(t, api.config(t))
	if again == s {
		t.Error("a closed Store was opened again")
	}
}

func TestProgrammingLatency(t *testing.T) {
	var mu sync.Mutex // guards seen
	seen := map[string][]time.Duration{}
	SetObserver(Observer{Programmed: func(kind string, d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		seen[kind] = append(seen[kind], d)
	}})
	defer SetObserver(Observer{})
	api := newAPIServer(t, prod)
	s := openSynced(t, api.config(t))
	ago := time.Now().Add(-2 * time.Second).UTC()
	created := ago.Format(time.RFC3339)
	api.apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: web, namespace: prod, creationTimestamp: %[1]q}
spec: {clusterIP: 10.96.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: free, namespace: prod, creationTimestamp: %[1]q}
spec: {clusterIP: None}
---
apiVersion: v1
kind: Service
metadata: {name: bound, namespace: prod, creationTimestamp: %[1]q}
spec: {clusterIP: None, selector: {app: bound}}
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: prod, creationTimestamp: %[1]q}
spec: {type: ExternalName, externalName: example.org}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: db-1
  namespace: prod
  labels: {kubernetes.io/service-name: db}
  annotations: {endpoints.kubernetes.io/last-change-trigger-time: %[2]q}
addressType: IPv4
endpoints: [{addresses: [10.0.0.3]}]
`, created, ago.Format(time.RFC3339Nano)))
	eventually(t, "the last changes", func() bool {
		return s.Index().Service(index.ObjectKey{Namespace: "prod", Name: "alias"}) != nil &&
			s.Index().HasOwners(netip.MustParseAddr("10.0.0.3"))
	})
	for _, kind := range []string{kindClusterIP, kindHeadlessWithoutSelector, kindHeadlessWithSelector} {
		eventually(t, kind, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(seen[kind]) == 1
		})
		if d := seen[kind][0]; d < 2*time.Second || d > patience {
			t.Errorf("latency of %s = %v; want a little more than 2s", kind, d)
		}
	}
}

// What is not valid is left out, counted once, and said once.
func TestSkipped(t *testing.T) {
	logged := captureLog(t)
	api := newAPIServer(t, prod)
	bad := strings.ReplaceAll(slice("IPv4", "null", "{addresses: [10.0.0.8]}, {addresses: [010.0.0.9]}, {addresses: [10.0.0.300]}"), "x", "db")
	api.apply(t, bad)
	s := openSynced(t, api.config(t))
	check := func(what string, want int) {
		t.Helper()
		eventually(t, what, func() bool { return statusOf(s, index.EndpointSlices).Skipped == want })
		if got := statusOf(s, index.EndpointSlices).SkippedBy; got[string(badAddress)] != want {
			t.Errorf("%s: skipped by reason %v; want %d addresses", what, got, want)
		}
	}
	check("the first list", 2)
	if !s.Index().HasOwners(netip.MustParseAddr("10.0.0.8")) {
		t.Error("the valid neighbour of an invalid address is not there")
	}
	if n := logged.count(`Skipped in endpointslices prod/db-1: address "010.0.0.9": want an IPv4 address`); n != 1 {
		t.Errorf("%d lines about it; want 1", n)
	}

	api.apply(t, bad)
	api.apply(t, `{apiVersion: v1, kind: Service, metadata: {name: later, namespace: prod}, spec: {clusterIP: 10.96.0.1}}`)
	api.compact()
	api.cutWatches()
	eventually(t, "a relist", func() bool { return statusOf(s, index.EndpointSlices).Relists > 0 })
	check("the same again", 2)

	api.remove("endpointslices", "prod/db-1")
	eventually(t, "its deletion", func() bool { return !s.Index().HasOwners(netip.MustParseAddr("10.0.0.8")) })
	api.apply(t, bad)
	check("another of the name", 4)
}

// An object that becomes invalid is taken away as a deleted one would be.
func TestBecomesInvalid(t *testing.T) {
	api := newAPIServer(t, prod)
	s := openSynced(t, api.config(t))
	api.apply(t, `{apiVersion: v1, kind: Service, metadata: {name: db, namespace: prod}, spec: {type: ExternalName, externalName: "a b"}}`)
	eventually(t, "it is gone", func() bool { return s.Index().Service(dbKey) == nil })
	if s.Index().Serial() != api.version {
		t.Errorf("serial = %d; want %d", s.Index().Serial(), api.version)
	}
}
