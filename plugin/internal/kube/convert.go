package kube

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

// A converter turns Kubernetes objects into what the Index holds of them. Each
// of its methods returns nil for an object that the DNS has no use for, and
// adds a fault for each thing that is left out because it is not valid. What it
// returns shares strings with the object, and nothing else.
type converter struct {
	config Config
	labels labels.Selector // of Config.Labels; nil for all
}

func (c converter) service(o *corev1.Service, f *faults) *index.Service {
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
	switch {
	case o.Spec.Type == corev1.ServiceTypeExternalName:
		name, ok := qualified(o.Spec.ExternalName)
		if !ok {
			f.add(badExternalName, "externalName %q: want a host name", o.Spec.ExternalName)
			return nil
		}
		s.Type, s.ExternalName, s.Ports = index.ExternalName, name, nil
	case o.Spec.ClusterIP == corev1.ClusterIPNone || slices.Contains(o.Spec.ClusterIPs, corev1.ClusterIPNone):
		s.Type = index.Headless
	default:
		// clusterIPs is missing in objects that were written before it existed,
		// and in files written by hand.
		ips := o.Spec.ClusterIPs
		if len(ips) == 0 {
			ips = []string{o.Spec.ClusterIP}
		}
		for _, text := range ips {
			if a, ok := parseAddr(text); ok {
				s.ClusterIPs = append(s.ClusterIPs, a)
			} else {
				f.add(badClusterIP, "clusterIP %q: want an IP address, or None", text)
			}
		}
		if len(s.ClusterIPs) == 0 {
			return nil
		}
	}
	if c.config.External && s.Type != index.ExternalName { // nothing forwards to an alias
		s.External = external(o, f)
	}
	return s
}

// external is where a Service is reached from outside, or nil: at its external
// IPs, and at its load balancer's addresses or, where it has none, host names.
func external(o *corev1.Service, f *faults) *index.External {
	x := &index.External{}
	addAddr := func(field, text string) {
		a, ok := parseAddr(text)
		switch {
		case !ok:
			f.add(badAddress, "%s %q: want an IP address", field, text)
		case !slices.Contains(x.Addrs, a):
			x.Addrs = append(x.Addrs, a)
		}
	}
	for _, text := range o.Spec.ExternalIPs {
		addAddr("externalIP", text)
	}
	for _, in := range o.Status.LoadBalancer.Ingress {
		host, ok := qualified(in.Hostname)
		switch {
		case in.IP != "":
			addAddr("load balancer's ip", in.IP)
		case in.Hostname == "": // it is not there yet
		case !ok || isAddr(in.Hostname):
			f.add(badAddress, "load balancer's hostname %q: want a host name", in.Hostname)
		case !slices.Contains(x.Hosts, host):
			x.Hosts = append(x.Hosts, host)
		}
	}
	if len(x.Addrs)+len(x.Hosts) == 0 {
		return nil
	}
	return x
}

// slice converts with the ready addresses only. What has no name of a Service
// is not meant for the DNS, nor is a slice of host names, which were never
// published.
func (c converter) slice(o *discoveryv1.EndpointSlice, f *faults) *index.Slice {
	service := o.Labels[discoveryv1.LabelServiceName]
	if !c.publishes(o, service, f) {
		return nil
	}
	return index.NewSlice(objectKey(o), resourceVersion(o.ResourceVersion), service, endpointPorts(o, f), c.endpoints(o, f))
}

// publishes tells whether the slice is meant for the DNS, as one of the Service.
func (c converter) publishes(o *discoveryv1.EndpointSlice, service string, f *faults) bool {
	if !c.shows(o.Namespace) || o.AddressType == discoveryv1.AddressTypeFQDN || !isLabel(service) {
		return false
	}
	if !isLabel(o.Namespace) {
		f.add(badName, "namespace %q: want a DNS label", o.Namespace)
		return false
	}
	if o.AddressType != discoveryv1.AddressTypeIPv4 && o.AddressType != discoveryv1.AddressTypeIPv6 {
		f.add(badAddress, "addressType %q: want IPv4, IPv6 or FQDN", o.AddressType)
		return false
	}
	return true
}

func endpointPorts(o *discoveryv1.EndpointSlice, f *faults) []index.Port {
	var ports []index.Port
	for _, p := range o.Ports {
		if p.Port == nil { // all ports
			continue
		}
		if port, ok := portOf(deref(p.Name), deref(p.Protocol), *p.Port, f); ok {
			ports = append(ports, port)
		}
	}
	return ports
}

// endpoints are the ready addresses.
func (c converter) endpoints(o *discoveryv1.EndpointSlice, f *faults) []index.Endpoint {
	var endpoints []index.Endpoint
	for i := range o.Endpoints {
		endpoints = c.appendEndpoint(endpoints, o.AddressType, &o.Endpoints[i], f)
	}
	return endpoints
}

// appendEndpoint appends the addresses of the endpoint if it is ready.
func (c converter) appendEndpoint(list []index.Endpoint, family discoveryv1.AddressType, e *discoveryv1.Endpoint, f *faults) []index.Endpoint {
	// Unknown is to be taken for ready (EndpointConditions).
	if ready := e.Conditions.Ready; ready != nil && !*ready {
		return list
	}
	var added index.Endpoint
	if hostname := strings.ToLower(deref(e.Hostname)); hostname != "" {
		if !isLabel(hostname) {
			f.add(badName, "hostname %q: want a DNS label", *e.Hostname)
			return list
		}
		added.Label = hostname
	} else if c.config.PodNames && e.TargetRef != nil && e.TargetRef.Kind == "Pod" && isLabel(e.TargetRef.Name) {
		added.Label = e.TargetRef.Name
	}
	if c.config.TopologyZones {
		added.TopologyZone = unique.Make(deref(e.Zone)).Value()
	}
	for _, text := range e.Addresses {
		a, ok := parseAddr(text)
		if !ok || a.Is6() != (family == discoveryv1.AddressTypeIPv6) {
			f.add(badAddress, "address %q: want an %s address", text, family)
			continue
		}
		added.Addr = a
		list = append(list, added)
	}
	return list
}

// pod drops the pods that have no address yet, that end, or that have ended:
// their address may be another's by now.
func (c converter) pod(o *corev1.Pod, f *faults) *index.Pod {
	switch o.Status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed, corev1.PodUnknown:
		return nil
	}
	if o.DeletionTimestamp != nil {
		return nil
	}
	p := &index.Pod{ObjectKey: objectKey(o), ResourceVersion: resourceVersion(o.ResourceVersion)}
	ips := o.Status.PodIPs
	if len(ips) == 0 && o.Status.PodIP != "" {
		ips = []corev1.PodIP{{IP: o.Status.PodIP}}
	}
	for _, ip := range ips {
		if a, ok := parseAddr(ip.IP); ok {
			p.Addrs = append(p.Addrs, a)
		} else {
			f.add(badAddress, "podIP %q: want an IP address", ip.IP)
		}
	}
	if len(p.Addrs) == 0 {
		return nil
	}
	if c.config.PodLabels {
		p.Labels = index.NewLabels(o.Labels)
	}
	p.Hidden = c.labels != nil && !c.labels.Matches(labels.Set(o.Labels))
	return p
}

func (c converter) namespace(o *corev1.Namespace, f *faults) *index.Namespace {
	if !c.shows(o.Name) {
		c.logDenied(o.Name)
		return nil
	}
	if !isLabel(o.Name) {
		f.add(badName, "name %q: want a DNS label", o.Name)
		return nil
	}
	return &index.Namespace{Name: o.Name, ResourceVersion: resourceVersion(o.ResourceVersion)}
}

// shows tells whether the options leave the namespace in. Pods of one that is
// left out are kept all the same: they describe who asks.
func (c converter) shows(namespace string) bool { return !c.config.options().Hide(namespace) }

// denied are the namespaces that the log was told of.
var denied sync.Map

// logDenied says, once in this process, that there is a namespace that is denied:
// either somebody tries to capture names, or the option goes too far.
func (c converter) logDenied(namespace string) {
	if !c.config.Denied.Denies(namespace) {
		return
	}
	if _, known := denied.LoadOrStore(namespace, true); !known {
		log.Warningf("There is a namespace %q, whose names are not served: deny_namespaces has it", namespace)
	}
}

// objectKey shares the text of namespaces, which are few.
func objectKey(o metav1.Object) index.ObjectKey {
	return index.ObjectKey{Namespace: unique.Make(o.GetNamespace()).Value(), Name: o.GetName()}
}

// resourceVersion is 0 for what is not a number. Those of the API server are
// numbers that grow (KEP-5504).
func resourceVersion(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// validKey tells whether a Service may be named so.
func validKey(key index.ObjectKey, f *faults) bool {
	if !isLabel(key.Namespace) {
		f.add(badName, "namespace %q: want a DNS label", key.Namespace)
		return false
	}
	if !isLabel(key.Name) {
		f.add(badName, "name %q: want a DNS label", key.Name)
		return false
	}
	return true
}

// portOf normalizes. ok is false if the port is not valid.
func portOf(name string, protocol corev1.Protocol, number int32, f *faults) (port index.Port, ok bool) {
	if number < 1 || number > 65535 {
		f.add(badPort, "port %d: want a number from 1 to 65535", number)
		return port, false
	}
	// With its underscore the name must fit a label (RFC 2782).
	name = strings.ToLower(name)
	if name != "" && (!isLabel(name) || len(name) > maxLabel-len("_")) {
		f.add(badPort, "port name %q: want a DNS label of at most %d octets", name, maxLabel-len("_"))
		return port, false
	}
	switch protocol {
	case corev1.ProtocolTCP, "":
		port.Protocol = "tcp"
	case corev1.ProtocolUDP:
		port.Protocol = "udp"
	case corev1.ProtocolSCTP:
		port.Protocol = "sctp"
	default:
		f.add(badPort, "protocol %q: want TCP, UDP or SCTP", protocol)
		return port, false
	}
	port.Name, port.Number = unique.Make(name).Value(), uint16(number)
	return port, true
}

const (
	maxLabel = 63  // octets (RFC 1035 section 2.3.4)
	maxName  = 253 // octets in text without the final dot, which makes 255 on the wire
)

// isLabel tells whether s is a label as RFC 1123 section 2.1 allows it, in lower
// case.
func isLabel(s string) bool {
	if s == "" || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

// qualified ends the host name in exactly one dot. Underscores are allowed
// anywhere, as they are in names that others publish.
func qualified(name string) (string, bool) {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > maxName {
		return "", false
	}
	for label := range strings.SplitSeq(name, ".") {
		if !isLabel(strings.ReplaceAll(strings.ToLower(label), "_", "x")) {
			return "", false
		}
	}
	return name + ".", true
}

// parseAddr is strict: leading zeros, which some would read as octal, zones and
// IPv4 addresses in IPv6's clothes are all refused.
func parseAddr(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	return a, err == nil && a.Zone() == "" && !a.Is4In6()
}

func isAddr(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
