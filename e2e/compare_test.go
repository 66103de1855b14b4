package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/kubezone/kubezone/e2e/harness"
)

// Beside stock CoreDNS on the same cluster, as a canary is: the names of the guide have the same answers, and one that is
// answered in another way on purpose is shown.
func TestCompareWithStock(t *testing.T) {
	programs, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	const namespace = "canary"
	cluster.Apply(t, namespace, "testdata/nginx-service.yaml")
	binary := harness.Binary()
	ours := serve(t, cluster, plain)
	t.Setenv("KUBEZONE_BIN", filepath.Join(programs, "coredns-stock"))
	stock := serve(t, cluster, plain)
	ip := cluster.Service(t, namespace, "nginx-service").Spec.ClusterIP
	ours.Expect(t, "nginx-service.canary.svc.cluster.local. A", "A "+ip)
	stock.Expect(t, "nginx-service.canary.svc.cluster.local. A", "A "+ip)

	compare := func(list string) (output string, code int) {
		t.Helper()
		c := exec.CommandContext(t.Context(), binary, "compare", stock.DNS, ours.DNS)
		c.Stdin = strings.NewReader(list)
		text, err := c.Output()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		return string(text), code
	}
	output, code := compare("kubernetes.default.svc.cluster.local\n" + "nginx-service.canary.svc.cluster.local A AAAA SRV\n" +
		harness.Reverse(ip) + " PTR\n" + "nothing.canary.svc.cluster.local\n" + "dns-version.cluster.local TXT\n")
	if code != 0 {
		t.Errorf("exit code %d; want no difference\n%s", code, output)
	}
	output, code = compare("dns.cluster.local A\nkubernetes.default.svc.cluster.local A\n")
	if code != 1 || !strings.Contains(output, "dns.cluster.local. A differs\n") || !strings.Contains(output, stock.DNS+" only: code and flags: NXDOMAIN aa\n") ||
		!strings.Contains(output, "2 questions: 1 the same, 1 differ") {
		t.Errorf("exit code %d; want the name that stock does not have\n%s", code, output)
	}
}

// The API server takes the objects of the migration guide, and the patch of a Deployment that follows the first.
func TestObjectsOfTheGuide(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../build/kube-system/MIGRATION.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "~~~ yaml\n")
	if len(blocks) < 2 {
		t.Fatal("the guide has no object")
	}
	for _, rest := range blocks[1:] {
		object, _, _ := strings.Cut(rest, "~~~\n")
		if strings.HasPrefix(object, "spec:") {
			patch(t, object)
			continue
		}
		if err := cluster.ApplyYAML(t.Context(), "guide", strings.Replace(object, "namespace: kube-system", "namespace: guide", 1)); err != nil {
			t.Errorf("%v\n%s", err, object)
		}
	}
}

// patch does what kubectl patch --type strategic does with the Deployment of the guide, and checks that nothing but what
// the patch has changes.
func patch(t *testing.T, text string) {
	t.Helper()
	json, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	deployment, err := cluster.Client.AppsV1().Deployments("guide").Patch(t.Context(), "coredns-canary", types.StrategicMergePatchType, json, metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	spec := deployment.Spec.Template.Spec
	if len(spec.Volumes) != 2 || spec.Volumes[0].ConfigMap == nil || spec.Volumes[0].ConfigMap.Name != "coredns-kubezone" || len(spec.Containers) != 1 || len(spec.Containers[0].VolumeMounts) != 2 {
		t.Errorf("volumes %v, containers %v; want the other ConfigMap and the snapshot", spec.Volumes, spec.Containers)
	}
}
