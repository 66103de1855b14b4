package kube

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

// A cluster is a source that lists and watches an API server.
type cluster struct {
	config Config
	rest   *rest.Config
	digest string
}

func newCluster(c Config) (*cluster, error) {
	rc, err := restConfig(c)
	if err != nil {
		return nil, err
	}
	rc.UserAgent = "kubezone"
	rc.WarningHandler = rest.NoWarnings{}
	rc.QPS = -1 // the limits are those of wire, which also measures them
	rc.ContentType = runtime.ContentTypeProtobuf
	rc.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	digest := sha256.New()
	for _, file := range []string{c.Kubeconfig, c.CAFile} {
		// What cannot be read here was not needed, or an error before.
		content, _ := os.ReadFile(file)
		digest.Write(content)
	}
	cl := &cluster{config: c, rest: rc, digest: string(digest.Sum(nil))}
	// Bad certificates show when a transport is made.
	if _, _, err := newTransport(rc, newWire(c, &reachability{})); err != nil {
		return nil, fmt.Errorf("%s: %w", sourceName(c), err)
	}
	return cl, nil
}

func (cl *cluster) credentials() string { return cl.digest }

func sourceName(c Config) string {
	switch {
	case c.Kubeconfig != "":
		return fmt.Sprintf("kubeconfig %q", c.Kubeconfig)
	case c.Endpoint != "":
		return fmt.Sprintf("endpoint %q", c.Endpoint)
	}
	return "service account"
}

func restConfig(c Config) (*rest.Config, error) {
	switch {
	case c.Kubeconfig != "":
		return fromKubeconfig(c.Kubeconfig, c.Context)
	case c.Endpoint != "":
		return fromEndpoint(c)
	}
	rc, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, errors.New("no source of objects, and this is not a pod (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set): " +
			"add kubeconfig FILE, endpoint URL or manifests PATH")
	}
	if err != nil {
		return nil, fmt.Errorf("service account of this pod: %w: mount its token, or add kubeconfig FILE, endpoint URL or manifests PATH", err)
	}
	return rc, nil
}

func fromKubeconfig(file, context string) (*rest.Config, error) {
	rules := clientcmd.ClientConfigLoadingRules{ExplicitPath: file}
	loaded, err := rules.Load()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %q: %w", file, err)
	}
	context = cmp.Or(context, loaded.CurrentContext)
	if _, ok := loaded.Contexts[context]; !ok {
		return nil, fmt.Errorf("kubeconfig %q: no context %q: want one of %q",
			file, context, slices.Sorted(maps.Keys(loaded.Contexts)))
	}
	rc, err := clientcmd.NewNonInteractiveClientConfig(*loaded, context, nil, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %q: %w", file, err)
	}
	return rc, nil
}

func fromEndpoint(c Config) (*rest.Config, error) {
	if c.CertFile != "" || c.KeyFile != "" {
		if _, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile); err != nil {
			return nil, fmt.Errorf("client certificate %q with key %q: %w", c.CertFile, c.KeyFile, err)
		}
	}
	return &rest.Config{
		Host:            c.Endpoint,
		TLSClientConfig: rest.TLSClientConfig{CertFile: c.CertFile, KeyFile: c.KeyFile, CAFile: c.CAFile},
	}, nil
}

// codecs know no more of the API than is read here.
var codecs = sync.OnceValue(func() serializer.CodecFactory {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(err) // two types of one name, in a list that is fixed
		}
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	return serializer.NewCodecFactory(scheme)
})

func restClient(rc *rest.Config, gv schema.GroupVersion, client *http.Client) (rest.Interface, error) {
	c := rest.CopyConfig(rc)
	c.GroupVersion = &gv
	c.APIPath = "/apis"
	if gv.Group == "" {
		c.APIPath = "/api"
	}
	c.NegotiatedSerializer = codecs().WithoutConversion()
	return rest.RESTClientForConfigAndClient(c, client)
}

var quietKlog = sync.OnceFunc(func() { klog.SetLogger(logr.New(debugSink{})) })

func (cl *cluster) start(ctx context.Context, s *Store) error {
	quietKlog()
	reach := &reachability{host: cl.rest.Host}
	s.away = reach.trouble
	rt, connections, err := newTransport(cl.rest, newWire(cl.config, reach))
	if err != nil {
		return fmt.Errorf("%s: %w", sourceName(cl.config), err)
	}
	httpClient := &http.Client{Transport: rt}
	core, err := restClient(cl.rest, corev1.SchemeGroupVersion, httpClient)
	if err != nil {
		return fmt.Errorf("%s: %w", sourceName(cl.config), err)
	}
	discovery, err := restClient(cl.rest, discoveryv1.SchemeGroupVersion, httpClient)
	if err != nil {
		return fmt.Errorf("%s: %w", sourceName(cl.config), err)
	}

	var running sync.WaitGroup
	for _, k := range cl.config.kinds() {
		f := cl.feed(k, s, core, discovery)
		f.listWatch.reach = reach
		running.Go(func() { f.run(ctx) })
	}
	s.work.Go(func() {
		running.Wait()
		connections.CloseIdleConnections()
	})
	return nil
}

// notEnded selects the pods whose addresses are their own.
const notEnded = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown"

const (
	pageSize      = 500
	slicePageSize = 100 // a slice may hold 1,000 endpoints
)

// feed puts together what follows a kind.
func (cl *cluster) feed(k index.Kind, s *Store, core, discovery rest.Interface) *feed {
	_, selector, _ := cl.config.selectors() // newSource saw that they parse
	conv := converter{config: cl.config, labels: selector}
	x := s.index
	latency := programming{index: x, selective: selector != nil}
	lw := &listWatch{client: core, kind: k, report: s.report(k), pace: new(pace), pageSize: pageSize}
	switch k {
	case index.Services:
		lw.selectors.LabelSelector = cl.config.Labels
		return newFeed(lw, new(corev1.Service), new(corev1.ServiceList), &table[*corev1.Service, index.Service]{
			convert: conv.service, same: x.SameService,
			replace: x.ReplaceServices, set: x.SetService, remove: x.DeleteService,
			added: latency.service,
		})
	case index.EndpointSlices:
		lw.client, lw.group, lw.pageSize = discovery, discoveryv1.GroupName, slicePageSize
		return newFeed(lw, new(discoveryv1.EndpointSlice), new(discoveryv1.EndpointSliceList), &table[*discoveryv1.EndpointSlice, index.Slice]{
			convert: conv.slice, same: x.SameSlice,
			replace: x.ReplaceSlices, set: x.SetSlice, remove: x.DeleteSlice,
			changed: latency.slice,
		})
	case index.Namespaces:
		lw.selectors.LabelSelector = cl.config.NamespaceLabels
		return newFeed(lw, new(corev1.Namespace), new(corev1.NamespaceList), &table[*corev1.Namespace, index.Namespace]{
			convert: conv.namespace, same: func(n *index.Namespace) *index.Namespace { return n },
			replace: x.ReplaceNamespaces, set: x.SetNamespace,
			remove: func(key index.ObjectKey, version uint64) { x.DeleteNamespace(key.Name, version) },
		})
	default:
		lw.selectors.FieldSelector = notEnded
		return newFeed(lw, new(corev1.Pod), new(corev1.PodList), &table[*corev1.Pod, index.Pod]{
			convert: conv.pod, same: x.SamePod,
			replace: x.ReplacePods, set: x.SetPod, remove: x.DeletePod,
		})
	}
}

// A patientClock lets no watch look short. A reflector takes one that ends
// within a second without an event for an error and lists anew, although all
// that is missing is a little patience, for which pace sees.
type patientClock struct{ clock.RealClock }

// Since is never less than a second.
func (patientClock) Since(t time.Time) time.Duration { return max(time.Since(t), time.Second) }

// A feed follows one kind.
type feed struct {
	listWatch *listWatch
	reflector *cache.Reflector
}

func newFeed[O interface {
	metav1.Object
	runtime.Object
}, T any](lw *listWatch, object O, list runtime.Object, t *table[O, T]) *feed {
	t.report, t.pace = lw.report, lw.pace
	lw.newList = list.DeepCopyObject
	lw.slim = func(o runtime.Object) runtime.Object { return t.slim(o.(O)) }
	logger := logr.New(debugSink{})
	return &feed{
		listWatch: lw,
		reflector: cache.NewReflectorWithOptions(lw, object, t, cache.ReflectorOptions{
			Name:    lw.kind.String(),
			Logger:  &logger,
			Clock:   patientClock{},
			Backoff: &retryDelays,
		}),
	}
}

// run returns once ctx is done and all that it began has ended. There is no
// pause between two rounds, as every request waits for its turn.
func (f *feed) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := f.reflector.ListAndWatchWithContext(ctx); err != nil {
			log.Debugf("Following %s: %v", f.listWatch.kind, err)
		}
	}
	f.listWatch.listing.Lock()
	defer f.listWatch.listing.Unlock()
}
