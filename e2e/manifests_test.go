package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/kubezone/kubezone/e2e/harness"
)

// manifests is the folder of what to apply to a cluster.
const manifests = "../build/kube-system"

// kustomize returns what `kubectl kustomize` prints for a folder.
func kustomize(folder string) (string, error) {
	objects, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		return "", fmt.Errorf("%s: %w", folder, err)
	}
	text, err := objects.AsYaml()
	return string(text), err
}

// render is kustomize for a folder that is valid.
func render(t *testing.T, folder string) string {
	t.Helper()
	text, err := kustomize(folder)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// withComponents renders an overlay with components, as somebody's own kustomization would have them.
func withComponents(t *testing.T, overlay string, components ...string) string {
	t.Helper()
	dir := t.TempDir()
	relative := func(folder string) string {
		absolute, err := filepath.Abs(filepath.Join(manifests, folder))
		if err != nil {
			t.Fatal(err)
		}
		path, err := filepath.Rel(dir, absolute)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	text := "resources: [" + relative(overlay) + "]\ncomponents:\n"
	for _, component := range components {
		text += "- " + relative(filepath.Join("components", component)) + "\n"
	}
	harness.WriteFile(t, filepath.Join(dir, "kustomization.yaml"), text)
	return render(t, dir)
}

// apply has the API server try objects, and then applies them.
func apply(t *testing.T, c *harness.Cluster, text string) {
	t.Helper()
	if err := c.Kubectl(t.Context(), text); err != nil {
		t.Fatal(err)
	}
}

// deployment is the server's as the API server has it.
func deployment(t *testing.T, c *harness.Cluster) *appsv1.Deployment {
	t.Helper()
	d, err := c.Client.AppsV1().Deployments("kube-system").Get(t.Context(), "coredns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// fromKubeadm applies what kubeadm applies.
func fromKubeadm(t *testing.T, c *harness.Cluster) {
	t.Helper()
	values := map[string]any{
		"DNSIP": dnsAddress, "DNSDomain": harness.Domain, "DeploymentName": "coredns", "Replicas": 2,
		"ControlPlaneTaintKey": "node-role.kubernetes.io/control-plane", "Image": "registry.k8s.io/coredns/coredns:v1.14.2",
	}
	for _, name := range []string{"CoreDNSServiceAccount", "CoreDNSClusterRole", "CoreDNSClusterRoleBinding", "CoreDNSConfigMap", "CoreDNSDeployment", "CoreDNSService"} {
		text := new(bytes.Buffer)
		if err := template.Must(template.New(name).Parse(kubeadmConstant(t, name))).Execute(text, values); err != nil {
			t.Fatal(err)
		}
		// kubeadm creates; a version is for its updates.
		manifest := strings.Replace(text.String(), "  resourceVersion: \"0\"\n", "", 1)
		if err := c.ApplyYAML(t.Context(), "kube-system", manifest); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// Over kubeadm's own objects: the drop-in changes the image and nothing else, then the base and the recommended overlay
// take the place of each, and leave nothing of another name behind.
func TestManifestsTakeThePlaceOfKubeadms(t *testing.T) {
	t.Parallel()
	c := newCluster(t, harness.Options{Families: harness.IPv4Only})
	fromKubeadm(t, c)
	theirs := deployment(t, c)

	apply(t, c, render(t, manifests+"/overlays/drop-in"))
	dropIn := deployment(t, c)
	if got := dropIn.Spec.Template.Spec.Containers[0].Image; !strings.HasPrefix(got, "kubezone:") {
		t.Errorf("image %q; want kubezone", got)
	}
	dropIn.Spec.Template.Spec.Containers[0].Image = theirs.Spec.Template.Spec.Containers[0].Image
	if !reflect.DeepEqual(dropIn.Spec, theirs.Spec) {
		t.Errorf("the drop-in makes of\n%+v\nmore than another image:\n%+v", theirs.Spec, dropIn.Spec)
	}

	service := c.Service(t, "kube-system", "kube-dns")
	for _, overlay := range []string{"base", "overlays/recommended"} {
		apply(t, c, render(t, filepath.Join(manifests, overlay)))
		if got := c.Service(t, "kube-system", "kube-dns"); !reflect.DeepEqual(got.Spec, service.Spec) || !reflect.DeepEqual(got.Labels, service.Labels) {
			t.Errorf("%s: the Service is %+v; want kubeadm's, %+v", overlay, got.Spec, service.Spec)
		}
		ours := deployment(t, c)
		their, our := theirs.Spec.Template.Spec.Containers[0], ours.Spec.Template.Spec.Containers[0]
		for _, same := range []struct {
			what        string
			their, ours any
		}{
			{"selector", theirs.Spec.Selector, ours.Spec.Selector},
			{"ports", their.Ports, our.Ports},
			{"arguments", their.Args, our.Args},
			{"container's securityContext", their.SecurityContext, our.SecurityContext},
			{"service account", theirs.Spec.Template.Spec.ServiceAccountName, ours.Spec.Template.Spec.ServiceAccountName},
			{"priority", theirs.Spec.Template.Spec.PriorityClassName, ours.Spec.Template.Spec.PriorityClassName},
			{"tolerations", theirs.Spec.Template.Spec.Tolerations, ours.Spec.Template.Spec.Tolerations},
			{"paths of probes", []string{their.LivenessProbe.HTTPGet.Path, their.ReadinessProbe.HTTPGet.Path},
				[]string{our.LivenessProbe.HTTPGet.Path, our.ReadinessProbe.HTTPGet.Path}},
		} {
			if !reflect.DeepEqual(same.ours, same.their) {
				t.Errorf("%s: %s %+v; want kubeadm's, %+v", overlay, same.what, same.ours, same.their)
			}
		}
	}
}

// The API server takes every overlay, and the recommended one with each component, in a cluster without DNS.
func TestManifestsAreAccepted(t *testing.T) {
	t.Parallel()
	c := newCluster(t, harness.Options{Families: harness.DualStack})
	overlays, err := filepath.Glob(manifests + "/overlays/*")
	if err != nil || len(overlays) == 0 {
		t.Fatalf("overlays %q, %v", overlays, err)
	}
	components, err := filepath.Glob(manifests + "/components/*")
	if err != nil || len(components) == 0 {
		t.Fatalf("components %q, %v", components, err)
	}
	apply(t, c, render(t, manifests+"/base"))
	for _, overlay := range overlays {
		if filepath.Base(overlay) != "drop-in" { // it is for a Deployment of somebody else's
			apply(t, c, render(t, overlay))
		}
	}
	for _, component := range components {
		apply(t, c, withComponents(t, "overlays/recommended", filepath.Base(component)))
	}
	for name, corefile := range map[string]string{"coredns": "kubezone/Corefile", "node-local-dns": "node-local/Corefile"} {
		config, err := c.Client.CoreV1().ConfigMaps("kube-system").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := config.Data["Corefile"], shipped(t, corefile); got != want {
			t.Errorf("the Corefile in the ConfigMap %s is\n%s\nwant\n%s", name, got, want)
		}
	}
	set, err := c.Client.AppsV1().DaemonSets("kube-system").Get(t.Context(), "node-local-dns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if pod := set.Spec.Template.Spec; pod.ServiceAccountName != "node-local-dns" || pod.Volumes[0].ConfigMap.Name != "node-local-dns" {
		t.Errorf("the node's pod has the account %s and the volumes %v; want those of the overlay", pod.ServiceAccountName, pod.Volumes)
	}
}

// A Corefile with which the server needs every right of the base within seconds.
var checking = strings.Replace(plain, "pods insecure", "pods insecure\n\t\tselfcheck 2s", 1)

// The role of the base is exactly sufficient: with it nothing is refused, and without any one of its verbs something is.
func TestEveryRightIsNeeded(t *testing.T) {
	t.Parallel()
	c := newCluster(t, harness.Options{Families: harness.IPv4Only})
	apply(t, c, render(t, manifests+"/base"))
	base, err := c.Client.RbacV1().ClusterRoles().Get(t.Context(), "system:coredns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	enough := harness.StartServer(t, checking, "KUBECONFIG="+kubeconfigWith(t, c, "enough", base.Rules))
	enough.AwaitReady(t)
	without := map[string]*harness.Server{}
	for _, right := range rights(base) {
		verb, resource, _ := strings.Cut(right, " ")
		resource, _, _ = strings.Cut(resource, ".")
		name := verb + "-" + resource
		without[right] = harness.StartServer(t, checking, "KUBECONFIG="+kubeconfigWith(t, c, "without-"+name, lacking(base.Rules, verb, resource)))
	}
	if len(without) != 7 {
		t.Fatalf("rights %v; want 7", slices.Collect(maps.Keys(without)))
	}
	for right, s := range without {
		harness.Eventually(t, 20*time.Second, func() error {
			if refusals(t, s) == 0 {
				return fmt.Errorf("without the right to %s nothing was refused", right)
			}
			return nil
		})
	}
	// All of these have listed and watched meanwhile, and so has the one with all rights.
	if n := refusals(t, enough); n > 0 {
		t.Errorf("%v requests were refused to a server that has all the rights of the base", n)
	}
	var asked []string
	harness.Eventually(t, 20*time.Second, func() error {
		asked = c.Requests(t, "kube-system", "enough")
		for _, right := range rights(base) {
			if request, _, _ := strings.Cut(right, "."); !slices.Contains(asked, request) {
				return fmt.Errorf("no %s among %v", request, asked)
			}
		}
		return nil
	})
	if n := refusals(t, enough); n > 0 {
		t.Errorf("%v requests were refused to a server that has all the rights of the base", n)
	}
}

// refusals is how many requests the API server has answered with 403.
func refusals(t *testing.T, s *harness.Server) (sum float64) {
	t.Helper()
	status, page, err := s.Get(s.Metrics + "/metrics")
	if err != nil || status != 200 {
		return 0 // it is starting
	}
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "coredns_kubernetes_rest_client_requests_total{") && strings.Contains(line, `code="403"`) {
			var n float64
			if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &n); err != nil {
				t.Fatal(err)
			}
			sum += n
		}
	}
	return sum
}

// lacking are rules without one verb for one resource.
func lacking(rules []rbacv1.PolicyRule, verb, resource string) []rbacv1.PolicyRule {
	var list []rbacv1.PolicyRule
	for _, rule := range rules {
		for _, each := range rule.Resources {
			verbs := slices.DeleteFunc(slices.Clone(rule.Verbs), func(v string) bool { return each == resource && v == verb })
			if len(verbs) > 0 {
				list = append(list, rbacv1.PolicyRule{APIGroups: rule.APIGroups, Resources: []string{each}, Verbs: verbs})
			}
		}
	}
	return list
}

// kubeconfigWith makes a service account with rules and returns a kubeconfig for it.
func kubeconfigWith(t *testing.T, c *harness.Cluster, account string, rules []rbacv1.PolicyRule) string {
	t.Helper()
	var text strings.Builder
	for _, object := range []any{
		&corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: metav1.ObjectMeta{Name: account}},
		&rbacv1.ClusterRole{TypeMeta: metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole"},
			ObjectMeta: metav1.ObjectMeta{Name: account}, Rules: rules},
		&rbacv1.ClusterRoleBinding{TypeMeta: metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRoleBinding"},
			ObjectMeta: metav1.ObjectMeta{Name: account},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: account},
			Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: account, Namespace: "kube-system"}}},
	} {
		document, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(document)
		text.WriteString("\n---\n")
	}
	if err := c.ApplyYAML(context.Background(), "kube-system", text.String()); err != nil {
		t.Fatal(err)
	}
	kubeconfig, _ := c.Kubeconfig(t, "", "kube-system", account)
	return kubeconfig
}

// startPod starts one of the pods of the server's Deployment on a node, as the API server has it, from our own image.
func startPod(t *testing.T, c *harness.Cluster) *node {
	t.Helper()
	n := newNode(t, c)
	n.startPod(t, c, deployment(t, c).Spec.Template.Spec)
	n.server.AwaitReady(t)
	return n
}

// startPod starts a pod of the server's Deployment on the node.
func (n *node) startPod(t *testing.T, c *harness.Cluster, spec corev1.PodSpec) {
	t.Helper()
	config, err := c.Client.CoreV1().ConfigMaps("kube-system").Get(t.Context(), "coredns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.pod = &harness.Pod{
		Spec:    spec,
		Image:   unpacked(t, "kubezone"),
		Netns:   n.Netns,
		Address: dnsAddress + ":53",
		Volumes: podVolumes(t, config.Data["Corefile"]),
		Account: secrets(t, c),
	}
	n.server = n.pod.Start(t, "KUBERNETES_SERVICE_HOST="+apiAddress, "KUBERNETES_SERVICE_PORT=443")
}

// podVolumes are the folders that a kubelet makes for the volumes of our pods.
func podVolumes(t *testing.T, corefile string) map[string]string {
	t.Helper()
	volumes := map[string]string{"config-volume": t.TempDir(), "snapshot": t.TempDir()}
	harness.WriteFile(t, filepath.Join(volumes["config-volume"], "Corefile"), corefile)
	for volume, mode := range map[string]os.FileMode{"config-volume": 0o755, "snapshot": 0o777} { // as of a ConfigMap and of an emptyDir
		if err := os.Chmod(volumes[volume], mode); err != nil {
			t.Fatal(err)
		}
	}
	return volumes
}
