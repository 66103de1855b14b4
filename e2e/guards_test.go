package e2e

import (
	"strings"
	"testing"

	"github.com/kubezone/kubezone/e2e/harness"
)

// Namespaces that capture names, pods at addresses that no pod has, and reverse names that leave the cluster: with the
// Corefile of kubeadm they do, with ours they do not.
func TestGuards(t *testing.T) {
	t.Parallel()
	c := newCluster(t, harness.Options{Families: harness.IPv4Only}) // of its own: other tests resolve www.example.org by a search path
	for namespace, name := range map[string]string{"org": "example", "svc": "default"} {
		objects := strings.ReplaceAll(`{apiVersion: v1, kind: Service, metadata: {name: NAME}, spec: {clusterIP: None, ports: [{name: web, port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: NAME-1, labels: {kubernetes.io/service-name: NAME}}, addressType: IPv4,
  ports: [{name: web, port: 80}], endpoints: [{addresses: [203.0.113.66], hostname: www}, {addresses: [203.0.113.66], hostname: kubernetes}]}`, "NAME", name)
		if err := c.ApplyYAML(t.Context(), namespace, objects); err != nil {
			t.Fatal(err)
		}
	}
	const outsider = "9.113.0.203.in-addr.arpa. PTR" // nobody has that address
	for _, tc := range []struct {
		corefile string
		answers  map[string]string
		leaks    bool
	}{
		{"kube-system/Corefile", map[string]string{
			"www.example.org.svc.cluster.local. A":         "A 203.0.113.66",
			"kubernetes.default.svc.svc.cluster.local. A":  "A 203.0.113.66",
			"169-254-169-254.default.pod.cluster.local. A": "A 169.254.169.254",
			harness.Reverse("10.244.99.99") + " PTR":       "NXDOMAIN",
			"www.example.org. A":                           "A 198.51.100.80",
			"_web._tcp.example.org.svc.cluster.local. SRV": "SRV 80 kubernetes.example.org.svc.cluster.local., SRV 80 www.example.org.svc.cluster.local.",
			harness.Reverse("203.0.113.66") + " PTR":       "PTR kubernetes.default.svc.svc.cluster.local., PTR kubernetes.example.org.svc.cluster.local., PTR www.default.svc.svc.cluster.local., PTR www.example.org.svc.cluster.local.",
		}, true},
		{"kubezone/Corefile", map[string]string{
			"www.example.org.svc.cluster.local. A":         "NXDOMAIN",
			"kubernetes.default.svc.svc.cluster.local. A":  "NXDOMAIN",
			"org.svc.cluster.local. A":                     "NXDOMAIN",
			"169-254-169-254.default.pod.cluster.local. A": "NXDOMAIN",
			"10-244-1-1.default.pod.cluster.local. A":      "A 10.244.1.1",
			harness.Reverse("10.244.99.99") + " PTR":       "NXDOMAIN",
			"www.example.org. A":                           "A 198.51.100.80",
			"kubernetes.default.svc.cluster.local. A":      "A " + apiAddress,
			"_web._tcp.example.org.svc.cluster.local. SRV": "NXDOMAIN",
			harness.Reverse("203.0.113.66") + " PTR":       "NXDOMAIN",
		}, false},
	} {
		t.Run(tc.corefile, func(t *testing.T) {
			n := startNode(t, c, shipped(t, tc.corefile))
			for question, want := range tc.answers {
				n.server.Expect(t, question, want)
			}
			private := harness.Reverse("10.244.99.99") + " PTR"
			if asked := n.upstream.Asked(private); (asked > 0) != tc.leaks {
				t.Errorf("upstream was asked %d times for %s; want it asked: %t", asked, private, tc.leaks)
			}
			n.server.Expect(t, outsider, "NXDOMAIN")
			if n.upstream.Asked(outsider) == 0 {
				t.Errorf("upstream was not asked for %s", outsider)
			}
		})
	}
}
