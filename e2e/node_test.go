package e2e

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/kubezone/kubezone/e2e/harness"
)

// The addresses of a node, all of them in a network namespace of its own.
const (
	apiAddress      = "10.96.0.1"  // of the `kubernetes` service
	dnsAddress      = "10.96.0.10" // of the `kube-dns` service
	upstreamAddress = "192.0.2.53" // the resolver outside the cluster
)

// outside is what the world outside the cluster resolves.
var outside = []string{
	"www.example.org. 300 IN A 198.51.100.80",
	"www.example.org. 300 IN AAAA 2001:db8::80",
	"80.100.51.198.in-addr.arpa. 300 IN PTR www.example.org.",
	"cached.example.org. 300 IN A 198.51.100.81",
	"intranet.corp.example. 300 IN A 198.51.100.90",
}

// A node is a network namespace in which the server under test runs as a pod does: with the files of a service account,
// the API server at the address of the `kubernetes` service, and a resolver outside the cluster in resolv.conf.
type node struct {
	*harness.Netns
	server   *harness.Server
	pod      *harness.Pod // in which the server runs, if it was deployed as one
	upstream *harness.Upstream
}

// resolvConf is the node's own.
const resolvConf = "nameserver " + upstreamAddress + "\nsearch corp.example\n"

// newNode makes a node on which no server runs yet.
func newNode(t *testing.T, c *harness.Cluster) *node {
	t.Helper()
	n := &node{Netns: harness.NewNetns(t, apiAddress+"/32", dnsAddress+"/32")}
	harness.StartProxy(t, n.Listen(t, net.JoinHostPort(apiAddress, "443")), c.Address())
	elsewhere := harness.NewNetns(t) // the server takes port 53 of every address here
	n.Connect(t, "192.0.2.1/24", elsewhere, upstreamAddress+"/24")
	upstream := net.JoinHostPort(upstreamAddress, "53")
	n.upstream = harness.StartUpstream(t, elsewhere.ListenPacket(t, upstream), elsewhere.Listen(t, upstream), outside...)
	n.WriteEtc(t, "resolv.conf", resolvConf)
	return n
}

// startNode starts the server with a Corefile that is not changed in any way, and waits until it is ready.
func startNode(t *testing.T, c *harness.Cluster, corefile string) *node {
	t.Helper()
	n := newNode(t, c)
	n.server = harness.StartServerIn(t, n.Netns, net.JoinHostPort(dnsAddress, "53"), corefile, secrets(t, c),
		"KUBERNETES_SERVICE_HOST="+apiAddress, "KUBERNETES_SERVICE_PORT=443")
	n.server.AwaitReady(t)
	return n
}

// secrets makes the folder that a pod of the server's service account finds at the default place.
func secrets(t *testing.T, c *harness.Cluster) string {
	t.Helper()
	return c.AccountFolder(t, "kube-system", "coredns")
}

// kubeSystem is the text of the Corefile that this repository ships for kube-system.
func kubeSystem(t *testing.T) string { return shipped(t, "kube-system/Corefile") }

// shipped is the text of a Corefile of this repository.
func shipped(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../corefile", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
