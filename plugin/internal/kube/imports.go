package kube

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

// importVersions are those of the Multi-Cluster Services API. ServiceImports have
// the same fields in both, so one type is enough.
var importVersions = []string{"v1beta1", "v1alpha1"}

// addImports makes ServiceImports of all versions known to the scheme.
func addImports(scheme *runtime.Scheme) error {
	for _, version := range importVersions {
		gv := schema.GroupVersion{Group: mcs.GroupName, Version: version}
		scheme.AddKnownTypes(gv, &mcs.ServiceImport{}, &mcs.ServiceImportList{})
		metav1.AddToGroupVersion(scheme, gv)
	}
	return nil
}

// importClients are for the ServiceImports of each version. Custom resources
// come as JSON only.
func importClients(rc *rest.Config, client *http.Client) (map[string]rest.Interface, error) {
	rc = rest.CopyConfig(rc)
	rc.ContentType, rc.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	clients := map[string]rest.Interface{}
	for _, version := range importVersions {
		c, err := restClient(rc, schema.GroupVersion{Group: mcs.GroupName, Version: version}, client)
		if err != nil {
			return nil, err
		}
		clients[version] = c
	}
	return clients, nil
}

// An importSeeker finds the version of the API that the API server has. It asks
// for the versions first, because a request for ServiceImports is refused in the
// same words where a right is missing and where the API is.
type importSeeker struct {
	listWatch *listWatch // whose client it sets
	clients   map[string]rest.Interface
	index     *index.Index
	pace      pace
	absences  int // looks in a row that found no API
}

// absentPause is between two looks for an API that is not there: one small
// request, so that what is installed later is served within half a minute.
const absentPause = 15 * time.Second

// seek reports whether there is a version to follow. If there is none, it returns
// when it is time for the next look.
func (s *importSeeker) seek(ctx context.Context) bool {
	if err := s.pace.wait(ctx); err != nil {
		return false
	}
	version, err := s.served(ctx)
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil:
		s.pace.failed(err)
		s.listWatch.failed("look for", err)
		return false
	}
	s.pace.served()
	if version == "" {
		s.absent()
		pause(ctx, absentPause)
		return false
	}
	s.absences = 0
	s.listWatch.use(s.clients[version])
	return true
}

// served is the version that the API server prefers of those known here, "" if it
// has none.
func (s *importSeeker) served(ctx context.Context) (string, error) {
	oldest := importVersions[len(importVersions)-1]
	var group metav1.APIGroup
	err := s.clients[oldest].Get().AbsPath("/apis", mcs.GroupName).MaxRetries(0).Do(ctx).Into(&group)
	switch {
	case apierrors.IsNotFound(err):
		return "", nil
	case apierrors.IsForbidden(err):
		// Everyone may ask, unless an administrator took that right away. Every
		// release of the API so far has the oldest version.
		return oldest, nil
	case err != nil:
		return "", err
	}
	for _, v := range group.Versions {
		if s.clients[v.Version] != nil {
			return v.Version, nil
		}
	}
	return "", nil
}

// absent takes note that nothing is imported, as there is no API for it. An API
// server removes the objects before their definition: one that does not know the
// objects held here is asked twice.
func (s *importSeeker) absent() {
	s.absences++
	if s.absences == 1 && s.index.Count(index.Services) > 0 {
		return
	}
	s.index.ReplaceServices(nil, 0)
	s.listWatch.report.absent()
	text := fmt.Sprintf("the API server does not have the API group %s, so nothing is in the multicluster zones: "+
		"install the CustomResourceDefinitions of https://github.com/kubernetes-sigs/mcs-api, or remove the option multicluster", mcs.GroupName)
	if s.listWatch.report.failed("absent", text) {
		log.Warningf("Following %s: %s", s.listWatch.kind, text)
	}
}

// serviceImport makes a Service of what other clusters share. One without an
// address yet is not there yet, which is no fault.
func (c converter) serviceImport(o *mcs.ServiceImport, f *faults) *index.Service {
	if !c.shows(o.Namespace) {
		return nil
	}
	s := &index.Service{ObjectKey: objectKey(o), ResourceVersion: resourceVersion(o.ResourceVersion)}
	if !validKey(s.ObjectKey, f) {
		return nil
	}
	for _, p := range o.Spec.Ports {
		if port, ok := portOf(p.Name, p.Protocol, p.Port, f); ok {
			s.Ports = append(s.Ports, port)
		}
	}
	switch o.Spec.Type {
	case mcs.Headless:
		s.Type = index.Headless
		return s
	case mcs.ClusterSetIP:
		s.ClusterIPs = clusterSetIPs(o.Spec.IPs, f)
		if len(s.ClusterIPs) > 0 {
			return s
		}
	default:
		f.add(badType, "type %q: want %s or %s", o.Spec.Type, mcs.ClusterSetIP, mcs.Headless)
	}
	return nil
}

func clusterSetIPs(texts []string, f *faults) []netip.Addr {
	var addrs []netip.Addr
	for _, text := range texts {
		if a, ok := parseAddr(text); ok {
			addrs = append(addrs, a)
		} else {
			f.add(badClusterIP, "ip %q: want an IP address", text)
		}
	}
	return addrs
}

// importedSlice is slice for the slices of a ServiceImport, whose endpoints are
// labelled HOSTNAME.CLUSTERID (KEP-1645, specification.md section 2.4.1).
func (c converter) importedSlice(o *discoveryv1.EndpointSlice, f *faults) *index.Slice {
	service := o.Labels[mcs.LabelServiceName]
	if !c.publishes(o, service, f) {
		return nil
	}
	cluster := strings.ToLower(o.Labels[mcs.LabelSourceCluster])
	if !isClusterID(cluster) {
		f.add(badCluster, "label %s %q: want a cluster ID, of one DNS label or two", mcs.LabelSourceCluster, cluster)
		return nil
	}
	endpoints := c.endpoints(o, f)
	for i := range endpoints {
		e := &endpoints[i]
		if e.Label == "" {
			e.Label = index.DashedLabel(e.Addr)
		}
		e.Label += "." + cluster
	}
	s := index.NewSlice(objectKey(o), resourceVersion(o.ResourceVersion), service, endpointPorts(o, f), endpoints)
	s.Cluster = cluster
	return s
}

// mostClusterLabels is how many labels a cluster ID may have. The API asks for
// one, KEP-2149 for a subdomain; the names of endpoints have room for two.
const mostClusterLabels = 2

func isClusterID(id string) bool {
	labels := strings.Split(id, ".")
	return len(labels) <= mostClusterLabels && !slices.ContainsFunc(labels, func(l string) bool { return !isLabel(l) })
}
