package e2e

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientrecord "k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletdns "k8s.io/kubernetes/pkg/kubelet/network/dns"

	"github.com/kubezone/kubezone/e2e/harness"
)

// Scenario d: system resolvers, configured as the kubelet does for each DNS policy, find what a pod must find.
func TestResolversInPods(t *testing.T) {
	t.Parallel()
	cluster.Apply(t, "default", "testdata/nginx-service.yaml")
	cluster.Apply(t, "other", "testdata/nginx-service.yaml")
	cluster.Apply(t, "default", "testdata/dns-policies.yaml")
	lookup := buildLookup(t)
	t.Run("kubeadm's Corefile", func(t *testing.T) { resolve(t, startNode(t, cluster, kubeSystem(t)), lookup) })
	t.Run("recommended deployment", func(t *testing.T) {
		if err := podsRefused(); err != nil {
			t.Skipf("skipped: %v", err)
		}
		resolve(t, startPod(t, cluster), lookup)
	})
}

// resolve looks names up, on a node, as a pod of each DNS policy does.
func resolve(t *testing.T, n *node, lookup string) {
	t.Helper()
	t.Parallel()
	here := cluster.Service(t, "default", "nginx-service").Spec.ClusterIP
	there := cluster.Service(t, "other", "nginx-service").Spec.ClusterIP
	const nothing = ""
	inside := map[string]string{
		"nginx-service":                            here,
		"nginx-service.default":                    here,
		"nginx-service.default.svc":                here,
		"nginx-service.default.svc.cluster.local":  here,
		"nginx-service.default.svc.cluster.local.": here,
		"nginx-service.other":                      there,
		"nginx-service.other.svc":                  there,
		"nginx-service.other.svc.cluster.local":    there,
		"no-such-service":                          nothing,
		"no-such-service.default.svc":              nothing,
		"www.example.org":                          "198.51.100.80 2001:db8::80",
		"intranet":                                 "198.51.100.90",
	}
	// A pod that asks the node's resolver finds the outside, and nothing of the cluster.
	likeTheNode := map[string]string{
		"nginx-service":                           nothing,
		"nginx-service.default.svc":               nothing,
		"nginx-service.default.svc.cluster.local": nothing,
		"www.example.org":                         "198.51.100.80 2001:db8::80",
		"intranet":                                "198.51.100.90",
	}
	fullNamesOnly := map[string]string{
		"nginx-service": nothing,
		"nginx-service.default.svc.cluster.local": here,
		"nginx-service.other.svc.cluster.local":   there,
		"www.example.org":                         "198.51.100.80 2001:db8::80",
		"intranet":                                nothing,
	}

	// The pods share the namespace with one resolv.conf, so they take turns.
	for _, test := range []struct {
		pod      string
		resolves map[string]string
	}{
		{"cluster-first", inside},
		{"cluster-first-on-the-host-network", likeTheNode}, // as the documentation warns
		{"cluster-first-with-host-net", inside},
		{"cluster-first-fewer-dots", inside},
		{"default", likeTheNode},
		{"none", inside},
		{"none-without-searches", fullNamesOnly},
	} {
		t.Run(test.pod, func(t *testing.T) {
			pod, err := cluster.Client.CoreV1().Pods("default").Get(t.Context(), test.pod, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			text := podResolvConf(t, pod)
			n.WriteEtc(t, "resolv.conf", text)
			names := make([]string, 0, len(test.resolves))
			for name := range test.resolves {
				names = append(names, name)
			}
			slices.Sort(names)
			static := lookupAll(t, n, lookup, names)
			for _, name := range names {
				if got := getent(t, n, name); got != test.resolves[name] {
					t.Errorf("getent ahosts %s: %q; want %q", name, got, test.resolves[name])
				}
				if got := static[name]; got != test.resolves[name] {
					t.Errorf("static Go binary, %s: %q; want %q", name, got, test.resolves[name])
				}
			}
			if t.Failed() {
				t.Logf("resolv.conf:\n%s", text)
			}
		})
	}
}

// podResolvConf is the file that a container runtime writes from what the kubelet tells it.
func podResolvConf(t *testing.T, pod *corev1.Pod) string {
	t.Helper()
	nodeFile := filepath.Join(t.TempDir(), "resolv.conf")
	harness.WriteFile(t, nodeFile, resolvConf)
	configurer := kubeletdns.NewConfigurer(clientrecord.NewFakeRecorder(10), &corev1.ObjectReference{Kind: "Node", Name: "node-0"},
		[]net.IP{net.ParseIP("192.0.2.10")}, []net.IP{net.ParseIP(dnsAddress)}, harness.Domain, nodeFile)
	config, err := configurer.GetPodDNS(context.Background(), pod)
	if err != nil {
		t.Fatal(err)
	}
	return resolvConfOf(config)
}

func resolvConfOf(config *runtimeapi.DNSConfig) string {
	var text strings.Builder
	if len(config.Searches) > 0 {
		text.WriteString("search " + strings.Join(config.Searches, " ") + "\n")
	}
	for _, server := range config.Servers {
		text.WriteString("nameserver " + server + "\n")
	}
	if len(config.Options) > 0 {
		text.WriteString("options " + strings.Join(config.Options, " ") + "\n")
	}
	return text.String()
}

// getent asks the system's resolver and returns the addresses, sorted.
func getent(t *testing.T, n *node, name string) string {
	t.Helper()
	const notFound = 2 // the exit code
	output, err := n.Command("getent", "ahosts", name).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == notFound {
		return ""
	}
	if err != nil {
		t.Fatalf("getent ahosts %s: %v", name, err)
	}
	var addresses []string
	for line := range strings.Lines(string(output)) {
		addresses = append(addresses, strings.Fields(line)[0])
	}
	return sorted(addresses)
}

// buildLookup compiles the static Go program that resolves names.
func buildLookup(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lookup")
	build := exec.Command("go", "build", "-tags", "netgo", "-o", path, "./lookup")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build ./lookup: %v\n%s", err, output)
	}
	return path
}

// lookupAll runs that program and returns the addresses of each name, sorted.
func lookupAll(t *testing.T, n *node, lookup string, names []string) map[string]string {
	t.Helper()
	output, err := n.Command(lookup, names...).Output()
	if err != nil {
		t.Fatalf("lookup: %v", err)
	}
	found := make(map[string]string)
	for line := range strings.Lines(string(output)) {
		words := strings.Fields(line)
		found[words[0]] = sorted(words[1:])
	}
	return found
}

func sorted(addresses []string) string {
	slices.Sort(addresses)
	return strings.Join(slices.Compact(addresses), " ")
}
