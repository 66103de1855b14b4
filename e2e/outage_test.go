package e2e

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kubezone/kubezone/e2e/harness"
)

// reconnectWithin is how soon the server must follow an API server that is back: the longest back-off is 5 s, and
// starting to watch takes a moment.
const reconnectWithin = 15 * time.Second

// withTTL is plain with one word that tells Corefiles apart.
func withTTL(ttl string) string {
	return strings.Replace(plain, "pods insecure", "pods insecure\n\t\tttl "+ttl, 1)
}

// A reload keeps every answer, with the API server up and with it stopped, and asks the API server for nothing anew.
func TestReloadKeepsEveryAnswer(t *testing.T) {
	t.Parallel()
	c := newCluster(t, harness.Options{Families: harness.IPv4Only})
	const namespace = "kept"
	c.Apply(t, namespace, "testdata/nginx-service.yaml")
	c.Apply(t, namespace, "testdata/no-selector.yaml")
	ip := c.Service(t, namespace, "nginx-service").Spec.ClusterIP
	s := serve(t, c, withTTL("11"))
	const question = "nginx-service.kept.svc.cluster.local. A"
	right := map[string]string{
		question:                                "A " + ip,
		"database.kept.svc.cluster.local. A":    "A 192.0.2.101, A 192.0.2.102",
		"nothing.kept.svc.cluster.local. A":     "NXDOMAIN",
		"kept.svc.cluster.local. A":             "NODATA",
		harness.Reverse(ip) + " PTR":            "PTR nginx-service.kept.svc.cluster.local.",
		harness.Reverse("192.0.2.101") + " PTR": "PTR primary.database.kept.svc.cluster.local.",
	}
	for question, want := range right {
		s.Expect(t, question, want)
	}
	before := c.Requests(t, "kube-system", "coredns")

	load := startLoad(t, s, right)
	reload := func(ttl string) {
		t.Helper()
		s.WriteCorefile(t, withTTL(ttl))
		s.Reload()
		showsTTL(t, s, question, ttl, 20*time.Second)
	}
	reload("12")
	reload("13")
	if after := c.Requests(t, "kube-system", "coredns"); !slices.Equal(before, after) {
		t.Errorf("two reloads made new requests: %v", after[len(before):])
	}
	c.StopAPIServer()
	reload("14")
	reload("15")
	s.AwaitReady(t)
	load.stop(t)

	if err := c.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	made := createService(t, c, namespace, "after-the-outage")
	s.ExpectWithin(t, reconnectWithin, "after-the-outage.kept.svc.cluster.local. A", "A "+made.Spec.ClusterIP)
}

// An API server that is gone changes nothing, and one that is back is followed again.
func TestAPIServerRestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, harness.Options{Families: harness.IPv4Only})
	const namespace = "restart"
	c.Apply(t, namespace, "testdata/nginx-service.yaml")
	c.Apply(t, namespace, "testdata/no-selector.yaml")
	ip := c.Service(t, namespace, "nginx-service").Spec.ClusterIP
	proxy, server := localProxy(t, c)
	kubeconfig, _ := c.Kubeconfig(t, server, "kube-system", "coredns")
	s := harness.StartServer(t, plain, "KUBECONFIG="+kubeconfig)
	s.AwaitReady(t)
	right := map[string]string{
		"nginx-service.restart.svc.cluster.local. A": "A " + ip,
		"database.restart.svc.cluster.local. A":      "A 192.0.2.101, A 192.0.2.102",
		"nothing.restart.svc.cluster.local. A":       "NXDOMAIN",
		harness.Reverse(ip) + " PTR":                 "PTR nginx-service.restart.svc.cluster.local.",
	}
	load := startLoad(t, s, right)
	c.StopAPIServer()
	before := proxy.Attempts()
	harness.Eventually(t, reconnectWithin, func() error { // the server has seen that there is nobody
		if tried := proxy.Attempts() - before; tried < 3 {
			return fmt.Errorf("%d attempts to connect again", tried)
		}
		return nil
	})
	for question, want := range right {
		s.Expect(t, question, want)
	}
	if status, body, err := s.Get(s.Ready + "/ready"); err != nil || status != http.StatusOK {
		t.Errorf("ready during an outage: %d %s %v; want 200", status, body, err)
	}
	if err := c.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	made := createService(t, c, namespace, "after-the-restart")
	s.ExpectWithin(t, reconnectWithin, "after-the-restart.restart.svc.cluster.local. A", "A "+made.Spec.ClusterIP)
	err := c.Client.CoreV1().Services(namespace).Delete(t.Context(), "after-the-restart", metav1.DeleteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.ExpectWithin(t, shownWithin, "after-the-restart.restart.svc.cluster.local. A", "NXDOMAIN")
	load.stop(t)
}

// A token that has ended is replaced by the one that the kubelet has put in its place since.
func TestTokenRotation(t *testing.T) {
	t.Parallel()
	const namespace = "rotation"
	cluster.Apply(t, namespace, "testdata/nginx-service.yaml")
	ip := cluster.Service(t, namespace, "nginx-service").Spec.ClusterIP
	const question = "nginx-service.rotation.svc.cluster.local. A"

	// A token that is bound to an object ends with the object.
	secrets := cluster.Client.CoreV1().Secrets("kube-system")
	bound, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "first-token"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	first := cluster.Token(t, "kube-system", "coredns", &authenticationv1.BoundObjectReference{
		Kind: "Secret", APIVersion: "v1", Name: bound.Name, UID: bound.UID})

	proxy, server := localProxy(t, cluster)
	kubeconfig, tokenFile := cluster.Kubeconfig(t, server, "kube-system", "coredns")
	second := cluster.Token(t, "kube-system", "coredns", nil)
	harness.WriteFile(t, tokenFile, first)
	s := harness.StartServer(t, plain, "KUBECONFIG="+kubeconfig)
	s.AwaitReady(t)
	s.Expect(t, question, "A "+ip)

	harness.WriteFile(t, tokenFile, second)
	if err := secrets.Delete(t.Context(), bound.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	refused(t, first)
	proxy.Cut() // the watches must begin anew, and the first token is worth nothing now
	s.Expect(t, question, "A "+ip)
	made := createService(t, cluster, namespace, "after-the-rotation")
	const readAgain = 75 * time.Second // client-go reads the file once a minute
	s.ExpectWithin(t, readAgain, "after-the-rotation.rotation.svc.cluster.local. A", "A "+made.Spec.ClusterIP)
	s.Expect(t, question, "A "+ip)
}

// refused waits until the API server has forgotten that a token was good.
func refused(t *testing.T, token string) {
	t.Helper()
	config := cluster.Config()
	config.BearerToken = token
	// A client of its own: no connection on which the token has been seen.
	client, err := kubernetes.NewForConfig(rest.AddUserAgent(config, "e2e-token"))
	if err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 30*time.Second, func() error {
		_, err := client.CoreV1().Services("default").List(t.Context(), metav1.ListOptions{})
		if err == nil || !strings.Contains(err.Error(), "Unauthorized") {
			return fmt.Errorf("the token is still accepted: %v", err)
		}
		return nil
	})
}

// createService makes a service with one port and a ClusterIP.
func createService(t *testing.T, c *harness.Cluster, namespace, name string) *corev1.Service {
	t.Helper()
	made, err := c.Client.CoreV1().Services(namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// With an API server that cannot be reached the server starts, says SERVFAIL where it would need it, says why, and goes on
// forwarding; when the API server comes, it is served.
func TestUnreachableAPIServer(t *testing.T) {
	t.Parallel()
	proxy, server := localProxy(t, cluster)
	proxy.Break()
	kubeconfig, _ := cluster.Kubeconfig(t, server, "kube-system", "coredns")
	upstream, address := localUpstream(t)
	corefile := strings.Replace(plain, "pods insecure", "fallthrough in-addr.arpa ip6.arpa", 1)
	corefile = strings.TrimSuffix(corefile, "}\n") + "\tforward . {$UPSTREAM}\n}\n"
	s := harness.StartServer(t, corefile, "KUBECONFIG="+kubeconfig, "UPSTREAM="+address)

	const openWithin = 4 * time.Second // stock keeps the port closed for 5 s; starting a process on a busy machine takes some
	s.ExpectWithin(t, openWithin, "www.example.org. A", "A 198.51.100.80")
	if took := time.Since(s.Started); took > openWithin {
		t.Errorf("the first answer came after %.1fs", took.Seconds())
	}
	for _, test := range []struct{ question, want string }{
		{"kubernetes.default.svc.cluster.local. A", "SERVFAIL"},
		{"kubernetes.default.svc.cluster.local. AAAA", "SERVFAIL"},
		{"_https._tcp.kubernetes.default.svc.cluster.local. SRV", "SERVFAIL"},
		{"a.b.default.svc.cluster.local. A", "SERVFAIL"},
		{"default.svc.cluster.local. A", "SERVFAIL"},
		{harness.Reverse("10.96.0.1") + " PTR", "SERVFAIL"},
		{harness.Reverse("fd00:10:96::1") + " PTR", "SERVFAIL"},
		{harness.Reverse("198.51.100.80") + " PTR", "PTR www.example.org."}, // no address of a cluster
		{"nothing.example.org. A", "NXDOMAIN"},
		// What needs no object is answered, above all an external name with a search path behind it.
		{"www.example.org.cluster.local. A", "NXDOMAIN"},
		{"www.example.org.default.svc.cluster.local. A", "NXDOMAIN"},
		{"dns-version.cluster.local. TXT", `TXT "1.1.0"`},
		{"svc.cluster.local. A", "NODATA"},
	} {
		s.Expect(t, test.question, test.want)
	}
	for _, question := range []string{"kubernetes.default.svc.cluster.local. A", harness.Reverse("10.96.0.1") + " PTR"} {
		if asked := upstream.Asked(question); asked != 0 {
			t.Errorf("%s was forwarded %d times", question, asked)
		}
	}
	if status, _, err := s.Get(s.Ready + "/ready"); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("/ready: %d %v; want 503", status, err)
	}
	if status, _, err := s.Get(s.Health + "/health"); err != nil || status != http.StatusOK {
		t.Errorf("/health: %d %v; want 200", status, err)
	}
	harness.Eventually(t, 10*time.Second, func() error {
		if !strings.Contains(s.Log(), strings.TrimPrefix(server, "https://")) {
			return fmt.Errorf("the log does not name the API server %s", server)
		}
		return nil
	})

	proxy.Mend()
	s.ExpectWithin(t, reconnectWithin, "kubernetes.default.svc.cluster.local. A", "A "+apiAddress)
	s.AwaitReady(t)
	s.Expect(t, harness.Reverse("10.96.0.1")+" PTR", "PTR kubernetes.default.svc.cluster.local.")
	s.Expect(t, "nothing.default.svc.cluster.local. A", "NXDOMAIN")
}

// localProxy starts a proxy in front of the API server, and returns its URL.
func localProxy(t *testing.T, c *harness.Cluster) (proxy *harness.Proxy, server string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return harness.StartProxy(t, listener, c.Address()), "https://" + listener.Addr().String()
}

// localUpstream starts a resolver for the world outside on a free loopback port.
func localUpstream(t *testing.T) (upstream *harness.Upstream, address string) {
	t.Helper()
	return harness.ServeUpstream(t, outside...)
}
