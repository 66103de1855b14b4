package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

// An Inspector asks the API server of a Config single questions, for a diagnosis.
// Nothing is watched or kept. It is safe for concurrent use.
type Inspector struct {
	config          Config
	core, discovery rest.Interface
	imports         map[string]rest.Interface
}

// NewInspector reaches for nothing yet. It fails for what Open fails for.
func NewInspector(c Config) (*Inspector, error) {
	rc, err := restConfig(c)
	if err != nil {
		return nil, err
	}
	rc.UserAgent = "kubezone-doctor"
	rc.WarningHandler = rest.NoWarnings{}
	rc.ContentType, rc.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	rt, _, err := newTransport(rc, newWire(c, &reachability{host: rc.Host}))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sourceName(c), err)
	}
	i := &Inspector{config: c}
	client := &http.Client{Transport: rt}
	if i.core, err = restClient(rc, corev1.SchemeGroupVersion, client); err != nil {
		return nil, fmt.Errorf("%s: %w", sourceName(c), err)
	}
	if i.discovery, err = restClient(rc, discoveryv1.SchemeGroupVersion, client); err != nil {
		return nil, fmt.Errorf("%s: %w", sourceName(c), err)
	}
	i.imports, err = importClients(rc, client)
	return i, err
}

// Reach asks for the API server's version, which everyone may.
func (i *Inspector) Reach(ctx context.Context) error {
	return i.core.Get().AbsPath("/version").MaxRetries(0).Do(ctx).Error()
}

// HasImports tells whether the API server has the Multi-Cluster Services API.
func (i *Inspector) HasImports(ctx context.Context) (bool, error) {
	version, err := (&importSeeker{clients: i.imports}).served(ctx)
	return version != "", err
}

// A Right is what the server needs to be allowed to do.
type Right struct{ Verb, Group, Resource string }

// String is how kubectl auth can-i takes it.
func (r Right) String() string {
	if r.Group == "" {
		return r.Verb + " " + r.Resource
	}
	return r.Verb + " " + r.Resource + "." + r.Group
}

// Rights are those that a Store of the Config needs, in all namespaces.
func (i *Inspector) Rights() []Right {
	var rights []Right
	for _, k := range i.config.kinds() {
		if k == importedSlices { // those of the cluster
			continue
		}
		group := ""
		switch {
		case k == serviceImports:
			group = mcs.GroupName
		case k.Kind == index.EndpointSlices:
			group = discoveryv1.GroupName
		}
		for _, verb := range []string{"list", "watch"} {
			rights = append(rights, Right{verb, group, k.resource()})
		}
	}
	return rights
}

// UsefulRights are those without which all is served, but less well.
func (i *Inspector) UsefulRights() []Right {
	return []Right{{"list", "networking.k8s.io", "servicecidrs"}}
}

// Allowed tells whether the API server grants the right: to whoever the
// credentials belong to or, if that is not "", to the user as. Whoever asks for
// somebody else must be allowed to impersonate.
func (i *Inspector) Allowed(ctx context.Context, r Right, as string) (bool, error) {
	review, err := json.Marshal(map[string]any{
		"apiVersion": "authorization.k8s.io/v1",
		"kind":       "SelfSubjectAccessReview",
		"spec":       map[string]any{"resourceAttributes": map[string]string{"verb": r.Verb, "group": r.Group, "resource": r.Resource}},
	})
	if err != nil {
		return false, err
	}
	// Not with the type of the API: its package would be linked for this alone.
	request := i.core.Post().AbsPath("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews").SetHeader("Content-Type", runtime.ContentTypeJSON).Body(review)
	if as != "" {
		request = request.SetHeader("Impersonate-User", as)
	}
	raw, err := request.DoRaw(ctx)
	if err != nil {
		return false, err
	}
	var answer struct {
		Status struct {
			Allowed bool `json:"allowed"`
		} `json:"status"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return false, err
	}
	return answer.Status.Allowed, nil
}

// Services lists all Services.
func (i *Inspector) Services(ctx context.Context) ([]corev1.Service, error) {
	return listAll(ctx, i.core, "services", func(l *corev1.ServiceList) ([]corev1.Service, string) { return l.Items, l.Continue })
}

// Namespaces lists all Namespaces.
func (i *Inspector) Namespaces(ctx context.Context) ([]corev1.Namespace, error) {
	return listAll(ctx, i.core, "namespaces", func(l *corev1.NamespaceList) ([]corev1.Namespace, string) { return l.Items, l.Continue })
}

// Slices lists all EndpointSlices.
func (i *Inspector) Slices(ctx context.Context) ([]discoveryv1.EndpointSlice, error) {
	return listAll(ctx, i.discovery, "endpointslices", func(l *discoveryv1.EndpointSliceList) ([]discoveryv1.EndpointSlice, string) {
		return l.Items, l.Continue
	})
}

// listAll reads all pages of a list.
func listAll[L any, T any, P interface {
	*L
	runtime.Object
}](ctx context.Context, client rest.Interface, resource string, page func(P) ([]T, string)) ([]T, error) {
	var all []T
	for next := ""; ; {
		list := P(new(L))
		request := client.Get().Resource(resource).Param("limit", strconv.Itoa(pageSize))
		if next != "" {
			request = request.Param("continue", next)
		}
		if err := request.Do(ctx).Into(list); err != nil {
			return nil, err
		}
		var items []T
		items, next = page(list)
		if all = append(all, items...); next == "" {
			return all, nil
		}
	}
}
