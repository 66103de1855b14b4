package e2e

import (
	"fmt"
	"testing"

	"github.com/kubezone/kubezone/e2e/harness"
)

// Objects that no API server of today would accept, as an old one or a broken tool leaves them behind.
const (
	brokenSlice = `{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
		"metadata": {"name": "broken", "namespace": "broken", "uid": "5a8d1b1e-0000-4000-8000-000000000001",
			"creationTimestamp": "2020-01-01T00:00:00Z", "labels": {"kubernetes.io/service-name": "database"}},
		"addressType": "IPv4", "ports": [{"name": "postgres", "port": 5432, "protocol": "TCP"}],
		"endpoints": [{"addresses": ["192.0.2.300"]}, {"addresses": ["2001:db8::66"]}, {"addresses": ["not an address"]}, {"addresses": []}]}`
	brokenService = `{"apiVersion": "v1", "kind": "Service",
		"metadata": {"name": "broken", "namespace": "broken", "uid": "5a8d1b1e-0000-4000-8000-000000000002",
			"creationTimestamp": "2020-01-01T00:00:00Z"},
		"spec": {"type": "ClusterIP", "clusterIP": "10.96.300.1", "clusterIPs": ["10.96.300.1"], "ipFamilies": ["IPv4"],
			"ipFamilyPolicy": "SingleStack", "ports": [{"name": "web", "port": 80, "protocol": "TCP", "targetPort": 80}]}}`
)

// An object with an invalid address costs itself only, whether it is there from the start or comes later.
func TestInvalidAddresses(t *testing.T) {
	t.Parallel()
	c := newCluster(t, harness.Options{Families: harness.IPv4Only})
	const namespace = "broken"
	c.Apply(t, namespace, "testdata/no-selector.yaml")
	ip := c.Service(t, namespace, "legacy-api").Spec.ClusterIP

	check := func(t *testing.T, s *harness.Server) {
		t.Helper()
		for _, kind := range []string{"services", "endpointslices"} {
			counted := fmt.Sprintf("coredns_kubezone_skipped_objects_total{kind=%q}", kind)
			harness.Eventually(t, reconnectWithin, func() error {
				if metric(t, s, counted) == 0 {
					return fmt.Errorf("%s is 0", counted)
				}
				return nil
			})
		}
		for _, test := range []struct{ question, want string }{
			{"database.broken.svc.cluster.local. A", "A 192.0.2.101, A 192.0.2.102"},
			{"database.broken.svc.cluster.local. AAAA", "AAAA 2001:db8:7::, AAAA 2001:db8::101"},
			{"primary.database.broken.svc.cluster.local. A", "A 192.0.2.101"},
			{"legacy-api.broken.svc.cluster.local. A", "A " + ip},
			{harness.Reverse("192.0.2.102") + " PTR", "PTR 192-0-2-102.database.broken.svc.cluster.local."},
			{harness.Reverse(ip) + " PTR", "PTR legacy-api.broken.svc.cluster.local."},
			{"broken.svc.cluster.local. A", "NODATA"},
		} {
			s.Expect(t, test.question, test.want)
		}
		// Nothing about the broken service is an address, and its neighbours still follow the API.
		if got := harness.Text(s.Ask(t, "broken.broken.svc.cluster.local. A")); got != "NXDOMAIN" && got != "NODATA" {
			t.Errorf("broken.broken.svc.cluster.local. A: %s; want a negative answer", got)
		}
		name := fmt.Sprintf("later-%d", s.Started.UnixNano())
		made := createService(t, c, namespace, name)
		s.ExpectWithin(t, shownWithin, name+".broken.svc.cluster.local. A", "A "+made.Spec.ClusterIP)
	}

	running := serve(t, c, plain)
	c.PutRaw(t, "endpointslices/broken/broken", brokenSlice)
	c.PutRaw(t, "services/specs/broken/broken", brokenService)
	t.Run("coming later", func(t *testing.T) { check(t, running) })
	t.Run("there from the start", func(t *testing.T) { check(t, serve(t, c, plain)) })
}
