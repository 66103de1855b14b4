package differential

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubezone/kubezone/e2e/harness"
)

// importZone is the zone of what other clusters share, in the blocks that have it.
const importZone = "clusterset.local."

// The labels of EndpointSlices that another cluster shares (KEP-1645).
const (
	labelImport  = "multicluster.kubernetes.io/service-name"
	labelCluster = "multicluster.kubernetes.io/source-cluster"
)

var serviceImports = schema.GroupVersionResource{Group: "multicluster.x-k8s.io", Version: "v1beta1", Resource: "serviceimports"}

var clusterIDs = []string{"east", "East", "west.eu", "7"}

// A serviceImport is as much of one as the DNS shows.
type serviceImport struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec struct {
		Type  string               `json:"type"`
		IPs   []string             `json:"ips,omitempty"`
		Ports []corev1.ServicePort `json:"ports"`
	} `json:"spec"`
}

// installImports adds the API to the cluster.
func installImports(t *testing.T, c *harness.Cluster) {
	t.Helper()
	definition, err := os.ReadFile("../testdata/multicluster/definition.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ApplyYAML(t.Context(), "kube-system", string(definition)); err != nil {
		t.Fatalf("definition.yaml: %v", err)
	}
	harness.Eventually(t, harness.SettleWithin, func() error {
		_, err := c.Dynamic.Resource(serviceImports).List(t.Context(), metav1.ListOptions{})
		return err
	})
}

// changeImport creates, deletes or updates an import.
func (g *gardener) changeImport(ctx context.Context, at key) error {
	have := g.world.imports[at]
	if have != nil && in(g.random, 5) {
		return g.deleteImport(ctx, at)
	}
	made := &serviceImport{ObjectMeta: metav1.ObjectMeta{Name: at.name}}
	if have != nil {
		made.ObjectMeta = *have.ObjectMeta.DeepCopy()
	}
	made.Labels = g.label("tier", tiers)
	for name, value := range g.label("team", teams) {
		if made.Labels == nil {
			made.Labels = map[string]string{}
		}
		made.Labels[name] = value
	}
	made.Spec.Type, made.Spec.Ports = "Headless", g.servicePorts(false)
	if in(g.random, 2) {
		made.Spec.Type, made.Spec.Ports = "ClusterSetIP", g.servicePorts(true)
		n := g.random.IntN(100)
		ips := []string{fmt.Sprintf("10.112.0.%d", n), fmt.Sprintf("fd00:112::%x", n)}
		made.Spec.IPs = pick(g.random, [][]string{ips, ips[:1], ips[1:], ips[:1], nil}) // the last has none yet
	}
	return g.putImport(ctx, at, made)
}

func (g *gardener) deleteImport(ctx context.Context, at key) error {
	delete(g.world.imports, at)
	return g.cluster.Dynamic.Resource(serviceImports).Namespace(at.namespace).Delete(ctx, at.name, metav1.DeleteOptions{})
}

// putImport creates the import, or updates the one that it has the resource version of.
func (g *gardener) putImport(ctx context.Context, at key, made *serviceImport) error {
	made.TypeMeta = metav1.TypeMeta{APIVersion: serviceImports.GroupVersion().String(), Kind: "ServiceImport"}
	if made.Spec.Ports == nil {
		made.Spec.Ports = []corev1.ServicePort{}
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(made)
	if err != nil {
		return err
	}
	imports := g.cluster.Dynamic.Resource(serviceImports).Namespace(at.namespace)
	object := &unstructured.Unstructured{Object: fields}
	if made.ResourceVersion == "" {
		object, err = imports.Create(ctx, object, metav1.CreateOptions{})
	} else {
		object, err = imports.Update(ctx, object, metav1.UpdateOptions{})
	}
	if err != nil {
		return err
	}
	g.world.imports[at], err = readImport(object)
	return err
}

func readImport(object *unstructured.Unstructured) (*serviceImport, error) {
	read := new(serviceImport)
	err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, read)
	return read, err
}

// readImports takes the imports from the API server.
func (g *gardener) readImports(ctx context.Context) (map[key]*serviceImport, error) {
	list, err := g.cluster.Dynamic.Resource(serviceImports).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	all := map[key]*serviceImport{}
	for i := range list.Items {
		read, err := readImport(&list.Items[i])
		if err != nil {
			return nil, err
		}
		all[key{read.Namespace, read.Name}] = read
	}
	return all, nil
}

// changeImportedSlice creates, deletes or updates a slice of an import.
func (g *gardener) changeImportedSlice(ctx context.Context, namespace string) error {
	service, cluster := pick(g.random, serviceNames[:4]), pick(g.random, clusterIDs)
	family := pick(g.random, []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6})
	at := key{namespace, strings.ToLower(fmt.Sprintf("imported-%s-%s-%s", service, cluster, family))}
	if g.world.slices[at] != nil && in(g.random, 4) {
		return g.deleteSlice(ctx, at)
	}
	return g.putSlice(ctx, at, family, map[string]string{labelImport: service, labelCluster: cluster})
}

// markImports is mark for what other clusters share.
func (g *gardener) markImports(ctx context.Context) error {
	marked := map[string]string{"tier": "front", "team": "a"}
	for _, name := range []string{"imports", "imported"} {
		at := key{markNamespace, name}
		made := &serviceImport{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: marked}}
		if have := g.world.imports[at]; have != nil {
			made.ObjectMeta = *have.ObjectMeta.DeepCopy()
		}
		made.Spec.Type = "Headless"
		if name == "imports" {
			made.Spec.Type, made.Spec.IPs, made.Spec.Ports = "ClusterSetIP", []string{g.markAddress()}, []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}
		}
		if err := g.putImport(ctx, at, made); err != nil {
			return err
		}
	}
	for _, name := range []string{"imports", "imported"} { // the first has one so that `ignore empty_service` shows it
		if err := g.markImportedSlice(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (g *gardener) markImportedSlice(ctx context.Context, name string) error {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{"tier": "front", labelImport: name, labelCluster: "east"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{g.markAddress()}}},
	}
	slicesOf := g.cluster.Client.DiscoveryV1().EndpointSlices(markNamespace)
	if have := g.world.slices[key{markNamespace, name}]; have != nil {
		slice.ObjectMeta = have.ObjectMeta
		_, err := slicesOf.Update(ctx, slice, metav1.UpdateOptions{})
		return err
	}
	for _, s := range []*discoveryv1.EndpointSlice{slice, staying(slice)} {
		if _, err := slicesOf.Create(ctx, s, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// foreign makes an address that is in no other cluster than the one that shares it.
func foreign(address string) string {
	const in4, in6 = "10.1.99.9", "fd00:1::99:9"
	switch {
	case strings.HasPrefix(address, "10.244."):
		return strings.Replace(address, "10.244.", "10.1.", 1)
	case strings.HasPrefix(address, "fd00:244:"):
		return strings.Replace(address, "fd00:244:", "fd00:1:", 1)
	case strings.Contains(address, ":"):
		return in6
	}
	return in4
}

// shared is what other clusters share, as the cluster of that a DNS server shows in importZone: an import with an address is
// a service, and a slice of it one of the service.
func (w *world) shared() *world {
	theirs := &world{namespaces: w.namespaces, imports: w.imports, services: map[key]*corev1.Service{}, slices: map[key]*discoveryv1.EndpointSlice{}}
	for at, i := range w.imports {
		s := &corev1.Service{ObjectMeta: i.ObjectMeta, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Ports: i.Spec.Ports, ClusterIPs: i.Spec.IPs}}
		switch {
		case i.Spec.Type == "Headless":
			s.Spec.ClusterIP, s.Spec.ClusterIPs = corev1.ClusterIPNone, []string{corev1.ClusterIPNone}
		case len(i.Spec.IPs) == 0:
			continue
		}
		theirs.services[at] = s
	}
	for at, slice := range w.slices {
		if slice.Labels[labelImport] != "" {
			theirs.slices[at] = slice.DeepCopy()
			theirs.slices[at].Labels[discoveryv1.LabelServiceName] = slice.Labels[labelImport]
		}
	}
	return theirs
}

// of is what the block shows in the zone that a name is in.
func (v view) of(m meaning) view {
	if m.zone == importZone {
		return view{v.theirs, v.block}
	}
	return v
}

// imported reads a name in importZone. There are no names of pods.
func (m *meaning) imported() {
	const mostLabels = 3 // of an endpoint and its cluster
	switch m.labels[0] {
	case "pod":
		return
	case "svc":
		m.svc(false)
	}
	if len(m.labels) <= 3 || m.labels[0] != "svc" {
		return
	}
	if above := slices.Clone(m.labels[3:]); len(above) <= mostLabels && above[0][0] != '_' {
		slices.Reverse(above)
		m.form, m.label = label, strings.Join(above, ".")
	}
}
