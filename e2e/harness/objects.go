package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
)

// mapper finds the resource of a kind; it asks the API server about those that it does not know yet.
type mapper struct {
	mu     sync.Mutex // guards mapper
	mapper meta.RESTMapper
}

func (m *mapper) resource(c *Cluster, object *unstructured.Unstructured) (*meta.RESTMapping, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	kind := object.GroupVersionKind()
	if m.mapper != nil {
		if mapping, err := m.mapper.RESTMapping(kind.GroupKind(), kind.Version); !meta.IsNoMatchError(err) {
			return mapping, err
		}
	}
	groups, err := restmapper.GetAPIGroupResources(c.Client.Discovery())
	if err != nil {
		return nil, err
	}
	m.mapper = restmapper.NewDiscoveryRESTMapper(groups)
	return m.mapper.RESTMapping(kind.GroupKind(), kind.Version)
}

// Apply creates or updates every object of a YAML file, as `kubectl apply -n namespace -f path` does. A namespace that
// does not exist yet is made.
func (c *Cluster) Apply(t testing.TB, namespace, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ApplyYAML(t.Context(), namespace, string(text)); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// ApplyYAML is Apply for text.
func (c *Cluster) ApplyYAML(ctx context.Context, namespace, text string) error {
	if err := c.ensureNamespace(ctx, namespace); err != nil {
		return err
	}
	return c.apply(ctx, namespace, text, metav1.ApplyOptions{FieldManager: "e2e", Force: true})
}

// Kubectl applies text, whose objects say their namespaces, after a dry run, as `kubectl apply --server-side
// --force-conflicts` does. What Apply has set is somebody else's for it, and stays if the text does not have it.
func (c *Cluster) Kubectl(ctx context.Context, text string) error {
	options := metav1.ApplyOptions{FieldManager: "kubectl", Force: true, DryRun: []string{metav1.DryRunAll}}
	if err := c.apply(ctx, "", text, options); err != nil {
		return fmt.Errorf("dry run: %w", err)
	}
	options.DryRun = nil
	return c.apply(ctx, "", text, options)
}

func (c *Cluster) apply(ctx context.Context, namespace, text string, options metav1.ApplyOptions) error {
	documents := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := documents.Decode(&object.Object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if len(object.Object) == 0 {
			continue // a document of comments only
		}
		mapping, err := c.mapper.resource(c, object)
		if err != nil {
			return err
		}
		var client dynamic.ResourceInterface = c.Dynamic.Resource(mapping.Resource)
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			if object.GetNamespace() == "" {
				object.SetNamespace(namespace)
			}
			client = c.Dynamic.Resource(mapping.Resource).Namespace(object.GetNamespace())
		}
		_, err = client.Apply(ctx, object.GetName(), object, options)
		if err != nil {
			return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
}

func (c *Cluster) ensureNamespace(ctx context.Context, name string) error {
	namespaces := c.Client.CoreV1().Namespaces()
	_, err := namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// Service returns a service as the API server holds it.
func (c *Cluster) Service(t testing.TB, namespace, name string) *corev1.Service {
	t.Helper()
	service, err := c.Client.CoreV1().Services(namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return service
}

// ReadyAddresses returns the addresses, sorted, that the slices of a service hold as ready, in one family.
func (c *Cluster) ReadyAddresses(ctx context.Context, namespace, service string, family discoveryv1.AddressType) ([]string, error) {
	list, err := c.Client.DiscoveryV1().EndpointSlices(namespace).List(ctx,
		metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	if err != nil {
		return nil, err
	}
	var addresses []string
	for _, slice := range list.Items {
		if slice.AddressType != family {
			continue
		}
		for _, endpoint := range slice.Endpoints {
			if endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready {
				addresses = append(addresses, endpoint.Addresses...)
			}
		}
	}
	slices.Sort(addresses)
	return slices.Compact(addresses), nil
}

// AwaitEndpoints waits until the slices of a service hold count ready addresses of a family, and returns them sorted.
func (c *Cluster) AwaitEndpoints(t testing.TB, namespace, service string, family discoveryv1.AddressType, count int) []string {
	t.Helper()
	var addresses []string
	Eventually(t, SettleWithin, func() error {
		var err error
		if addresses, err = c.ReadyAddresses(t.Context(), namespace, service, family); err != nil {
			return err
		}
		if len(addresses) != count {
			return fmt.Errorf("service %s/%s has %d ready %s endpoints %v; want %d", namespace, service, len(addresses), family, addresses, count)
		}
		return nil
	})
	return addresses
}

// Pods returns the pods with a label that are not being deleted, in the order of their names.
func (c *Cluster) Pods(t testing.TB, namespace, selector string) []corev1.Pod {
	t.Helper()
	list, err := c.Client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(list.Items, func(pod corev1.Pod) bool { return pod.DeletionTimestamp != nil })
}

// AwaitRunning waits until a pod has an address, and returns it.
func (c *Cluster) AwaitRunning(t testing.TB, namespace, name string) *corev1.Pod {
	t.Helper()
	var pod *corev1.Pod
	Eventually(t, SettleWithin, func() error {
		var err error
		pod, err = c.Client.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if pod.Status.PodIP == "" || pod.DeletionTimestamp != nil {
			return fmt.Errorf("pod %s/%s is %s and has no address", namespace, name, pod.Status.Phase)
		}
		return nil
	})
	return pod
}

// SetReady turns the readiness of a pod, as a probe would.
func (c *Cluster) SetReady(t testing.TB, namespace, name string, status corev1.ConditionStatus) {
	t.Helper()
	pods := c.Client.CoreV1().Pods(namespace)
	Eventually(t, SettleWithin, func() error { // again on a conflict with the simulated kubelet
		pod, err := pods.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for i := range pod.Status.Conditions {
			if pod.Status.Conditions[i].Type == corev1.PodReady {
				pod.Status.Conditions[i].Status = status
				pod.Status.Conditions[i].LastTransitionTime = metav1.Now()
			}
		}
		_, err = pods.UpdateStatus(t.Context(), pod, metav1.UpdateOptions{})
		return err
	})
}

// Token asks for a token of a service account, as a kubelet does for a pod. With bound set the token ends with that
// object.
func (c *Cluster) Token(t testing.TB, namespace, account string, bound *authenticationv1.BoundObjectReference) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: bound}}
	response, err := c.Client.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), account, request, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return response.Status.Token
}

// AccountFolder makes the folder that a pod of a service account finds at the default place.
func (c *Cluster) AccountFolder(t testing.TB, namespace, account string) string {
	t.Helper()
	dir := t.TempDir()
	authority, err := os.ReadFile(c.CA)
	if err != nil {
		t.Fatal(err)
	}
	WriteFile(t, filepath.Join(dir, "ca.crt"), string(authority))
	WriteFile(t, filepath.Join(dir, "token"), c.Token(t, namespace, account, nil))
	WriteFile(t, filepath.Join(dir, "namespace"), namespace)
	return dir
}

// Kubeconfig writes a kubeconfig with a token of a service account and returns the paths of both files. With server ""
// it points at the API server itself.
func (c *Cluster) Kubeconfig(t testing.TB, server, namespace, account string) (kubeconfig, tokenFile string) {
	t.Helper()
	if server == "" {
		server = c.URL()
	}
	dir := t.TempDir()
	kubeconfig, tokenFile = filepath.Join(dir, "kubeconfig"), filepath.Join(dir, "token")
	WriteFile(t, tokenFile, c.Token(t, namespace, account, nil))
	if err := WriteKubeconfig(kubeconfig, server, c.CA, tokenFile); err != nil {
		t.Fatal(err)
	}
	return kubeconfig, tokenFile
}

// WriteFile puts text in a file in one step: whoever reads it sees the old text or the new.
func WriteFile(t testing.TB, path, text string) {
	t.Helper()
	next := path + "." + time.Now().Format("150405.000000000")
	if err := os.WriteFile(next, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}
