package differential

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/miekg/dns"
)

// A view is the world as the options of a block show it. It scans everything for each question: slow and obvious.
type view struct {
	*world
	block *block
}

// A form is what kind of name a question is for.
type form int

const (
	elsewhere     form = iota // in no zone of the block
	impossible                // no object could give it
	apex                      // Z
	branch                    // svc.Z, pod.Z, dns.Z
	version                   // dns-version.Z
	nameServer                // ns.dns.Z
	svcNamespace              // NAMESPACE.svc.Z
	podNamespace              // NAMESPACE.pod.Z
	service                   // SERVICE.NAMESPACE.svc.Z
	label                     // LABEL.SERVICE.NAMESPACE.svc.Z
	protocol                  // _PROTOCOL.SERVICE.NAMESPACE.svc.Z
	port                      // _PORT._PROTOCOL.SERVICE.NAMESPACE.svc.Z
	zoneBranch                // _zone.SERVICE..., pin._zone.SERVICE..., prefer._zone.SERVICE...
	zoneName                  // TOPOLOGYZONE.pin|prefer._zone.SERVICE.NAMESPACE.svc.Z
	podName                   // ADDRESS.NAMESPACE.pod.Z
	reverseName               // of an address
	reverseBranch             // of a prefix
)

// A meaning is what a name says.
type meaning struct {
	form     form
	zone     string   // of the block, in lower case
	labels   []string // left of the zone, in lower case, the last first
	ns, name string
	label    string // of an endpoint, or the topology zone, or the address of a pod
	port     string
	protocol string
	prefer   bool
	address  netip.Addr
	prefix   netip.Prefix
}

// meaningOf reads a name.
func (v view) meaningOf(qname string) meaning {
	name := asciiLower(qname)
	m := meaning{zone: v.block.zoneOf(name)}
	if m.zone == "" {
		return m
	}
	all := dns.SplitDomainName(name)
	m.labels = all[:len(all)-dns.CountLabel(m.zone)]
	slices.Reverse(m.labels)
	m.form = impossible
	switch {
	case len(m.labels) == 0:
		m.form = apex
	case strings.HasSuffix(m.zone, ".arpa."):
		m.reverse(name)
	case m.zone == importZone && (m.labels[0] == "svc" || m.labels[0] == "pod"):
		m.imported()
	case m.labels[0] == "svc":
		m.svc(v.block.zonal)
	case m.labels[0] == "pod":
		m.pod()
	case slices.Equal(m.labels, []string{"dns"}):
		m.form = branch
	case slices.Equal(m.labels, []string{"dns", "ns"}):
		m.form = nameServer
	case slices.Equal(m.labels, []string{"dns-version"}):
		m.form = version
	}
	return m
}

func (m *meaning) svc(zonal bool) {
	l := m.labels
	if len(l) > 1 {
		m.ns = l[1]
	}
	if len(l) > 2 {
		m.name = l[2]
	}
	bare := func(label string) string { return strings.TrimPrefix(label, "_") }
	underscored := func(label string) bool { return len(label) > 1 && label[0] == '_' }
	switch {
	case len(l) == 1:
		m.form = branch
	case len(l) == 2:
		m.form = svcNamespace
	case len(l) == 3:
		m.form = service
	case zonal && l[3] == "_zone":
		directive := len(l) > 4 && (l[4] == "pin" || l[4] == "prefer")
		switch {
		case len(l) == 4, len(l) == 5 && directive:
			m.form = zoneBranch
		case directive:
			m.form, m.prefer = zoneName, l[4] == "prefer"
			zone := slices.Clone(l[5:])
			slices.Reverse(zone)
			m.label = strings.Join(zone, ".")
		}
	case len(l) == 4 && l[3][0] != '_':
		m.form, m.label = label, l[3]
	case len(l) == 4 && underscored(l[3]):
		m.form, m.protocol = protocol, bare(l[3])
	case len(l) == 5 && underscored(l[3]) && underscored(l[4]):
		m.form, m.protocol, m.port = port, bare(l[3]), bare(l[4])
	}
}

func (m *meaning) pod() {
	switch len(m.labels) {
	case 1:
		m.form = branch
	case 2:
		m.form, m.ns = podNamespace, m.labels[1]
	case 3:
		m.form, m.ns, m.label = podName, m.labels[1], m.labels[2]
	}
}

// reverse reads octets or nibbles.
func (m *meaning) reverse(name string) {
	octets, is4 := strings.CutSuffix(name, ".in-addr.arpa.")
	nibbles, is6 := strings.CutSuffix(name, ".ip6.arpa.")
	switch {
	case is4:
		parts := strings.Split(octets, ".")
		slices.Reverse(parts)
		n := len(parts)
		for len(parts) < 4 {
			parts = append(parts, "0")
		}
		if a, err := netip.ParseAddr(strings.Join(parts, ".")); err == nil && a.Is4() {
			m.prefix = netip.PrefixFrom(a, 8*n)
		}
	case is6:
		parts := strings.Split(nibbles, ".")
		if slices.ContainsFunc(parts, func(p string) bool { return len(p) != 1 }) || len(parts) > 32 {
			return
		}
		slices.Reverse(parts)
		digits := strings.Join(parts, "") + strings.Repeat("0", 32-len(parts))
		var groups []string
		for i := 0; i < 32; i += 4 {
			groups = append(groups, digits[i:i+4])
		}
		if a, err := netip.ParseAddr(strings.Join(groups, ":")); err == nil && a.Is6() {
			m.prefix = netip.PrefixFrom(a, 4*len(parts))
		}
	}
	switch {
	case !m.prefix.IsValid():
	case m.prefix.IsSingleIP():
		m.form, m.address = reverseName, m.prefix.Addr()
	default:
		m.form = reverseBranch
	}
}

func asciiLower(name string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, name)
}

// namespace tells whether a namespace is there to be seen.
func (v view) namespace(name string) bool {
	have := v.namespaces[name]
	switch {
	case have == nil:
		return false
	case len(v.block.namespaces) > 0 && !slices.Contains(v.block.namespaces, name):
		return false
	}
	return v.block.namespaceLabels == nil || v.block.namespaceLabels.Matches(labels.Set(have.Labels))
}

// service is a service that is there to be seen, or nil.
func (v view) service(ns, name string) *corev1.Service {
	have := v.services[key{ns, name}]
	if have == nil || !v.namespace(ns) || v.block.labels != nil && !v.block.labels.Matches(labels.Set(have.Labels)) {
		return nil
	}
	return have
}

func headless(s *corev1.Service) bool {
	return s.Spec.Type != corev1.ServiceTypeExternalName && s.Spec.ClusterIP == corev1.ClusterIPNone
}

func external(s *corev1.Service) bool { return s.Spec.Type == corev1.ServiceTypeExternalName }

// An endpoint is one ready address of a slice.
type endpoint struct {
	address netip.Addr
	label   string
	zone    string
	slice   *discoveryv1.EndpointSlice
}

// endpoints are the ready addresses of a service's slices.
func (v view) endpoints(ns, name string) []endpoint {
	var all []endpoint
	if v.block.noEndpoints {
		return nil
	}
	for at, slice := range v.slices {
		if at.namespace != ns || slice.Labels[discoveryv1.LabelServiceName] != name || slice.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		for i := range slice.Endpoints {
			all = append(all, v.ready(slice, &slice.Endpoints[i])...)
		}
	}
	return all
}

func (v view) ready(slice *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint) []endpoint {
	if e.Conditions.Ready != nil && !*e.Conditions.Ready {
		return nil
	}
	var all []endpoint
	for _, text := range e.Addresses {
		address := netip.MustParseAddr(text) // the API server has checked it
		one := endpoint{address: address, label: dashed(address), slice: slice}
		if v.block.endpointPodNames && e.TargetRef != nil && len(e.TargetRef.Name) < 64 && !strings.Contains(e.TargetRef.Name, ".") {
			one.label = e.TargetRef.Name
		}
		if e.Hostname != nil && *e.Hostname != "" {
			one.label = *e.Hostname
		}
		if cluster := slice.Labels[labelCluster]; cluster != "" {
			one.label += "." + strings.ToLower(cluster)
		}
		if e.Zone != nil {
			one.zone = strings.ToLower(*e.Zone)
		}
		all = append(all, one)
	}
	return all
}

// dashed is the label of an address.
func dashed(address netip.Addr) string {
	text := strings.NewReplacer(".", "-", ":", "-").Replace(address.String())
	if strings.HasSuffix(text, "-") {
		return text + "0"
	}
	return text
}

// exists tells whether a name exists, and whether it has records of any type. The type asked for has no say.
func (v view) exists(m meaning) (exists, records bool) {
	switch m.form {
	case apex, version, nameServer:
		return true, true
	case branch:
		return true, false
	case svcNamespace:
		return v.namespace(m.ns), false
	case podNamespace:
		return v.namespace(m.ns) && v.block.pods != podsDisabled, false
	case podName:
		there := v.podExists(m)
		return there, there
	case reverseName:
		there := len(v.owners(m.address)) > 0
		return there, there
	case reverseBranch:
		return v.anyOwnerIn(m.prefix), false
	case service, label, protocol, port, zoneBranch, zoneName:
		return v.serviceExists(m)
	}
	return false, false
}

func (v view) serviceExists(m meaning) (exists, records bool) {
	s := v.service(m.ns, m.name)
	switch {
	case s == nil:
		return false, false
	case external(s):
		_, err := netip.ParseAddr(strings.TrimSuffix(s.Spec.ExternalName, "."))
		return m.form == service && err != nil, true
	}
	ready := v.endpoints(m.ns, m.name)
	if (headless(s) || v.block.ignoreEmpty) && len(ready) == 0 {
		return false, false
	}
	switch m.form {
	case label:
		if m.zone == importZone && !headless(s) {
			return false, false
		}
		there := slices.ContainsFunc(ready, func(e endpoint) bool { return e.label == m.label })
		above := m.zone == importZone && slices.ContainsFunc(ready, func(e endpoint) bool { return strings.HasSuffix(e.label, "."+m.label) })
		return there || above, there
	case protocol:
		return v.hasPort(s, ready, m), false
	case port:
		there := v.hasPort(s, ready, m)
		return there, there
	case zoneBranch:
		return headless(s), false
	case zoneName:
		return headless(s), m.prefer || slices.ContainsFunc(ready, func(e endpoint) bool { return e.zone == m.label })
	}
	return true, true
}

// hasPort tells whether a port with a name has the protocol and, if one is asked for, the name.
func (v view) hasPort(s *corev1.Service, ready []endpoint, m meaning) bool {
	fits := func(name, protocol string) bool {
		return name != "" && strings.ToLower(protocol) == m.protocol && (m.form == protocolForm || name == m.port)
	}
	if headless(s) {
		return slices.ContainsFunc(ready, func(e endpoint) bool {
			return slices.ContainsFunc(e.slice.Ports, func(p discoveryv1.EndpointPort) bool { return p.Port != nil && fits(*p.Name, string(*p.Protocol)) })
		})
	}
	return slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return fits(p.Name, string(p.Protocol)) })
}

// protocolForm is the form protocol, where a variable of that name hides it.
const protocolForm = protocol

// podAddress reads the label of a pod. An IPv4 address in the guise of an IPv6 one is none.
func podAddress(label string) (netip.Addr, bool) {
	text := strings.ReplaceAll(label, "-", ":")
	if strings.Count(label, "-") == 3 && !strings.Contains(label, "--") {
		text = strings.ReplaceAll(label, "-", ".")
	}
	a, err := netip.ParseAddr(text)
	return a, err == nil && !a.Is4In6() && a.Zone() == ""
}

func (v view) podExists(m meaning) bool {
	address, ok := podAddress(m.label)
	switch {
	case !ok, !v.namespace(m.ns):
		return false
	case v.block.pods != podsVerified:
		return v.block.pods == podsInsecure
	}
	for at, pod := range v.pods {
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodUnknown
		if at.namespace != m.ns || ended || v.block.labels != nil && !v.block.labels.Matches(labels.Set(pod.Labels)) {
			continue
		}
		if slices.ContainsFunc(pod.Status.PodIPs, func(ip corev1.PodIP) bool { return netip.MustParseAddr(ip.IP) == address }) {
			return true
		}
	}
	return false
}

// An owner is a name that a PTR record of an address leads to.
type owner struct {
	target    string
	clusterIP bool
}

// owners are the names of an address, each once.
func (v view) owners(address netip.Addr) []owner {
	var all []owner
	for at := range v.services {
		s := v.service(at.namespace, at.name)
		if s == nil {
			continue
		}
		name := at.name + "." + at.namespace + ".svc." + v.block.primary()
		if slices.Contains(s.Spec.ClusterIPs, address.String()) {
			all = append(all, owner{name, true})
		}
		if external(s) {
			continue
		}
		for _, e := range v.endpoints(at.namespace, at.name) {
			o := owner{e.label + "." + name, false}
			if e.address == address && !slices.Contains(all, o) {
				all = append(all, o)
			}
		}
	}
	return all
}

func (v view) anyOwnerIn(prefix netip.Prefix) bool {
	inside := func(text string) bool {
		a, err := netip.ParseAddr(text)
		return err == nil && prefix.Contains(a)
	}
	for at := range v.services {
		s := v.service(at.namespace, at.name)
		if s == nil || external(s) {
			continue
		}
		if slices.ContainsFunc(s.Spec.ClusterIPs, inside) {
			return true
		}
		if slices.ContainsFunc(v.endpoints(at.namespace, at.name), func(e endpoint) bool { return prefix.Contains(e.address) }) {
			return true
		}
	}
	return false
}

// fronts are the services with a ClusterIP that the server is an endpoint of.
func (v view) fronts() []*corev1.Service {
	var all []*corev1.Service
	local := v.block.locals()
	for at := range v.services {
		s := v.service(at.namespace, at.name)
		if s == nil || external(s) || headless(s) {
			continue
		}
		if slices.ContainsFunc(v.endpoints(at.namespace, at.name), func(e endpoint) bool { return slices.Contains(local, e.address) }) {
			all = append(all, s)
		}
	}
	return all
}

// isEndpoint tells whether one of the addresses is a ready endpoint of anything, shown or not.
func (v view) isEndpoint(addresses []netip.Addr) bool {
	for _, slice := range v.slices {
		for i := range slice.Endpoints {
			if slice.AddressType != discoveryv1.AddressTypeFQDN &&
				slices.ContainsFunc(v.ready(slice, &slice.Endpoints[i]), func(e endpoint) bool { return slices.Contains(addresses, e.address) }) {
				return true
			}
		}
	}
	return false
}
