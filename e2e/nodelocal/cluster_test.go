package nodelocal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kubezone/kubezone/e2e/harness"
)

// The API server, and where kube-proxy leads to it.
const (
	api     = "10.96.0.1"
	apiHost = "198.51.100.10" // as the API server advertises itself
)

const (
	pod4          = "10.244.0.2"
	followsWithin = 5 * time.Second // a change of the endpoints; it takes some milliseconds
	switchWithin  = 20 * time.Second
)

// A cluster is a rig whose rules are those of kube-proxy itself, which follows a real API server.
type cluster struct {
	*rig
	*harness.Cluster
}

// newCluster starts an API server and kube-proxy, in its nftables mode, on the node. The objects are the test's own.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	r := newNodes(t)
	programs := controlplane(t)
	api, err := harness.StartCluster(harness.Options{Families: harness.DualStack, Binaries: programs, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Stop)
	c := &cluster{rig: r, Cluster: api}
	_, port, err := net.SplitHostPort(api.Address())
	if err != nil {
		t.Fatal(err)
	}
	c.node.Run(t, "ip", "address", "add", apiHost+"/32", "dev", "lo")
	for _, host := range []string{"127.0.0.1", apiHost} {
		harness.StartProxy(t, c.node.Listen(t, net.JoinHostPort(host, port)), api.Address())
	}
	c.createObjects(t)
	c.startKubeProxy(t, programs)
	return c
}

// createObjects makes the node, the Services of the cluster's DNS and what the node's DNS may read.
func (c *cluster) createObjects(t *testing.T) {
	t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}}
	node, err := c.Client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: "10.244.0.1"}, {Type: corev1.NodeInternalIP, Address: "fd00:244:0::1"},
	}
	if _, err := c.Client.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	dual := corev1.IPFamilyPolicyRequireDualStack
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-dns"},
		Spec: corev1.ServiceSpec{ClusterIP: cluster4, ClusterIPs: clusterIP, IPFamilyPolicy: &dual, Ports: []corev1.ServicePort{
			{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}, {Name: "dns-tcp", Port: 53, Protocol: corev1.ProtocolTCP},
		}},
	}
	if _, err := c.Client.CoreV1().Services("kube-system").Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.scale(t, "dns1", "dns2")
	for _, name := range []string{"rbac.yaml", "daemonset.yaml"} {
		c.Apply(t, "kube-system", filepath.Join("../../build/node-local", name))
	}
}

// scale makes these servers the endpoints of the cluster's DNS, as the controllers do when its Deployment is scaled.
func (c *cluster) scale(t *testing.T, servers ...string) {
	t.Helper()
	for family, network := range map[discoveryv1.AddressType]string{discoveryv1.AddressTypeIPv4: "10.244.%s.2", discoveryv1.AddressTypeIPv6: "fd00:244:%s::2"} {
		slice := &discoveryv1.EndpointSlice{
			TypeMeta: metav1.TypeMeta{APIVersion: discoveryv1.SchemeGroupVersion.String(), Kind: "EndpointSlice"},
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "kube-system", Name: "kube-dns-" + strings.ToLower(string(family)),
				Labels: map[string]string{discoveryv1.LabelServiceName: "kube-dns"},
			},
			AddressType: family,
			Endpoints:   []discoveryv1.Endpoint{},
			Ports: []discoveryv1.EndpointPort{
				{Name: new("dns"), Port: new(int32(53)), Protocol: new(corev1.ProtocolUDP)},
				{Name: new("dns-tcp"), Port: new(int32(53)), Protocol: new(corev1.ProtocolTCP)},
			},
		}
		for _, name := range servers {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf(network, strings.TrimPrefix(name, "dns"))}})
		}
		text, err := yaml.Marshal(slice)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.ApplyYAML(t.Context(), "kube-system", string(text)); err != nil {
			t.Fatal(err)
		}
	}
}

// startKubeProxy starts the real one on the node. What it would set for the whole machine is left alone.
func (c *cluster) startKubeProxy(t *testing.T, programs string) {
	t.Helper()
	p, err := harness.StartProcess(t.TempDir(), "kube-proxy", c.node.Command(filepath.Join(programs, "kube-proxy"),
		"--proxy-mode=nftables", "--kubeconfig="+c.AdminKubeconfig(), "--hostname-override=node",
		"--cluster-cidr=10.244.0.0/16,fd00:244::/32", "--conntrack-max-per-core=0",
		"--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("log of kube-proxy:\n%s", p.Tail(40))
		}
	})
}

// controlplane is the folder with the programs of the control plane: $KUBEZONE_CONTROLPLANE, else that of the pinned
// versions, which are built now unless `make controlplane` has done it.
func controlplane(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("KUBEZONE_CONTROLPLANE"); dir != "" {
		return dir
	}
	build := exec.Command("../controlplane/build.sh")
	build.Stderr = os.Stderr
	output, err := build.Output()
	if err != nil {
		t.Fatalf("controlplane/build.sh: %v", err)
	}
	return strings.TrimSpace(string(output))
}

// startNodeDNS starts the server on the node as its DaemonSet does, with the Corefile for a cache as it is.
func (c *cluster) startNodeDNS(t *testing.T) *harness.Server {
	t.Helper()
	corefile, err := os.ReadFile("../../corefile/node-local/Corefile")
	if err != nil {
		t.Fatal(err)
	}
	c.node.WriteEtc(t, "resolv.conf", "nameserver 10.244.1.2\n")
	upstream := c.Service(t, "kube-system", "kube-dns-upstream")
	return harness.StartServerIn(t, c.node, net.JoinHostPort(own4, "53"), string(corefile),
		c.AccountFolder(t, "kube-system", "node-local-dns"), "KUBERNETES_SERVICE_HOST="+api, "KUBERNETES_SERVICE_PORT=443", "KUBE_DNS_UPSTREAM_SERVICE_HOST="+upstream.Spec.ClusterIP)
}

// tracked is how many of the pod's connections to a DNS server are in the node's connection tracking table.
func (c *cluster) tracked(t *testing.T) (n int) {
	t.Helper()
	for line := range strings.Lines(c.node.Run(t, "sh", "-c", "conntrack -L 2>/dev/null")) {
		if strings.Contains(line, "src="+pod4+" ") && strings.Contains(line, "dport=53 ") {
			n++
		}
	}
	return n
}

// answering returns which of the cluster's DNS servers answer the pod, each time for a name that no cache has.
func (c *cluster) answering(to string) ([]string, error) {
	var servers []string
	for i := range 12 { // so that one of two is missed once in 2,000 times
		name := fmt.Sprintf("%d-%d.who.cluster.local.", time.Now().UnixNano(), i)
		reply, err := exchange(c.pod, "udp", to, new(dns.Msg).SetQuestion(name, dns.TypeTXT))
		if err != nil {
			return nil, err
		}
		if len(reply.Answer) != 1 {
			return nil, fmt.Errorf("%s at %s: %v", name, to, reply)
		}
		servers = append(servers, reply.Answer[0].(*dns.TXT).Txt[0])
	}
	slices.Sort(servers)
	return slices.Compact(servers), nil
}

func (c *cluster) expectAnswering(t *testing.T, within time.Duration, to string, want ...string) {
	t.Helper()
	harness.Eventually(t, within, func() error {
		got, err := c.answering(to)
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("%q answer at %s; want %q", got, to, want)
		}
		return err
	})
}

// probes are those of the DaemonSet, by their names.
func probes(t *testing.T) map[string]*corev1.Probe {
	t.Helper()
	text, err := os.ReadFile("../../build/node-local/daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var set appsv1.DaemonSet
	documents := bytes.Split(text, []byte("\n---\n"))
	if err := yaml.UnmarshalStrict(documents[len(documents)-1], &set); err != nil {
		t.Fatal(err)
	}
	container := set.Spec.Template.Spec.Containers[0]
	return map[string]*corev1.Probe{"readiness": container.ReadinessProbe, "liveness": container.LivenessProbe}
}

// probe does what a kubelet does, from the node.
func (c *cluster) probe(p *corev1.Probe) error {
	client := http.Client{
		Timeout: time.Duration(max(1, p.TimeoutSeconds)) * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
			return c.node.Dial(network, address)
		}},
	}
	url := "http://" + net.JoinHostPort(p.HTTPGet.Host, p.HTTPGet.Port.String()) + p.HTTPGet.Path
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, response.Status)
	}
	return errors.Join(err, response.Body.Close())
}

// expectProbes waits until these probes pass, and no others.
func (c *cluster) expectProbes(t *testing.T, pass ...string) {
	t.Helper()
	harness.Eventually(t, switchWithin, func() error {
		all := probes(t)
		wrong := make(chan error, len(all))
		for name, p := range all {
			go func() {
				err := c.probe(p)
				switch wanted := slices.Contains(pass, name); {
				case wanted && err != nil:
					err = fmt.Errorf("the %s probe: %w", name, err)
				case !wanted && err == nil:
					err = fmt.Errorf("the %s probe passes", name)
				case !wanted:
					err = nil
				}
				wrong <- err
			}()
		}
		var err error
		for range all {
			err = errors.Join(err, <-wrong)
		}
		return err
	})
}

// deaf drops queries over UDP before any socket sees them.
const deaf = "table inet deaf {\nchain prerouting {\ntype filter hook prerouting priority -400\nudp dport 53 drop\n}\n}\n"

// A node as build/node-local makes it, beside the real kube-proxy in nftables mode and a real API server: the pod's
// queries take kube-proxy's way, ours, and kube-proxy's again; the cluster's DNS is followed as it is scaled; and probes
// tell whether DNS is served.
func TestCluster(t *testing.T) {
	c := newCluster(t)
	c.expectWithin(t, switchWithin, clusterIP, "dns1", "dns2")
	c.expect(t, clusterIP, "dns1", "dns2")
	for _, table := range []string{"table ip kube-proxy", "table ip6 kube-proxy"} {
		if !strings.Contains(c.rules(t), table) {
			t.Errorf("the node has no %s", table)
		}
	}
	if c.tracked(t) == 0 {
		t.Error("connection tracking knows nothing of queries on the ordinary path; want some, or this test shows nothing")
	}

	s := c.startNodeDNS(t)
	for _, a := range []string{own4, cluster4} {
		awaitLog(t, s.Process, switchWithin, "Queries for "+a+" come here", 1)
	}
	if !strings.Contains(s.Log(), "Found kube-proxy in nftables mode: redirect notrack") {
		t.Errorf("kube-proxy was not recognised:\n%s", s.Tail(20))
	}
	c.expectProbes(t, "readiness", "liveness")
	c.node.Run(t, "conntrack", "-F")
	for _, a := range []string{own4, cluster4} {
		c.expectAnswering(t, followsWithin, a, "dns1", "dns2")
	}
	for _, servers := range [][]string{{"dns2"}, {"dns1"}, {"dns1", "dns2"}} {
		c.scale(t, servers...)
		c.expectAnswering(t, followsWithin, cluster4, servers...)
	}
	if n := c.tracked(t); n != 0 {
		t.Errorf("%d of the pod's queries are tracked; want 0", n)
	}

	c.nft(t, deaf)
	c.expectProbes(t, "liveness") // it would do no good to start it anew
	c.nft(t, "delete table inet deaf\n")
	c.expectProbes(t, "readiness", "liveness")
	s.Signal(syscall.SIGSTOP)
	c.expectProbes(t)
	s.Signal(syscall.SIGCONT)
	c.expectProbes(t, "readiness", "liveness")
	awaitLog(t, s.Process, switchWithin, "Queries for "+cluster4+" come here", 1)

	s.Kill()
	c.expect(t, []string{own4, cluster4}, "dns1", "dns2")
	if c.tracked(t) == 0 {
		t.Error("connection tracking knows nothing of queries after the server was killed; want kube-proxy's way again")
	}
	c.expectProbes(t)
}
