package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/kubezone/kubezone/e2e/harness"
)

// A cluster without IPv4.
func TestIPv6OnlyCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, harness.Options{Families: harness.IPv6Only, Workloads: true})
	const namespace = "six"
	c.Apply(t, namespace, "testdata/nginx-service.yaml")
	c.Apply(t, namespace, "testdata/nginx-headless.yaml")
	c.Apply(t, namespace, "testdata/statefulset.yaml")
	s := serve(t, c, plain)
	ip := c.Service(t, namespace, "nginx-service").Spec.ClusterIP
	pods := c.AwaitEndpoints(t, namespace, "nginx", discoveryv1.AddressTypeIPv6, 2)
	c.AwaitEndpoints(t, namespace, "etcd-headless", discoveryv1.AddressTypeIPv6, 3)
	member := c.AwaitRunning(t, namespace, "etcd-0").Status.PodIP
	dashed := func(address string) string { return strings.ReplaceAll(address, ":", "-") }
	s.ExpectWithin(t, shownWithin, "nginx.six.svc.cluster.local. AAAA", harness.Records("AAAA", pods...))
	s.ExpectWithin(t, shownWithin, "etcd-2.etcd-headless.six.svc.cluster.local. A", "NODATA")

	for _, test := range []struct{ name, question, want string }{
		{"API server", "kubernetes.default.svc.cluster.local. AAAA", "AAAA fd00:10:96::1"},
		{"ClusterIP", "nginx-service.six.svc.cluster.local. AAAA", "AAAA " + ip},
		{"ClusterIP, no IPv4", "nginx-service.six.svc.cluster.local. A", "NODATA"},
		{"ClusterIP, port", "_web._tcp.nginx-service.six.svc.cluster.local. SRV", "SRV 5000 nginx-service.six.svc.cluster.local."},
		{"ClusterIP, reverse", harness.Reverse(ip) + " PTR", "PTR nginx-service.six.svc.cluster.local."},
		{"headless, no IPv4", "nginx.six.svc.cluster.local. A", "NODATA"},
		{"headless, port", "_http._tcp.nginx.six.svc.cluster.local. SRV", harness.Records("SRV",
			"80 "+dashed(pods[0])+".nginx.six.svc.cluster.local.", "80 "+dashed(pods[1])+".nginx.six.svc.cluster.local.")},
		{"headless, dashed name", dashed(pods[0]) + ".nginx.six.svc.cluster.local. AAAA", "AAAA " + pods[0]},
		{"headless, reverse", harness.Reverse(pods[1]) + " PTR", "PTR " + dashed(pods[1]) + ".nginx.six.svc.cluster.local."},
		{"ordinal", "etcd-0.etcd-headless.six.svc.cluster.local. AAAA", "AAAA " + member},
		{"pod by address", dashed(pods[0]) + ".six.pod.cluster.local. AAAA", "AAAA " + pods[0]},
		{"pod by address, no IPv4", dashed(pods[0]) + ".six.pod.cluster.local. A", "NODATA"},
		{"nothing", "nothing.six.svc.cluster.local. AAAA", "NXDOMAIN"},
	} {
		t.Run(test.name, func(t *testing.T) { s.Expect(t, test.question, test.want) })
	}
}

// A headless service of both families: each pod has an address of each, and one name for both.
func TestDualStackCluster(t *testing.T) {
	t.Parallel()
	const namespace = "both"
	cluster.Apply(t, namespace, "testdata/dual-stack.yaml")
	s := serve(t, cluster, plain)
	v4 := cluster.AwaitEndpoints(t, namespace, "store", discoveryv1.AddressTypeIPv4, 2)
	v6 := cluster.AwaitEndpoints(t, namespace, "store", discoveryv1.AddressTypeIPv6, 2)
	pod := cluster.AwaitRunning(t, namespace, "store-1")
	if len(pod.Status.PodIPs) != 2 {
		t.Fatalf("pod addresses %v; want one of each family", pod.Status.PodIPs)
	}
	s.ExpectWithin(t, shownWithin, "store.both.svc.cluster.local. A", harness.Records("A", v4...))
	s.ExpectWithin(t, shownWithin, "store.both.svc.cluster.local. AAAA", harness.Records("AAAA", v6...))
	front := cluster.Service(t, namespace, "store-front").Spec.ClusterIPs

	for _, test := range []struct{ name, question, want string }{
		{"name, IPv4", "store-1.store.both.svc.cluster.local. A", "A " + pod.Status.PodIPs[0].IP},
		{"name, IPv6", "store-1.store.both.svc.cluster.local. AAAA", "AAAA " + pod.Status.PodIPs[1].IP},
		{"reverse, IPv4", harness.Reverse(pod.Status.PodIPs[0].IP) + " PTR", "PTR store-1.store.both.svc.cluster.local."},
		{"reverse, IPv6", harness.Reverse(pod.Status.PodIPs[1].IP) + " PTR", "PTR store-1.store.both.svc.cluster.local."},
		{"one SRV for a name", "_db._tcp.store.both.svc.cluster.local. SRV", harness.Records("SRV",
			"5432 store-0.store.both.svc.cluster.local.", "5432 store-1.store.both.svc.cluster.local.")},
		{"IPv6 first, IPv6", "store-front.both.svc.cluster.local. AAAA", "AAAA " + front[0]},
		{"IPv6 first, IPv4", "store-front.both.svc.cluster.local. A", "A " + front[1]},
		{"IPv6 first, reverse", harness.Reverse(front[1]) + " PTR", "PTR store-front.both.svc.cluster.local."},
		{"IPv6 alone", "store-six.both.svc.cluster.local. AAAA", "AAAA " + cluster.Service(t, namespace, "store-six").Spec.ClusterIP},
		{"IPv6 alone, IPv4", "store-six.both.svc.cluster.local. A", "NODATA"},
	} {
		t.Run(test.name, func(t *testing.T) { s.Expect(t, test.question, test.want) })
	}
}

// The API server by address and client certificate, and by a kubeconfig's context that is not the current one.
func TestWaysToTheAPIServer(t *testing.T) {
	t.Parallel()
	certificate, key := cluster.ClientCertificate(t, "system:serviceaccount:kube-system:coredns")
	kubeconfig, _ := cluster.Kubeconfig(t, "", "kube-system", "coredns")
	text, err := os.ReadFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, kubeconfig, strings.Replace(string(text), "current-context: e2e", "current-context: none", 1))
	for _, test := range []struct{ name, options string }{
		{"endpoint and tls", "endpoint " + cluster.URL() + "\n\t\ttls " + certificate + " " + key + " " + cluster.CA},
		{"kubeconfig and context", "kubeconfig " + kubeconfig + " e2e"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := harness.StartServer(t, strings.Replace(plain, "kubeconfig {$KUBECONFIG}", test.options, 1))
			s.AwaitReady(t)
			s.Expect(t, "kubernetes.default.svc.cluster.local. A", "A "+apiAddress)
		})
	}
}

// The Corefile as k3s has it: hosts of its own with fallthrough, and imports of what the user adds.
func TestK3sCorefile(t *testing.T) {
	t.Parallel()
	n := startNode(t, cluster, inPlace(t, "testdata/k3s"))
	for _, test := range []struct{ name, question, want string }{
		{"cluster", "kubernetes.default.svc.cluster.local. A", "A " + apiAddress},
		{"cluster, reverse", harness.Reverse(apiAddress) + " PTR", "PTR kubernetes.default.svc.cluster.local."},
		{"cluster, nothing", "nothing.default.svc.cluster.local. A", "NXDOMAIN"},
		{"node", "node-1. A", "A 192.0.2.11"},
		{"node, reverse", harness.Reverse("192.0.2.11") + " PTR", "PTR node-1."},
		{"outside", "www.example.org. A", "A 198.51.100.80"},
		{"outside, reverse", harness.Reverse("198.51.100.80") + " PTR", "PTR www.example.org."},
		{"imported rewrite", "api.corp.example. A", "A " + apiAddress},
		{"imported server", "printer.lab.example. A", "A 192.0.2.99"},
	} {
		t.Run(test.name, func(t *testing.T) { n.server.Expect(t, test.question, test.want) })
	}
}

// inPlace copies a folder that belongs at /etc/coredns to where a test may write, and returns its Corefile, whose paths
// follow.
func inPlace(t *testing.T, folder string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	var corefile string
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		moved := strings.ReplaceAll(string(text), "/etc/coredns", dir)
		if entry.Name() == "Corefile" {
			corefile = moved
		}
		return os.WriteFile(path, []byte(moved), 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return corefile
}
