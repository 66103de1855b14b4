package schema

import (
	"net/netip"
	"strconv"
	"strings"
)

// A Form is what the owner names of the Kubernetes DNS specification can look
// like (kubernetes/dns, docs/specification.md, version 1.1.0).
type Form uint8

const (
	Impossible   Form = iota // no object could ever give this name
	Apex                     // Z
	SvcBranch                // svc.Z
	PodBranch                // pod.Z
	DNSBranch                // dns.Z, above NameServer
	Version                  // dns-version.Z
	NameServer               // ns.dns.Z, in an external zone ns1.dns.Z
	SvcNamespace             // NAMESPACE.svc.Z
	PodNamespace             // NAMESPACE.pod.Z
	Service                  // SERVICE.NAMESPACE.svc.Z
	Endpoint                 // LABEL.SERVICE.NAMESPACE.svc.Z
	Protocol                 // _PROTOCOL.SERVICE.NAMESPACE.svc.Z, above port names
	PortName                 // _PORT._PROTOCOL.SERVICE.NAMESPACE.svc.Z
	ZoneBranch               // _zone.SERVICE..., pin._zone.SERVICE..., prefer._zone.SERVICE...
	ZoneName                 // TOPOLOGYZONE.pin|prefer._zone.SERVICE.NAMESPACE.svc.Z
	PodName                  // ADDRESS.NAMESPACE.pod.Z
)

// A Name is the meaning of an owner name. Its strings are parts of the name
// that was parsed; those that the Form has no place for are empty.
type Name struct {
	Form         Form
	Namespace    string
	Service      string
	Label        string // of an endpoint or a pod; in a multicluster zone that of an endpoint has several
	Port         string // without underscore
	Protocol     string // without underscore
	TopologyZone string
	Fallback     Fallback
}

// A Fallback says what a name with a topology zone means where that zone has no
// endpoint.
type Fallback uint8

const (
	Pin    Fallback = iota // no address
	Prefer                 // all endpoints of the service
)

// Grammar says which names an option adds.
type Grammar uint8

const (
	Plain        Grammar = iota
	Zonal                // with topology zones
	Multicluster         // of a multicluster zone (KEP-1645): endpoints have names HOSTNAME.CLUSTERID, pods none
	External             // of an external zone: SERVICE.NAMESPACE.Z and below
)

// Parse is Parse for names in the schema's zones.
func (s *Schema) Parse(relative string) Name {
	if s.Grammar == External {
		return s.parseExternal(relative)
	}
	return Parse(relative, s.Grammar)
}

// Parse reads the part of an owner name left of its zone, without the dot
// between them, in lower case; "" is the apex. It does not allocate.
func Parse(relative string, g Grammar) Name {
	rest, branch := cutLast(relative)
	switch branch {
	case "":
		return Name{Form: Apex}
	case "svc":
		return parseService(rest, g)
	case "pod":
		if g != Multicluster {
			return parsePod(rest)
		}
	case "dns":
		switch rest {
		case "":
			return Name{Form: DNSBranch}
		case "ns":
			return Name{Form: NameServer}
		}
	case "dns-version":
		if rest == "" {
			return Name{Form: Version}
		}
	}
	return Name{}
}

func parsePod(rest string) Name {
	if rest == "" {
		return Name{Form: PodBranch}
	}
	n := Name{}
	rest, n.Namespace = cutLast(rest)
	if rest == "" {
		n.Form = PodNamespace
		return n
	}
	if rest, n.Label = cutLast(rest); rest == "" {
		n.Form = PodName
	}
	return n
}

func parseService(rest string, g Grammar) Name {
	if rest == "" {
		return Name{Form: SvcBranch}
	}
	n := Name{}
	if rest, n.Namespace = cutLast(rest); rest == "" {
		n.Form = SvcNamespace
		return n
	}
	if rest, n.Service = cutLast(rest); rest == "" {
		n.Form = Service
		return n
	}
	above := rest
	rest, first := cutLast(rest)
	if first == "_zone" && g == Zonal {
		return parseZone(rest, n)
	}
	protocol, underscored := strings.CutPrefix(first, "_")
	if rest == "" {
		switch {
		case !underscored:
			n.Form, n.Label = Endpoint, first
		case protocol != "":
			n.Form, n.Protocol = Protocol, protocol
		}
		return n
	}
	if g == Multicluster && !underscored {
		return parseClusterEndpoint(above, n)
	}
	rest, second := cutLast(rest)
	port, ok := strings.CutPrefix(second, "_")
	if rest == "" && ok && underscored && port != "" && protocol != "" {
		n.Form, n.Port, n.Protocol = PortName, port, protocol
	}
	return n
}

// mostClusterLabels is how many labels a cluster ID may have (KEP-2149).
const mostClusterLabels = 2

// parseClusterEndpoint reads HOSTNAME.CLUSTERID, or a part of a cluster ID.
func parseClusterEndpoint(above string, n Name) Name {
	rest := above
	for range mostClusterLabels + 1 {
		rest, _ = cutLast(rest)
	}
	if rest == "" {
		n.Form, n.Label = Endpoint, above
	}
	return n
}

// parseZone reads what is left of _zone. A topology zone may have several
// labels, as the value of a Kubernetes label may hold dots.
func parseZone(rest string, n Name) Name {
	if rest == "" {
		n.Form = ZoneBranch
		return n
	}
	rest, directive := cutLast(rest)
	switch directive {
	case "pin":
		n.Fallback = Pin
	case "prefer":
		n.Fallback = Prefer
	default:
		return n
	}
	if rest == "" {
		n.Form = ZoneBranch
		return n
	}
	n.Form, n.TopologyZone = ZoneName, rest
	return n
}

// cutLast cuts the last label off a name. An escaped dot is a part of its
// label (RFC 4343 section 2.1).
func cutLast(name string) (rest, label string) {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '.' && !escaped(name, i) {
			return name[:i], name[i+1:]
		}
	}
	return "", name
}

func escaped(name string, i int) bool {
	n := 0
	for i > n && name[i-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

const (
	apex4 = "in-addr.arpa."
	apex6 = "ip6.arpa."
)

// IsReverse tells whether a zone holds names of addresses.
func IsReverse(zone string) bool {
	_, is4 := cutApex(zone, apex4)
	_, is6 := cutApex(zone, apex6)
	return is4 || is6
}

// cutApex is the part of a name left of the apex and the dot before it, if the
// name is the apex or below it.
func cutApex(name, apex string) (labels string, ok bool) {
	if name == apex {
		return "", true
	}
	labels, ok = strings.CutSuffix(name, apex)
	if !ok || labels[len(labels)-1] != '.' {
		return "", false
	}
	return labels[:len(labels)-1], true
}

// ParseReverse reads a name below in-addr.arpa or ip6.arpa (RFC 1035 section
// 3.5, RFC 3596 section 2.5): the prefix that its labels spell, all bits of an
// address or fewer. A label that is not exactly one octet in decimal or one
// nibble in hexadecimal, or one label too many, makes it no prefix. The name is
// in lower case and fully qualified.
func ParseReverse(name string) (p netip.Prefix, ok bool) {
	var bytes [16]byte
	labels, is4 := cutApex(name, apex4)
	if is4 {
		n, ok := eachReversed(labels, 4, func(i int, label string) bool {
			octet, err := strconv.ParseUint(label, 10, 8)
			bytes[i] = byte(octet)
			return err == nil && (len(label) == 1 || label[0] != '0')
		})
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(bytes[:])), n*8), ok
	}
	labels, is6 := cutApex(name, apex6)
	if !is6 {
		return netip.Prefix{}, false
	}
	n, ok := eachReversed(labels, 32, func(i int, label string) bool {
		nibble, err := strconv.ParseUint(label, 16, 4)
		bytes[i/2] |= byte(nibble) << (4 * (1 - i%2))
		return err == nil && len(label) == 1
	})
	return netip.PrefixFrom(netip.AddrFrom16(bytes), n*4), ok
}

// eachReversed visits the labels from the last to the first and counts them.
func eachReversed(labels string, most int, visit func(i int, label string) bool) (n int, ok bool) {
	for ; labels != ""; n++ {
		dot := strings.LastIndexByte(labels, '.')
		if n == most || dot+1 == len(labels) || dot == 0 || !visit(n, labels[dot+1:]) {
			return 0, false
		}
		labels = labels[:max(dot, 0)]
	}
	return n, true
}
