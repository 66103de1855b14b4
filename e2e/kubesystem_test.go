package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/kubezone/kubezone/e2e/harness"
)

// The Corefile for kube-system is kubeadm's, character for character.
func TestCorefileIsThatOfKubeadm(t *testing.T) {
	t.Parallel()
	text := new(bytes.Buffer)
	manifest := template.Must(template.New("").Parse(kubeadmConstant(t, "CoreDNSConfigMap")))
	if err := manifest.Execute(text, struct{ DNSDomain string }{harness.Domain}); err != nil {
		t.Fatal(err)
	}
	var config corev1.ConfigMap
	if err := yaml.Unmarshal(text.Bytes(), &config); err != nil {
		t.Fatal(err)
	}
	if got, want := kubeSystem(t), config.Data["Corefile"]; got != want {
		t.Errorf("corefile/kube-system/Corefile is\n%s\nkubeadm has\n%s", got, want)
	}
}

// The rights are kubeadm's without what is no longer read, and with one to list ServiceCIDRs, under kubeadm's names, so that
// one may replace the other. Those to pods are apart, for who needs them.
func TestRightsAreThoseOfKubeadm(t *testing.T) {
	t.Parallel()
	theirs := new(rbacv1.ClusterRole)
	if err := yaml.Unmarshal([]byte(kubeadmConstant(t, "CoreDNSClusterRole")), theirs); err != nil {
		t.Fatal(err)
	}
	ours := readRole(t, "../build/kube-system/base/rbac.yaml")
	if ours.Name != theirs.Name {
		t.Errorf("the role is %q; want %q", ours.Name, theirs.Name)
	}
	got := append(rights(ours), rights(readRole(t, "../build/kube-system/components/pods/rbac.yaml"))...)
	slices.Sort(got)
	want := slices.DeleteFunc(rights(theirs), func(right string) bool { return strings.Contains(right, "endpoints.") })
	want = append(want, "list servicecidrs.networking.k8s.io")
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("rights %v; want %v", got, want)
	}
}

// readRole returns the ClusterRole in a file.
func readRole(t *testing.T, path string) *rbacv1.ClusterRole {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	role := new(rbacv1.ClusterRole)
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		if strings.Contains(document, "\nkind: ClusterRole\n") {
			if err := yaml.Unmarshal([]byte(document), role); err != nil {
				t.Fatal(err)
			}
		}
	}
	return role
}

// rights lists "verb resource.group", sorted.
func rights(role *rbacv1.ClusterRole) []string {
	var all []string
	for _, rule := range role.Rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					all = append(all, verb+" "+resource+"."+group)
				}
			}
		}
	}
	slices.Sort(all)
	return all
}

// kubeadmConstant reads a string constant out of the source of kubeadm's DNS add-on.
func kubeadmConstant(t *testing.T, name string) string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes").Output()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(strings.TrimSpace(string(dir)), "cmd/kubeadm/app/phases/addons/dns/manifests.go")
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	found := ""
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Names[0].Name == name {
			found, err = strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		}
		return true
	})
	if err != nil || found == "" {
		t.Fatalf("%s: constant %s: %v", path, name, err)
	}
	return found
}

// Scenario e: the unchanged Corefile, in the place and with the rights of the kube-system deployment.
func TestKubeSystem(t *testing.T) {
	t.Parallel()
	cluster.Apply(t, "kube-system", "testdata/kube-dns.yaml")
	inKubeSystem(t, cluster, startNode(t, cluster, kubeSystem(t)), kubeSystem(t),
		"coredns_kubernetes_rest_client_requests_total", "coredns_kubernetes_dns_programming_duration_seconds")
}

// The recommended deployment does the same from our image, with its own Corefile, rights, user, privileges and limits.
func TestRecommendedDeployment(t *testing.T) {
	t.Parallel()
	c := newCluster(t, harness.Options{Families: harness.DualStack, Workloads: true})
	c.Apply(t, "kube-system", "testdata/kube-dns.yaml")
	apply(t, c, render(t, manifests+"/overlays/recommended"))
	n := startPod(t, c)
	t.Run("privileges", func(t *testing.T) { hasNoMoreThanPort53(t, n) })
	t.Run("memory", func(t *testing.T) {
		if got, want := n.pod.MemoryLimit(t), int64(256<<20); got != want {
			t.Errorf("the limit of the container's memory is %d; want %d", got, want)
		}
	})
	inKubeSystem(t, c, n, shipped(t, "kubezone/Corefile"),
		"coredns_kubezone_dns_programming_duration_seconds", "coredns_kubezone_state")
}

// inKubeSystem asks a node's server for what a cluster needs of its DNS, reloads its Corefile under load, and stops it.
// metrics are names of metrics that it offers beside CoreDNS's own.
func inKubeSystem(t *testing.T, cluster *harness.Cluster, n *node, corefile string, metrics ...string) {
	t.Helper()
	const namespace = "production"
	cluster.Apply(t, namespace, "testdata/nginx-service.yaml")
	cluster.Apply(t, namespace, "testdata/nginx-headless.yaml")
	cluster.Apply(t, namespace, "testdata/external-names.yaml")
	s := n.server
	ip := cluster.Service(t, namespace, "nginx-service").Spec.ClusterIP
	pods := cluster.AwaitEndpoints(t, namespace, "nginx", discoveryv1.AddressTypeIPv4, 2)
	s.ExpectWithin(t, shownWithin, "nginx.production.svc.cluster.local. A", harness.Records("A", pods...))

	t.Run("kubernetes", func(t *testing.T) {
		s.Expect(t, "nginx-service.production.svc.cluster.local. A", "A "+ip)
		s.Expect(t, harness.Reverse(ip)+" PTR", "PTR nginx-service.production.svc.cluster.local.")
		s.Expect(t, "10-244-7-77.production.pod.cluster.local. A", "A 10.244.7.77") // pods insecure
		s.Expect(t, "nothing.production.svc.cluster.local. A", "NXDOMAIN")
		if ttl := s.Ask(t, "nginx-service.production.svc.cluster.local. A").Answer[0].Header().Ttl; ttl != 30 {
			t.Errorf("TTL %d; want 30", ttl)
		}
	})

	t.Run("forward", func(t *testing.T) {
		s.Expect(t, "www.example.org. A", "A 198.51.100.80")
		s.Expect(t, "nothing.example.org. A", "NXDOMAIN")
		s.Expect(t, harness.Reverse("198.51.100.80")+" PTR", "PTR www.example.org.") // fallthrough
		if asked := n.upstream.Asked("nothing.production.svc.cluster.local. A"); asked != 0 {
			t.Errorf("a name of the cluster was forwarded %d times", asked)
		}
	})

	t.Run("ExternalName", func(t *testing.T) {
		s.Expect(t, "website.production.svc.cluster.local. A", "A 198.51.100.80, CNAME www.example.org.")
		s.Expect(t, "website.production.svc.cluster.local. AAAA", "AAAA 2001:db8::80, CNAME www.example.org.")
		s.Expect(t, "website.production.svc.cluster.local. CNAME", "CNAME www.example.org.")
		s.Expect(t, "website-with-dot.production.svc.cluster.local. A", "A 198.51.100.80, CNAME www.example.org.")
		s.Expect(t, "alias.production.svc.cluster.local. A", "A "+ip+", CNAME nginx-service.production.svc.cluster.local.")
		s.Expect(t, "alias.production.svc.cluster.local. SRV", "CNAME nginx-service.production.svc.cluster.local., SRV 5000 nginx-service.production.svc.cluster.local.")
		s.Expect(t, "gone.production.svc.cluster.local. A", "NXDOMAIN CNAME nothing.example.org.")
	})

	t.Run("the server's own service", func(t *testing.T) {
		s.Expect(t, "cluster.local. NS", "NS kube-dns.kube-system.svc.cluster.local.")
		s.Expect(t, "ns.dns.cluster.local. A", "A "+dnsAddress)
		s.Expect(t, "_dns._udp.kube-dns.kube-system.svc.cluster.local. SRV", "SRV 53 kube-dns.kube-system.svc.cluster.local.")
	})

	t.Run("cache", func(t *testing.T) {
		for range 5 {
			s.Expect(t, "cached.example.org. A", "A 198.51.100.81")
			s.Expect(t, "missing.example.org. A", "NXDOMAIN")
		}
		for _, question := range []string{"cached.example.org. A", "missing.example.org. A"} {
			if asked := n.upstream.Asked(question); asked != 1 {
				t.Errorf("%s was forwarded %d times; want 1", question, asked)
			}
		}
	})

	t.Run("no cache for the cluster", func(t *testing.T) {
		s.Expect(t, "soon.production.svc.cluster.local. A", "NXDOMAIN")
		services := cluster.Client.CoreV1().Services(namespace)
		made, err := services.Create(t.Context(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "soon"},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.ExpectWithin(t, shownWithin, "soon.production.svc.cluster.local. A", "A "+made.Spec.ClusterIP)
		if err := services.Delete(t.Context(), "soon", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		s.ExpectWithin(t, shownWithin, "soon.production.svc.cluster.local. A", "NXDOMAIN")
	})

	t.Run("loadbalance", func(t *testing.T) {
		first := make(map[string]int)
		for range 60 { // one of two addresses never comes first: 1 in 2^59
			reply := s.Ask(t, "nginx.production.svc.cluster.local. A")
			first[reply.Answer[0].String()]++
		}
		if len(first) != len(pods) {
			t.Errorf("first addresses %v; want each of %v at times", first, pods)
		}
	})

	t.Run("health and ready", func(t *testing.T) {
		for _, url := range []string{s.Health + "/health", s.Ready + "/ready"} {
			if status, body, err := s.Get(url); err != nil || status != http.StatusOK || body != "OK" {
				t.Errorf("%s: %d %q %v; want 200 OK", url, status, body, err)
			}
		}
	})

	t.Run("metrics", func(t *testing.T) {
		const requests = `coredns_dns_requests_total{family="1",proto="udp",server="dns://:53",type="SRV",view="",zone="."}`
		before := metric(t, s, requests)
		s.Expect(t, "_web._tcp.nginx-service.production.svc.cluster.local. SRV", "SRV 5000 nginx-service.production.svc.cluster.local.")
		harness.Eventually(t, shownWithin, func() error { // counted once the reply is out
			if after := metric(t, s, requests); after <= before {
				return fmt.Errorf("%s stays at %v after one more query", requests, before)
			}
			return nil
		})
		// The names that dashboards for the stock plugin look at. Pods are not measured: their slices carry no time.
		page := metricsPage(t, s)
		for _, name := range append([]string{"coredns_build_info", "coredns_proxy_request_duration_seconds", "coredns_cache_hits_total"}, metrics...) {
			if !strings.Contains(page, "\n# TYPE "+name+" ") {
				t.Errorf("/metrics has no %s", name)
			}
		}
	})

	t.Run("reload under load", func(t *testing.T) {
		load := startLoad(t, s, map[string]string{
			"nginx-service.production.svc.cluster.local. A":             "A " + ip,
			"_web._tcp.nginx-service.production.svc.cluster.local. SRV": "SRV 5000 nginx-service.production.svc.cluster.local.",
			"nginx.production.svc.cluster.local. A":                     harness.Records("A", pods...),
			"nginx.production.svc.cluster.local. AAAA":                  "NODATA",
			"nothing.production.svc.cluster.local. A":                   "NXDOMAIN",
			harness.Reverse(ip) + " PTR":                                "PTR nginx-service.production.svc.cluster.local.",
			"10-244-7-77.production.pod.cluster.local. A":               "A 10.244.7.77",
			"www.example.org. A":                                        "A 198.51.100.80",
		})
		for _, ttl := range []string{"11", "12", "13", "14", "15", "16", "17", "30"} {
			s.WriteCorefile(t, strings.Replace(corefile, "ttl 30\n", "ttl "+ttl+"\n", 1))
			s.Reload() // by signal: the plugin looks every 30 to 45 s
			showsTTL(t, s, "nginx-service.production.svc.cluster.local. A", ttl, 20*time.Second)
			s.AwaitReady(t)
		}
		load.stop(t)
	})

	t.Run("lameduck", func(t *testing.T) {
		stopped := time.Now()
		s.Signal(syscall.SIGTERM)
		for {
			reply, err := s.Try(t, harness.Question{Text: "nginx-service.production.svc.cluster.local. A"})
			lasted := time.Since(stopped)
			if err == nil && harness.Text(reply) == "A "+ip {
				continue
			}
			if lasted < 4900*time.Millisecond {
				t.Errorf("%.1fs after SIGTERM: %v %v; want an answer for 5s", lasted.Seconds(), reply, err)
			}
			break
		}
		select {
		case <-s.Done():
		case <-time.After(10 * time.Second):
			t.Error("the server still runs 15s after SIGTERM")
		}
	})
}

// The other Corefiles for a pod in kube-system: the one that the tutorials show, and the one we recommend.
func TestOtherCorefilesOfKubeSystem(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"kube-system/Corefile.classic", "kubezone/Corefile"} {
		t.Run(path, func(t *testing.T) {
			n := startNode(t, cluster, shipped(t, path))
			n.server.Expect(t, "kubernetes.default.svc.cluster.local. A", "A "+apiAddress)
			n.server.Expect(t, "_https._tcp.kubernetes.default.svc.cluster.local. SRV", "SRV 443 kubernetes.default.svc.cluster.local.")
			n.server.Expect(t, harness.Reverse(apiAddress)+" PTR", "PTR kubernetes.default.svc.cluster.local.")
			n.server.Expect(t, "nothing.default.svc.cluster.local. A", "NXDOMAIN")
			n.server.Expect(t, "www.example.org. A", "A 198.51.100.80")
		})
	}
}

// The Corefile of `make run KUBECONFIG=FILE` serves that cluster from outside.
func TestCorefileForKubeconfig(t *testing.T) {
	t.Parallel()
	n := newNode(t, cluster)
	kubeconfig, _ := cluster.Kubeconfig(t, "https://"+apiAddress, "kube-system", "coredns")
	s := harness.StartServerIn(t, n.Netns, "127.0.0.1:1053", shipped(t, "kubeconfig/Corefile"), t.TempDir(), "KUBECONFIG="+kubeconfig)
	s.ExpectWithin(t, reconnectWithin, "kubernetes.default.svc.cluster.local. A", "A "+apiAddress)
	s.Expect(t, harness.Reverse(apiAddress)+" PTR", "PTR kubernetes.default.svc.cluster.local.")
}

// A server with the shortest interval takes an edit by itself, and keeps what it has when the edit is broken.
func TestEditedCorefile(t *testing.T) {
	t.Parallel()
	corefile := func(ttl string) string {
		return strings.NewReplacer("pods insecure", "ttl "+ttl, "errors", "errors\n\treload 2s 1s").Replace(plain)
	}
	s := serve(t, cluster, corefile("11"))
	const question = "kubernetes.default.svc.cluster.local. A"
	load := startLoad(t, s, map[string]string{question: "A " + apiAddress, "nothing.default.svc.cluster.local. A": "NXDOMAIN"})
	showsTTL(t, s, question, "11", 0)
	s.WriteCorefile(t, corefile("12"))
	showsTTL(t, s, question, "12", 20*time.Second)
	s.WriteCorefile(t, corefile("soon"))
	harness.Eventually(t, 20*time.Second, func() error {
		if !strings.Contains(s.Log(), "soon") {
			return errors.New("the log does not name the word that is wrong")
		}
		return nil
	})
	showsTTL(t, s, question, "12", 0)
	s.WriteCorefile(t, corefile("13"))
	showsTTL(t, s, question, "13", 20*time.Second)
	s.AwaitReady(t)
	load.stop(t)
}

// showsTTL waits for an answer with a TTL: it tells which Corefile is being served.
func showsTTL(t *testing.T, s *harness.Server, question, seconds string, within time.Duration) {
	t.Helper()
	harness.Eventually(t, within, func() error {
		reply, err := s.Try(t, harness.Question{Text: question})
		if err != nil {
			return err
		}
		if len(reply.Answer) == 0 {
			return fmt.Errorf("%s: %s", question, harness.Text(reply))
		}
		if ttl := fmt.Sprint(reply.Answer[0].Header().Ttl); ttl != seconds {
			return fmt.Errorf("%s has TTL %s; want %s", question, ttl, seconds)
		}
		return nil
	})
}

// metricsPage returns all metrics of a server.
func metricsPage(t *testing.T, s *harness.Server) string {
	t.Helper()
	status, body, err := s.Get(s.Metrics + "/metrics")
	if err != nil || status != http.StatusOK {
		t.Fatalf("/metrics: %d %v", status, err)
	}
	return "\n" + body
}

// metric returns the value of one metric, and 0 for one that is not there yet.
func metric(t *testing.T, s *harness.Server, name string) float64 {
	t.Helper()
	line := regexp.MustCompile(`\n` + regexp.QuoteMeta(name) + ` (\S+)\n`).FindStringSubmatch(metricsPage(t, s))
	if line == nil {
		return 0
	}
	value, err := strconv.ParseFloat(line[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}
