package kube

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

const imported = prod + `
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceImport
metadata: {name: db, namespace: prod}
spec: {type: Headless, ports: [{name: sql, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-east, namespace: prod, labels: {multicluster.kubernetes.io/service-name: db, multicluster.kubernetes.io/source-cluster: east}}
addressType: IPv4
ports: [{name: sql, port: 5432, protocol: TCP}]
endpoints:
- {addresses: [10.1.0.1], hostname: db-0}
- {addresses: [10.1.0.2]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-nowhere, namespace: prod, labels: {multicluster.kubernetes.io/service-name: db}}
addressType: IPv4
endpoints:
- {addresses: [10.1.0.3]}
`

// importing is the config of a Store that follows ServiceImports too.
func (a *apiServer) importing(t *testing.T) Config {
	c := a.config(t)
	c.Imports = true
	return c
}

func importStatus(s *Store, k kind) KindStatus {
	list := s.Status()
	return list[slices.IndexFunc(list, func(st KindStatus) bool { return st.Name() == k.String() })]
}

func TestImports(t *testing.T) {
	for _, c := range []struct {
		name      string
		versions  []string
		streaming bool
		refusal   *metav1.Status // of the question for versions
		want      string
	}{
		{"both versions", []string{"v1beta1", "v1alpha1"}, true, nil, "v1beta1"},
		{"both versions, pages", []string{"v1beta1", "v1alpha1"}, false, nil, "v1beta1"},
		{"the older version", []string{"v1alpha1"}, true, nil, "v1alpha1"},
		{"a version to come", []string{"v1", "v1beta1"}, true, nil, "v1beta1"},
		{"versions are a secret", []string{"v1alpha1"}, true, status(http.StatusForbidden, metav1.StatusReasonForbidden, "no"), "v1alpha1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			api := newAPIServer(t, imported)
			api.streaming = c.streaming
			api.install(c.versions...)
			api.refuseAll(mcs.GroupName, c.refusal)
			s := openSynced(t, api.importing(t))
			x := s.Imports()
			st := x.Service(dbKey)
			if st == nil || st.Service.Type != index.Headless || st.Len(index.IPv4, "") != 2 || !st.InCluster("east") {
				t.Fatalf("import = %+v; want headless with two endpoints in east", st)
			}
			if !x.Labelled(st, "db-0.east", index.IPv4, func(netip.Addr) {}) {
				t.Error("no endpoint db-0.east")
			}
			if !x.HasNamespace("prod") {
				t.Error("no namespace prod among the imports")
			}
			if own := s.Index().Service(dbKey); own.Len(index.IPv4, "") != 1 || s.Index().HasOwners(netip.MustParseAddr("10.1.0.1")) {
				t.Errorf("imports show in the cluster's own service: %+v", own)
			}
			for _, r := range api.asked("serviceimports") {
				if !strings.Contains(r.path, "/"+c.want+"/") {
					t.Errorf("asked for %s; want version %s", r.path, c.want)
				}
			}

			api.apply(t, `{apiVersion: multicluster.x-k8s.io/v1beta1, kind: ServiceImport, metadata: {name: web, namespace: prod}, spec: {type: ClusterSetIP, ips: [10.2.0.1]}}`)
			web := index.ObjectKey{Namespace: "prod", Name: "web"}
			eventually(t, "import web", func() bool { return x.Service(web) != nil })
			if x.Serial() != api.version {
				t.Errorf("serial = %d; want %d, that of the import", x.Serial(), api.version)
			}
			api.remove("serviceimports", "prod/web")
			eventually(t, "its deletion", func() bool { return x.Service(web) == nil })
			api.apply(t, `{apiVersion: v1, kind: Namespace, metadata: {name: dev}}`)
			eventually(t, "namespace dev", func() bool { return x.HasNamespace("dev") && s.Index().HasNamespace("dev") })
			api.remove("namespaces", "/dev")
			eventually(t, "its deletion", func() bool { return !x.HasNamespace("dev") && !s.Index().HasNamespace("dev") })
			for k, want := range map[kind]int{serviceImports: 1, importedSlices: 1, {Kind: index.Services}: 1, {Kind: index.EndpointSlices}: 1} {
				if st := importStatus(s, k); st.Objects != want || !st.Synced || st.Relists != 0 || st.LastError != "" {
					t.Errorf("%s: %+v; want %d objects", k, st, want)
				}
			}
			if st := importStatus(s, importedSlices); st.SkippedBy[string(badCluster)] != 1 {
				t.Errorf("skipped = %v; want the slice without a cluster", st.SkippedBy)
			}
		})
	}
}

// The API server selects what is shown, and of slices only those of imports.
func TestImportSelectors(t *testing.T) {
	api := newAPIServer(t, imported)
	api.install("v1beta1")
	c := api.importing(t)
	c.Labels, c.NamespaceLabels = "app=web", "team=a"
	s := openSynced(t, c)
	if n := s.Imports().Count(index.Services); n != 0 {
		t.Errorf("%d imports; want none, as their own labels do not match", n)
	}
	for _, r := range api.asked("serviceimports") {
		if got := r.query.Get("labelSelector"); got != c.Labels {
			t.Errorf("imports are selected by %q; want %q, not the selector of namespaces", got, c.Labels)
		}
	}
	selectors := map[string]bool{}
	for _, r := range api.asked("endpointslices") {
		selectors[r.query.Get("labelSelector")] = true
	}
	if len(selectors) != 2 || !selectors[""] || !selectors[mcs.LabelServiceName] {
		t.Errorf("slices are selected by %v", selectors)
	}
	if s.Imports().HasNamespace("prod") {
		t.Error("a namespace that is not selected is shown")
	}
}

// Without the API nothing is imported, which is known at once, and all else is
// as ever.
func TestNoImportAPI(t *testing.T) {
	logged := captureLog(t)
	api := newAPIServer(t, prod)
	s := openSynced(t, api.importing(t))
	if !s.Imports().Holds(index.Services) || s.Imports().Service(dbKey) != nil || s.Index().Service(dbKey) == nil {
		t.Error("want no imports, and to know that")
	}
	if !s.Imports().HasNamespace("prod") {
		t.Error("no namespace prod among the imports")
	}
	st := importStatus(s, serviceImports)
	if !st.Synced || st.Relists != 0 || st.LastEvent.IsZero() || !strings.Contains(st.LastError, "install the CustomResourceDefinitions") {
		t.Errorf("status = %+v", st)
	}
	if n := logged.count("install the CustomResourceDefinitions"); n != 1 {
		t.Errorf("%d lines of the log say what to install; want 1", n)
	}
	if n := len(api.asked("serviceimports")); n != 0 {
		t.Errorf("%d requests for what is not there", n)
	}
}

// Without the right to ServiceImports they alone are not known, and nothing waits
// for them.
func TestImportsForbidden(t *testing.T) {
	logged := captureLog(t)
	api := newAPIServer(t, imported)
	api.install("v1beta1")
	api.refuseAll("serviceimports", status(http.StatusForbidden, metav1.StatusReasonForbidden, "no"))
	s := openSynced(t, api.importing(t))
	if s.Imports().Holds(index.Services) || !s.Complete() || s.Index().Service(dbKey) == nil {
		t.Error("want all but the imports")
	}
	const want = `cannot watch resource "serviceimports" in API group "multicluster.x-k8s.io": add list and watch on serviceimports to the ClusterRole`
	eventually(t, "several attempts", func() bool { return len(api.asked("serviceimports")) > 2 })
	if st := importStatus(s, serviceImports); st.Synced || !strings.Contains(st.LastError, want) {
		t.Errorf("status = %+v", st)
	}
	if n := logged.count(want); n != 1 {
		t.Errorf("%d lines of the log name the right; want 1", n)
	}
	api.refuseAll("serviceimports", nil)
	eventually(t, "the imports", func() bool { return s.Imports().Service(dbKey) != nil })
	if st := importStatus(s, serviceImports); !st.Synced || st.LastError != "" {
		t.Errorf("status after healing = %+v", st)
	}
}

// A version that the API server stops to serve is given up for another.
func TestImportVersionChanges(t *testing.T) {
	api := newAPIServer(t, imported)
	api.install("v1alpha1")
	s := openSynced(t, api.importing(t))
	api.install("v1beta1")
	api.cutWatches()
	api.apply(t, `{apiVersion: multicluster.x-k8s.io/v1beta1, kind: ServiceImport, metadata: {name: web, namespace: prod}, spec: {type: ClusterSetIP, ips: [10.2.0.1]}}`)
	eventually(t, "import web", func() bool {
		return s.Imports().Service(index.ObjectKey{Namespace: "prod", Name: "web"}) != nil
	})
	if s.Imports().Service(dbKey) == nil {
		t.Error("the other import is gone")
	}
}

func TestManifestImports(t *testing.T) {
	file := t.TempDir() + "/clusterset.yaml"
	writeFile(t, file, strings.Split(imported, "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: db-nowhere")[0])
	for _, imports := range []bool{true, false} {
		s := open(t, Config{Manifests: []string{file}, Slices: true, Imports: imports})
		if st := s.Imports().Service(dbKey); (st != nil) != imports {
			t.Errorf("imports %v: %v", imports, st)
		}
		if s.Index().Service(dbKey).Len(index.IPv4, "") != 1 {
			t.Errorf("imports %v: the cluster's own service has %d endpoints; want 1", imports, s.Index().Service(dbKey).Len(index.IPv4, ""))
		}
	}
	writeFile(t, file, serviceImport(`type: ClusterSetIP, ips: [x]`))
	if _, err := Open(Config{Manifests: []string{file}, Imports: true}); err == nil || !strings.Contains(err.Error(), `clusterset.yaml:1: ServiceImport prod/x: ip "x"`) {
		t.Errorf("error = %v; want one that names file, line, import and address", err)
	}
	open(t, Config{Manifests: []string{file}}) // does not care
}

// An API that is not there is looked for slowly, and found within half a minute.
func TestSeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		versions := []string{}
		requests := 0
		client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			requests++
			var body any = status(http.StatusNotFound, metav1.StatusReasonNotFound, "not found")
			code := http.StatusNotFound
			if len(versions) > 0 {
				group := &metav1.APIGroup{TypeMeta: typeMeta("v1", "APIGroup"), Name: mcs.GroupName}
				for _, v := range versions {
					group.Versions = append(group.Versions, metav1.GroupVersionForDiscovery{GroupVersion: mcs.GroupName + "/" + v, Version: v})
				}
				body, code = group, http.StatusOK
			}
			text, err := json.Marshal(body)
			return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {runtime.ContentTypeJSON}}, Body: io.NopCloser(strings.NewReader(string(text)))}, err
		})}
		clients, err := importClients(&rest.Config{Host: "https://api"}, client)
		if err != nil {
			t.Fatal(err)
		}
		x := index.New(index.Options{})
		done := make(chan struct{})
		lw := &listWatch{kind: serviceImports, report: newReport(serviceImports, &countdown{left: 1, done: done}), pace: new(pace)}
		s := &importSeeker{listWatch: lw, clients: clients, index: x, pace: pace{turns: new(turns)}}
		for range 10 {
			if s.seek(t.Context()) {
				t.Fatal("found an API that is not there")
			}
		}
		<-done
		began, before := time.Now(), requests
		for range 10 {
			s.seek(t.Context())
		}
		if each := time.Since(began) / time.Duration(requests-before); each < absentPause || each > 30*time.Second {
			t.Errorf("a look every %v; want %v to 30 s", each, absentPause)
		}
		versions = []string{"v1alpha1"}
		if !s.seek(t.Context()) || lw.client != clients["v1alpha1"] {
			t.Error("the API that is there now is not found")
		}
		x.ReplaceServices([]*index.Service{{ObjectKey: dbKey}}, 1)
		versions = nil
		if s.seek(t.Context()); x.Service(dbKey) == nil {
			t.Error("one look that found no API took the imports away")
		}
		if s.seek(t.Context()); x.Service(dbKey) != nil {
			t.Error("imports of an API that is gone are still there")
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		began = time.Now()
		if s.seek(ctx) || time.Since(began) > 5*time.Second {
			t.Errorf("a look that was cancelled took %v", time.Since(began))
		}
	})
}
