package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kubezone/kubezone/plugin/internal/index"
	"github.com/kubezone/kubezone/plugin/internal/kube"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

// A cluster is what was learned from the API server. Nil means nothing.
type cluster struct {
	services []corev1.Service
	slices   []discoveryv1.EndpointSlice
	fronts   []netip.Addr // addresses of the Service in front of the server
}

// isFront tells whether the address is that of the Service in front of the server.
func (c *cluster) isFront(a netip.Addr) bool { return c != nil && slices.Contains(c.fronts, a) }

// examineCluster asks the API server as far as it answers.
func (d *diagnosis) examineCluster(source kube.Config) *cluster {
	inspector, err := kube.NewInspector(source)
	if err != nil {
		d.find(failure, "api", "mend what it says, or name another API server with -kubeconfig, or look at the Corefile alone with -offline", "%v", err)
		return nil
	}
	if err := inspector.Reach(d.ctx); err != nil {
		d.find(failure, "api", "look at the address, at network policies, and at the Service default/kubernetes and its endpoints", "the API server does not answer: %v", err)
		return nil
	}
	d.examineRights(inspector)
	if source.Imports {
		d.examineImports(inspector)
	}
	c := &cluster{}
	d.examineNamespaces(inspector, source, d.examineServices(inspector, c))
	if c.slices, err = inspector.Slices(d.ctx); err != nil {
		d.find(failure, "rbac", "allow it", "EndpointSlices cannot be looked at: %v", err)
		return c
	}
	d.examineFront(c)
	d.examineSlices(c)
	d.examineReadiness(c)
	return c
}

func (d *diagnosis) examineRights(inspector *kube.Inspector) {
	for _, part := range []struct {
		severity severity
		rights   []kube.Right
		effect   string
	}{
		{failure, inspector.Rights(), "answers that depend on it are SERVFAIL"},
		{note, inspector.UsefulRights(), "after a start, reverse names of Services with public addresses may be asked upstream"},
	} {
		missing, err := d.missing(inspector, part.rights)
		if err != nil {
			d.find(failure, "rbac", "run it as somebody who may create selfsubjectaccessreviews and, with -as, impersonate", "rights cannot be asked for: %v", err)
			return
		}
		if len(missing) > 0 {
			d.find(part.severity, "rbac", "apply the ClusterRole of build/kube-system, or add the verbs to the server's; check with kubectl auth can-i "+missing[0]+" -A",
				"the server may not %s: %s", strings.Join(missing, ", "), part.effect)
		}
	}
}

// missing are the rights that are not granted.
func (d *diagnosis) missing(inspector *kube.Inspector, rights []kube.Right) ([]string, error) {
	var missing []string
	for _, right := range rights {
		allowed, err := inspector.Allowed(d.ctx, right, d.options.as)
		if err != nil {
			return nil, err
		}
		if !allowed {
			missing = append(missing, right.String())
		}
	}
	return missing, nil
}

func (d *diagnosis) examineImports(inspector *kube.Inspector) {
	if has, err := inspector.HasImports(d.ctx); err == nil && !has {
		d.find(warning, "multicluster", "install the CustomResourceDefinitions of "+v1beta1.GroupName+", or take the option out", "the option multicluster is set, but the API server does not have the API group %s", v1beta1.GroupName)
	}
}

// examineServices returns the names of the Services in each namespace.
func (d *diagnosis) examineServices(inspector *kube.Inspector, c *cluster) map[string][]string {
	var err error
	if c.services, err = inspector.Services(d.ctx); err != nil {
		d.find(failure, "rbac", "allow it", "Services cannot be looked at: %v", err)
	}
	names := map[string][]string{}
	for _, s := range c.services {
		names[s.Namespace] = append(names[s.Namespace], s.Name)
		if s.Spec.Type != corev1.ServiceTypeExternalName {
			continue
		}
		if _, err := netip.ParseAddr(strings.TrimSuffix(s.Spec.ExternalName, ".")); err == nil {
			d.find(warning, "aliases", "make it a Service without selector, and an EndpointSlice with the address", "the ExternalName service %s/%s has the address %s for a name: it does not resolve", s.Namespace, s.Name, s.Spec.ExternalName)
		}
	}
	return names
}

// captures tells whether names in the namespace come before others in a search
// path, and which.
func (d *diagnosis) captures(namespace string) (of string, ok bool) {
	switch {
	case namespace == "svc" || namespace == "pod":
		return "SERVICE.NAMESPACE." + namespace, true
	case index.IsPublicSuffix(namespace):
		return "names in the top-level domain " + namespace, true
	case namespace == "local":
		return "names of multicast DNS", true
	}
	return "", false
}

func (d *diagnosis) examineNamespaces(inspector *kube.Inspector, source kube.Config, services map[string][]string) {
	namespaces, err := inspector.Namespaces(d.ctx)
	if err != nil {
		d.find(failure, "rbac", "allow it", "Namespaces cannot be looked at: %v", err)
		return
	}
	exists := map[string]bool{}
	for _, n := range namespaces {
		exists[n.Name] = true
		of, captures := d.captures(n.Name)
		switch {
		case source.Denied.Denies(n.Name):
			d.find(note, "namespaces", "nothing, if that is meant; else take it out of deny_namespaces", "the namespace %s exists and is denied: its names are not served", n.Name)
		case captures && len(services[n.Name]) > 0:
			d.find(warning, "namespaces", "see who made it; add it to deny_namespaces, or give it another name",
				"the namespace %s captures %s: its services %s answer for them in every pod", n.Name, of, some(services[n.Name]))
		}
	}
	for _, n := range source.Namespaces {
		if !exists[n] {
			d.find(warning, "namespaces", "make it, or take it out of the option namespaces", "the option namespaces has %s, which does not exist", n)
		}
	}
}

// examineFront looks at the Service that pods ask.
func (d *diagnosis) examineFront(c *cluster) {
	namespace, name, _ := strings.Cut(d.options.service, "/")
	at := slices.IndexFunc(c.services, func(s corev1.Service) bool { return s.Namespace == namespace && s.Name == name })
	if at < 0 {
		d.find(warning, "service", "make it, with the address that is the kubelet's clusterDNS, or name another with -service", "there is no Service %s in front of the server", d.options.service)
		return
	}
	s := c.services[at]
	for _, text := range append(s.Spec.ClusterIPs, s.Spec.ClusterIP) {
		if a, err := netip.ParseAddr(text); err == nil && !slices.Contains(c.fronts, a) {
			c.fronts = append(c.fronts, a)
		}
	}
	if len(c.fronts) == 0 {
		d.find(failure, "service", "give it a clusterIP", "the Service %s has no ClusterIP for pods to ask", d.options.service)
	}
	for _, protocol := range []corev1.Protocol{corev1.ProtocolUDP, corev1.ProtocolTCP} {
		if !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == 53 && p.Protocol == protocol }) {
			d.find(failure, "service", fmt.Sprintf("add the port 53 of %s", protocol), "the Service %s has no port 53 of %s", d.options.service, protocol)
		}
	}
	ready := false
	for _, slice := range c.slices {
		if slice.Namespace == namespace && slice.Labels[discoveryv1.LabelServiceName] == name {
			ready = ready || slices.ContainsFunc(slice.Endpoints, isReady)
		}
	}
	if !ready {
		d.find(failure, "service", "look at the pods that its selector selects, and at their readiness", "the Service %s has no ready endpoint: nobody answers", d.options.service)
	}
}

// isReady is what the server takes for ready.
func isReady(e discoveryv1.Endpoint) bool { return e.Conditions.Ready == nil || *e.Conditions.Ready }

// examineSlices looks for slices that make no names.
func (d *diagnosis) examineSlices(c *cluster) {
	services := map[string]bool{}
	for _, s := range c.services {
		services[s.Namespace+"/"+s.Name] = true
	}
	var unlabelled, orphans, named []string
	for _, slice := range c.slices {
		service, name := slice.Labels[discoveryv1.LabelServiceName], slice.Namespace+"/"+slice.Name
		switch {
		case service == "" && slice.Labels[v1beta1.LabelServiceName] == "":
			unlabelled = append(unlabelled, name)
		case slice.AddressType == discoveryv1.AddressTypeFQDN:
			named = append(named, name)
		case service != "" && !services[slice.Namespace+"/"+service]:
			orphans = append(orphans, name)
		}
	}
	if len(unlabelled) > 0 {
		d.find(warning, "slices", "add the label "+discoveryv1.LabelServiceName+": SERVICE", "EndpointSlices without the label of their service make no names: %s", some(unlabelled))
	}
	if len(orphans) > 0 {
		d.find(warning, "slices", "make the services, or remove the slices", "EndpointSlices of services that do not exist make no names: %s", some(orphans))
	}
	if len(named) > 0 {
		d.find(note, "slices", "use an ExternalName service", "EndpointSlices of the address type FQDN make no names: %s", some(named))
	}
}

// examineReadiness looks for services whose endpoints are there, but not ready.
func (d *diagnosis) examineReadiness(c *cluster) {
	there, ready := map[string]int{}, map[string]bool{}
	for _, slice := range c.slices {
		service := slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]
		there[service] += len(slice.Endpoints)
		ready[service] = ready[service] || slices.ContainsFunc(slice.Endpoints, isReady)
	}
	var headless, other []string
	for _, s := range c.services {
		name := s.Namespace + "/" + s.Name
		switch {
		case there[name] == 0 || ready[name] || name == d.options.service:
		case s.Spec.ClusterIP == corev1.ClusterIPNone:
			headless = append(headless, name)
		default:
			other = append(other, name)
		}
	}
	const fix = "look at the readiness probes of their pods; if peers must find each other before they are ready, set publishNotReadyAddresses"
	if len(headless) > 0 {
		d.find(warning, "endpoints", fix, "headless services of whose endpoints none is ready do not resolve: %s", some(headless))
	}
	if len(other) > 0 {
		d.find(note, "endpoints", fix, "services of whose endpoints none is ready resolve to an address where nobody answers: %s", some(other))
	}
}
