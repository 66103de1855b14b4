package e2e

import (
	"fmt"
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/kubezone/kubezone/e2e/harness"
)

// With `endpoints headless` names of endpoints are those of headless services. The slices that the control plane makes
// for these have the label; one made by hand has not, and the log says so.
func TestEndpointsHeadless(t *testing.T) {
	t.Parallel()
	const namespace = "headlessonly"
	cluster.Apply(t, namespace, "testdata/nginx-service.yaml")
	cluster.Apply(t, namespace, "testdata/nginx-headless.yaml")
	cluster.Apply(t, namespace, "testdata/headless-by-hand.yaml")
	behind := cluster.AwaitEndpoints(t, namespace, "nginx-service", discoveryv1.AddressTypeIPv4, 2)
	headless := cluster.AwaitEndpoints(t, namespace, "nginx", discoveryv1.AddressTypeIPv4, 2)
	s := serve(t, cluster, strings.Replace(plain, "pods insecure", "endpoints headless\n\t\tnamespaces "+namespace, 1))

	dashed := func(address string) string { return strings.ReplaceAll(address, ".", "-") }
	const zone = ".headlessonly.svc.cluster.local."
	ip := cluster.Service(t, namespace, "nginx-service").Spec.ClusterIP
	for _, test := range []struct{ name, question, want string }{
		{"ClusterIP", "nginx-service" + zone + " A", "A " + ip},
		{"its reverse", harness.Reverse(ip) + " PTR", "PTR nginx-service" + zone},
		{"an endpoint of it", dashed(behind[0]) + ".nginx-service" + zone + " A", "NXDOMAIN"},
		{"reverse of that", harness.Reverse(behind[0]) + " PTR", "NXDOMAIN"},
		{"headless", "nginx" + zone + " A", harness.Records("A", headless...)},
		{"an endpoint of it", dashed(headless[0]) + ".nginx" + zone + " A", "A " + headless[0]},
		{"reverse of that", harness.Reverse(headless[0]) + " PTR", "PTR " + dashed(headless[0]) + ".nginx" + zone},
		{"headless, the slice made by hand", "database" + zone + " A", "NXDOMAIN"},
	} {
		t.Run(test.name, func(t *testing.T) { s.Expect(t, test.question, test.want) })
	}

	const warning = "endpointslices of headless services headlessonly/database-unlabelled. Label"
	harness.Eventually(t, harness.SettleWithin, func() error {
		if n := strings.Count(s.Log(), warning); n != 1 {
			return fmt.Errorf("%d warnings %q; want one", n, warning)
		}
		return nil
	})
}
