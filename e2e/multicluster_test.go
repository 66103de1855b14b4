package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubezone/kubezone/e2e/harness"
)

// multicluster serves what other clusters share as well.
var multicluster = strings.NewReplacer(
	"cluster.local in-addr", "cluster.local clusterset.local in-addr",
	"pods insecure", "pods insecure\n\t\tmulticluster clusterset.local").Replace(plain)

var serviceImports = schema.GroupVersionResource{Group: "multicluster.x-k8s.io", Version: "v1beta1", Resource: "serviceimports"}

// A cluster gets the right to ServiceImports, then the API, then objects; the server is there from the beginning.
func TestMulticluster(t *testing.T) {
	t.Parallel()
	const namespace = "shared"
	c := newCluster(t, harness.Options{Families: harness.DualStack})
	c.Apply(t, namespace, "testdata/multicluster/web.yaml")
	ip := c.Service(t, namespace, "web").Spec.ClusterIP
	const (
		own    = "web.shared.svc.cluster.local. A"
		web    = "web.shared.svc.clusterset.local. A"
		db     = "db.shared.svc.clusterset.local. A"
		direct = "db-0.west.db.shared.svc.clusterset.local. A"
	)
	expect := func(s *harness.Server, answers ...string) {
		t.Helper()
		for i := 0; i < len(answers); i += 2 {
			s.Expect(t, answers[i], answers[i+1])
		}
	}

	// Without the API, and without the right to it, there is nothing in the zone.
	s := serve(t, c, multicluster)
	expect(s, own, "A "+ip, web, "NXDOMAIN", "shared.svc.clusterset.local. A", "NODATA",
		"clusterset.local. A", "NODATA", "dns-version.clusterset.local. TXT", `TXT "1.0.0"`)
	const complaint = "does not have the API group multicluster.x-k8s.io"
	if n := strings.Count(s.Log(), complaint); n != 1 {
		t.Errorf("%d lines of the log say that the API is missing; want 1", n)
	}

	// With the API, but without the right, what is in the zone is not known.
	c.Apply(t, "default", "testdata/multicluster/definition.yaml")
	imported, err := os.ReadFile("testdata/multicluster/imports.yaml")
	if err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, harness.SettleWithin, func() error { return c.ApplyYAML(t.Context(), namespace, string(imported)) })
	stranger := serve(t, c, multicluster)
	expect(stranger, own, "A "+ip, web, "SERVFAIL", "clusterset.local. A", "NODATA")
	harness.Eventually(t, 10*time.Second, func() error {
		if n := strings.Count(stranger.Log(), "add list and watch on serviceimports to the ClusterRole"); n != 1 {
			return fmt.Errorf("%d lines of the log name the right that is missing; want 1", n)
		}
		return nil
	})
	status, page, err := stranger.Get(stranger.Metrics + "/metrics")
	if err != nil || status != http.StatusOK || !strings.Contains(page, `coredns_kubezone_synced{kind="serviceimports"} 0`) {
		t.Errorf("metrics: %d, %v; want serviceimports not synced", status, err)
	}

	// With both it is, for each server within half a minute.
	if err := c.GrantRights(t.Context(), "..", "multicluster"); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*harness.Server{s, stranger, serve(t, c, multicluster)} {
		s.ExpectWithin(t, 30*time.Second, web, "A 10.112.0.10")
		expect(s, own, "A "+ip,
			"web.shared.svc.clusterset.local. AAAA", "AAAA fd00:112::10",
			"_http._tcp.web.shared.svc.clusterset.local. SRV", "SRV 80 web.shared.svc.clusterset.local.",
			"web-0.east.web.shared.svc.clusterset.local. A", "NXDOMAIN",
			db, "A 10.1.1.10, A 10.2.1.10",
			direct, "A 10.2.1.10",
			"db-1.east.db.shared.svc.clusterset.local. A", "NXDOMAIN",
			"db-0.db.shared.svc.clusterset.local. A", "NXDOMAIN",
			"west.db.shared.svc.clusterset.local. A", "NODATA",
			"_pg._tcp.db.shared.svc.clusterset.local. SRV", "SRV 5432 db-0.east.db.shared.svc.clusterset.local., SRV 5432 db-0.west.db.shared.svc.clusterset.local.",
			"db.shared.svc.cluster.local. A", "NXDOMAIN",
			harness.Reverse("10.112.0.10")+" PTR", "NXDOMAIN",
			harness.Reverse("10.1.1.10")+" PTR", "NXDOMAIN",
			harness.Reverse(ip)+" PTR", "PTR web.shared.svc.cluster.local.")
	}

	// Changes are followed, and the end of it all too.
	imports := c.Dynamic.Resource(serviceImports).Namespace(namespace)
	if err := c.Client.DiscoveryV1().EndpointSlices(namespace).Delete(t.Context(), "db-west", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.ExpectWithin(t, 10*time.Second, db, "A 10.1.1.10")
	s.Expect(t, direct, "NXDOMAIN")
	if err := imports.Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.ExpectWithin(t, 10*time.Second, web, "NXDOMAIN")
	definitions := c.Dynamic.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	if err := definitions.Delete(t.Context(), "serviceimports.multicluster.x-k8s.io", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.ExpectWithin(t, 60*time.Second, db, "NXDOMAIN")
	expect(s, own, "A "+ip)
}
