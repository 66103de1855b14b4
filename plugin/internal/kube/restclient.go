package kube

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// sourceName names what newCluster uses, for errors.
func sourceName(c Config) string {
	switch {
	case c.Kubeconfig != "":
		return fmt.Sprintf("kubeconfig %q", c.Kubeconfig)
	case c.Endpoint != "":
		return fmt.Sprintf("endpoint %q", c.Endpoint)
	}
	return "service account"
}

// restConfig says how to reach and convince the API server.
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
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, addImports, metav1.AddMetaToScheme} {
		if err := add(scheme); err != nil {
			panic(err) // two types of one name, in a list that is fixed
		}
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	return serializer.NewCodecFactory(scheme)
})

// restClient is for one group of the API, without the types of any other.
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
