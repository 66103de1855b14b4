package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubezone/kubezone/e2e/harness"
)

// A patient is what doctor looks at: files, and a cluster.
type patient struct {
	cluster        *harness.Cluster
	corefile       string // text
	node, pod      string // resolv.conf
	folder         string
	otherArguments []string
}

// examine runs doctor and returns its report and exit code.
func (p patient) examine(t *testing.T) (report string, code int) {
	t.Helper()
	args := []string{"doctor"}
	for flag, content := range map[string]string{"-conf": p.corefile, "-resolv-conf": p.node, "-pod-resolv-conf": p.pod} {
		path := filepath.Join(p.folder, flag)
		harness.WriteFile(t, path, content)
		args = append(args, flag, path)
	}
	output, err := exec.CommandContext(t.Context(), harness.Binary(), append(args, p.otherArguments...)...).Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		code = exit.ExitCode()
	}
	return string(output), code
}

const (
	nodeResolver = "nameserver 192.0.2.53\nsearch example.org\n"
	podResolver  = "nameserver 10.96.0.10\nsearch prod.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
)

// Nothing is found where all is well, with the rights of rbac.yaml and no others; each fault that is planted is found, with
// what to do; and nothing is left once all are mended.
func TestDoctor(t *testing.T) {
	t.Parallel()
	c := newCluster(t, harness.Options{Families: harness.IPv4Only})
	c.Apply(t, "kube-system", "testdata/kube-dns.yaml")
	kubeconfig, _ := c.Kubeconfig(t, "", "kube-system", "coredns")
	well := patient{
		cluster: c, folder: t.TempDir(), node: nodeResolver, pod: podResolver,
		corefile: strings.Replace(shipped(t, "kubezone/Corefile"), "ip6.arpa {\n", "ip6.arpa {\n        kubeconfig "+kubeconfig+"\n", 1),
	}
	harness.Eventually(t, harness.SettleWithin, func() error { // rights take effect a moment later
		if report, code := well.examine(t); code != 0 || report != "0 errors, 0 warnings, 0 notes\n" {
			return errors.New(report)
		}
		return nil
	})

	// Faults of the files, each alone.
	for _, fault := range []struct {
		name  string
		plant func(*patient)
		want  string
		fix   string
		code  int
	}{
		{"API server away", func(p *patient) {
			away := filepath.Join(p.folder, "away")
			if err := harness.WriteKubeconfig(away, "https://127.0.0.1:1", c.CA, kubeconfig); err != nil {
				t.Fatal(err)
			}
			p.otherArguments = []string{"-kubeconfig", away}
		}, "ERROR api: the API server does not answer: ", "look at the address", 2},
		{"kube-dns upstream", func(p *patient) { p.node = "nameserver 10.96.0.10\n" },
			"ERROR forward-loop: forward goes to 10.96.0.10, the Service kube-system/kube-dns in front of this server", "dnsPolicy: Default", 2},
		{"stub upstream", func(p *patient) { p.node = "nameserver 127.0.0.53\n" }, "ERROR forward-loop: forward goes to 127.0.0.53", "resolvConf", 2},
		{"clusterDNS of the kubelet", func(p *patient) { p.pod = strings.Replace(podResolver, "10.96.0.10", "10.96.0.11", 1) },
			"ERROR pod-resolver: ", "clusterDNS", 2},
		{"ndots", func(p *patient) { p.pod = strings.Replace(podResolver, "ndots:5", "ndots:1", 1) }, "WARNING ndots: ", "set ndots to 5", 1},
		{"cached denial", func(p *patient) {
			p.corefile = strings.Replace(p.corefile, "fallthrough in-addr.arpa ip6.arpa", "fallthrough", 1)
		}, "WARNING cache: ", "disable denial cluster.local", 1},
		{"no readiness", func(p *patient) { p.corefile = strings.Replace(p.corefile, "    ready\n", "", 1) }, "WARNING plugins: ", "readinessProbe", 1},
		{"multicluster without the API", func(p *patient) {
			p.corefile = strings.Replace(p.corefile, "kubezone cluster.local in-addr.arpa ip6.arpa {", "kubezone cluster.local clusterset.local in-addr.arpa ip6.arpa {\n        multicluster clusterset.local", 1)
		}, "WARNING multicluster: ", "CustomResourceDefinitions", 2}, // and the right is missing
	} {
		p := well
		fault.plant(&p)
		report, code := p.examine(t)
		if code != fault.code {
			t.Errorf("%s: exit code %d; want %d\n%s", fault.name, code, fault.code, report)
		}
		finds(t, fault.name, report, fault.want, fault.fix)
	}

	// Faults of the cluster, one after the other and all mended at the end.
	ctx := context.Background()
	for _, fault := range []struct{ name, namespace, plant, want, fix string }{
		{"right to watch", "kube-system", strings.Replace(rbac(t), "resources: [endpointslices]\n  verbs: [list, watch]", "resources: [endpointslices]\n  verbs: [list]", 1),
			"ERROR rbac: the server may not watch endpointslices.discovery.k8s.io", "ClusterRole"},
		{"namespace that captures", "com", `{apiVersion: v1, kind: Service, metadata: {name: github}, spec: {ports: [{port: 443}]}}`,
			"NOTE namespaces: the namespace com exists and is denied", "deny_namespaces"},
		{"namespace that captures and is not denied", "dev", `{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 443}]}}`,
			`WARNING namespaces: the namespace dev captures names in the top-level domain dev: its services ["web"]`, "add it to deny_namespaces"},
		{"slice without label", "default", `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: lost}, addressType: IPv4, endpoints: [{addresses: [192.0.2.1]}]}`,
			`WARNING slices: EndpointSlices without the label of their service make no names: ["default/lost"]`, "kubernetes.io/service-name"},
		{"endpoints that are not ready", "default", `{apiVersion: v1, kind: Service, metadata: {name: db}, spec: {clusterIP: None}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: db-1, labels: {kubernetes.io/service-name: db}}, addressType: IPv4,
  endpoints: [{addresses: [192.0.2.2], conditions: {ready: false}}]}`,
			`WARNING endpoints: headless services of whose endpoints none is ready do not resolve: ["default/db"]`, "publishNotReadyAddresses"},
		{"alias for an address", "default", `{apiVersion: v1, kind: Service, metadata: {name: alias}, spec: {type: ExternalName, externalName: 192.0.2.7}}`,
			"WARNING aliases: the ExternalName service default/alias has the address 192.0.2.7", "EndpointSlice"},
		{"no TCP in front", "kube-system", `{apiVersion: v1, kind: Service, metadata: {name: kube-dns}, spec: {clusterIP: 10.96.0.10, ports: [{name: dns, port: 53, protocol: UDP}]}}`,
			"ERROR service: the Service kube-system/kube-dns has no port 53 of TCP", "add the port 53 of TCP"},
		{"nobody behind the front", "kube-system", `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: kube-dns-by-hand, labels: {kubernetes.io/service-name: kube-dns}}, addressType: IPv4, endpoints: []}`,
			"ERROR service: the Service kube-system/kube-dns has no ready endpoint", "readiness"},
	} {
		if err := c.ApplyYAML(ctx, fault.namespace, fault.plant); err != nil {
			t.Fatalf("%s: %v", fault.name, err)
		}
		harness.Eventually(t, harness.SettleWithin, func() error {
			report, code := well.examine(t)
			if code != 2 || !found(report, fault.want, fault.fix) {
				return errors.New(fault.name + ": no finding " + fault.want + " in\n" + report)
			}
			return nil
		})
	}

	for namespace, names := range map[string][]string{"com": {"github"}, "dev": {"web"}, "default": {"db", "alias"}} {
		for _, name := range names {
			if err := c.Client.CoreV1().Services(namespace).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"lost", "db-1"} {
		if err := c.Client.DiscoveryV1().EndpointSlices("default").Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.Apply(t, "kube-system", "testdata/kube-dns.yaml")
	if err := c.ApplyYAML(ctx, "kube-system", rbac(t)); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, harness.SettleWithin, func() error {
		report, code := well.examine(t)
		if code != 0 || !strings.HasSuffix(report, "\n0 errors, 0 warnings, 1 notes\n") { // com is still there, and denied
			return errors.New(report)
		}
		return nil
	})

	// An administrator looks with rights of its own at those of the service account.
	admin := well
	admin.otherArguments = []string{"-kubeconfig", c.AdminKubeconfig(), "-as", "system:serviceaccount:kube-system:nobody"}
	if report, code := admin.examine(t); code != 2 || !found(report, "ERROR rbac: the server may not list services, watch services, list namespaces", "ClusterRole") {
		t.Errorf("as somebody without rights: exit code %d\n%s", code, report)
	}
	admin.otherArguments[3] = "system:serviceaccount:kube-system:coredns"
	if report, code := admin.examine(t); code != 0 {
		t.Errorf("as the service account: exit code %d\n%s", code, report)
	}
}

// rbac is what an operator installs.
func rbac(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../build/kube-system/base/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// finds checks that a report has a finding, and what to do.
func finds(t *testing.T, name, report, want, fix string) {
	t.Helper()
	if !found(report, want, fix) {
		t.Errorf("%s: no finding %q with a fix %q in\n%s", name, want, fix, report)
	}
}

func found(report, want, fix string) bool {
	_, rest, found := strings.Cut("\n"+report, "\n"+want)
	_, rest, more := strings.Cut(rest, "\n    fix: ")
	line, _, _ := strings.Cut(rest, "\n")
	return found && more && strings.Contains(line, fix)
}
