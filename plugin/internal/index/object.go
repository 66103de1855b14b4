package index

import (
	"cmp"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unique"
)

// An ObjectKey names a namespaced object. Both parts are as the API server
// gives them, that is in lower case.
type ObjectKey struct{ Namespace, Name string }

func (k ObjectKey) compare(o ObjectKey) int {
	return cmp.Or(strings.Compare(k.Namespace, o.Namespace), strings.Compare(k.Name, o.Name))
}

// A ServiceType says how a Service is published in the DNS, which is coarser
// than its spec.type: NodePort and LoadBalancer are published as ClusterIP.
type ServiceType uint8

const (
	ClusterIP    ServiceType = iota // addresses of its own
	Headless                        // spec.clusterIP is None: the addresses of its endpoints
	ExternalName                    // an alias
)

// A Port is a port of a Service or of a Slice.
type Port struct {
	Name     string // "" for the only port of a Service
	Protocol string // "tcp", "udp" or "sctp"
	Number   uint16
}

// A Service is what the DNS needs to know of a core/v1 Service. It never
// changes once it was given to an Index.
type Service struct {
	ObjectKey
	ResourceVersion uint64
	Type            ServiceType
	ClusterIPs      []netip.Addr
	ExternalName    string // fully qualified, for Type ExternalName
	Ports           []Port
	External        *External // nil if there is none, or no option uses it
}

func (s *Service) equal(o *Service) bool {
	return s.ObjectKey == o.ObjectKey && s.ResourceVersion == o.ResourceVersion && s.Type == o.Type &&
		s.ExternalName == o.ExternalName && slices.Equal(s.ClusterIPs, o.ClusterIPs) && slices.Equal(s.Ports, o.Ports) &&
		s.External.equal(o.External)
}

// An Endpoint is one ready address of an EndpointSlice.
type Endpoint struct {
	Addr         netip.Addr
	Label        string // the hostname, or the pod's name where asked for; "" for the dashed address
	TopologyZone string // "" where unknown or of no use
}

// A Slice holds the ready addresses of one EndpointSlice, packed: 4 or 16
// octets each, and names only where an endpoint has one. It never changes once
// it was given to an Index.
type Slice struct {
	ObjectKey
	ResourceVersion uint64
	Service         string // in the same namespace
	Cluster         string // the ID of the cluster it is from, for a ServiceImport; then every endpoint's label ends in it
	Ports           []Port

	v6     bool
	addrs  []byte      // packed, sorted by topology zone and address
	labels []string    // nil if no endpoint has a label, else one for each address
	zones  []zoneRange // nil if no endpoint has a topology zone
}

// A zoneRange tells which of a Slice's addresses are in a topology zone: those
// from the end of the range before to end.
type zoneRange struct {
	name string
	end  int
}

// NewSlice packs the endpoints, which must all be of one address family; it
// sorts them in place. Repeated endpoints are kept once.
func NewSlice(key ObjectKey, resourceVersion uint64, service string, ports []Port, endpoints []Endpoint) *Slice {
	s := &Slice{ObjectKey: key, ResourceVersion: resourceVersion, Service: service, Ports: ports}
	slices.SortFunc(endpoints, Endpoint.compare)
	endpoints = slices.Compact(endpoints)
	if len(endpoints) == 0 {
		return s
	}
	s.v6 = endpoints[0].Addr.Is6()
	s.addrs = make([]byte, 0, len(endpoints)*s.addrLen())
	zonal := endpoints[len(endpoints)-1].TopologyZone != ""
	for i, e := range endpoints {
		s.addrs = append(s.addrs, e.Addr.AsSlice()...)
		if e.Label != "" && s.labels == nil {
			s.labels = make([]string, len(endpoints))
		}
		if s.labels != nil {
			s.labels[i] = e.Label
		}
		if zonal && (i == 0 || endpoints[i-1].TopologyZone != e.TopologyZone) {
			s.zones = append(s.zones, zoneRange{name: e.TopologyZone})
		}
		if zonal {
			s.zones[len(s.zones)-1].end = i + 1
		}
	}
	return s
}

// compare is the order in which a Slice holds its endpoints.
func (e Endpoint) compare(o Endpoint) int {
	return cmp.Or(strings.Compare(e.TopologyZone, o.TopologyZone), e.Addr.Compare(o.Addr), strings.Compare(e.Label, o.Label))
}

func (s *Slice) addrLen() int {
	if s.v6 {
		return 16
	}
	return 4
}

// Len is the number of ready addresses.
func (s *Slice) Len() int { return len(s.addrs) / s.addrLen() }

// size is Len, also of no Slice.
func (s *Slice) size() int {
	if s == nil {
		return 0
	}
	return s.Len()
}

// Addr is the i-th address.
func (s *Slice) Addr(i int) netip.Addr {
	if s.v6 {
		return netip.AddrFrom16([16]byte(s.addrs[i*16:]))
	}
	return netip.AddrFrom4([4]byte(s.addrs[i*4:]))
}

// Label is the label of the i-th address below its Service, "" if that is the
// dashed address.
func (s *Slice) Label(i int) string {
	if s.labels == nil {
		return ""
	}
	return s.labels[i]
}

// family is that of all the addresses.
func (s *Slice) family() Family {
	if s.v6 {
		return IPv6
	}
	return IPv4
}

// inZone is the range of addresses in a topology zone; "" is all of them.
func (s *Slice) inZone(zone string) (from, to int) {
	if zone == "" {
		return 0, s.Len()
	}
	for _, z := range s.zones {
		if strings.EqualFold(z.name, zone) {
			return from, z.end
		}
		from = z.end
	}
	return 0, 0
}

// hasNameless tells whether the address is in the slice without a label.
func (s *Slice) hasNameless(a netip.Addr) bool {
	for i := range s.Len() {
		if s.Label(i) == "" && s.Addr(i) == a {
			return true
		}
	}
	return false
}

func (s *Slice) equal(o *Slice) bool {
	return s.ObjectKey == o.ObjectKey && s.ResourceVersion == o.ResourceVersion && s.Service == o.Service && s.Cluster == o.Cluster && s.v6 == o.v6 &&
		slices.Equal(s.addrs, o.addrs) && slices.Equal(s.labels, o.labels) && slices.Equal(s.zones, o.zones) &&
		slices.Equal(s.Ports, o.Ports)
}

// A Pod is what the DNS needs to know of a core/v1 Pod that has an address and
// has not ended. It never changes once it was given to an Index.
type Pod struct {
	ObjectKey
	ResourceVersion uint64
	Addrs           []netip.Addr
	Labels          Labels // none where no option uses them
	Hidden          bool   // not selected by the labels option: known as a client, but without a name
}

// Labels are those of a Kubernetes object. Equal ones, as of the pods of one
// Deployment, take memory once. The zero value is none.
type Labels string // KEY=VALUE, each ended by labelEnd, in the order of keys

const labelEnd = "\x00" // in no key and no value

// NewLabels keeps labels; it shares no memory with them.
func NewLabels(m map[string]string) Labels {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(m)) {
		b.WriteString(key + "=" + m[key] + labelEnd)
	}
	return Labels(unique.Make(b.String()).Value())
}

// All yields the labels in the order of their keys.
func (l Labels) All(yield func(key, value string) bool) {
	for label := range strings.SplitSeq(strings.TrimSuffix(string(l), labelEnd), labelEnd) {
		if key, value, ok := strings.Cut(label, "="); ok && !yield(key, value) {
			return
		}
	}
}

// A Namespace is a core/v1 Namespace that the namespace_labels option, if any,
// selects.
type Namespace struct {
	Name            string
	ResourceVersion uint64
}

// appendDashed appends the label of an endpoint without a name: its address,
// with every separator replaced by a hyphen. A final 0 is added where the
// address ends in "::".
func appendDashed(b []byte, a netip.Addr) []byte {
	from := len(b)
	b = a.AppendTo(b)
	for i := from; i < len(b); i++ {
		if b[i] == '.' || b[i] == ':' {
			b[i] = '-'
		}
	}
	if b[len(b)-1] == '-' {
		b = append(b, '0')
	}
	return b
}

// DashedLabel is the label of an endpoint without a name.
func DashedLabel(a netip.Addr) string {
	var b [40]byte
	return string(appendDashed(b[:0], a))
}

// ParseDashed is the address whose DashedLabel is label, in this spelling
// only. The label is in lower case.
func ParseDashed(label string) (netip.Addr, bool) {
	a, ok := ParseDashedAnySpelling(label)
	if !ok {
		return a, false
	}
	var b [40]byte
	return a, string(appendDashed(b[:0], a)) == label
}

// ParseDashedAnySpelling is the address of a pod's name: four decimal octets,
// or an IPv6 address in any spelling. Neither an IPv4-mapped address nor one
// with a zone has such a name.
func ParseDashedAnySpelling(label string) (netip.Addr, bool) {
	if len(label) < len("--") || len(label) > len("ffff-ffff-ffff-ffff-ffff-ffff-255-255-255-255") {
		return netip.Addr{}, false
	}
	if a, ok := parseDashed4(label); ok {
		return a, true
	}
	return parseDashed6(label)
}

func parseDashed4(label string) (netip.Addr, bool) {
	var octets [4]byte
	rest := label
	for i := range octets {
		digits := rest
		if i < 3 {
			var found bool
			if digits, rest, found = strings.Cut(rest, "-"); !found {
				return netip.Addr{}, false
			}
		}
		n, ok := decimalOctet(digits)
		if !ok {
			return netip.Addr{}, false
		}
		octets[i] = n
	}
	return netip.AddrFrom4(octets), true
}

func decimalOctet(s string) (byte, bool) {
	if s == "" || len(s) > 3 || (len(s) > 1 && s[0] == '0') {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return byte(n), n <= 255
}

// parseDashed6 reads groups of one to four hexadecimal digits, with at most one
// run of groups left out, as RFC 4291 section 2.2 writes them but for the
// hyphens.
func parseDashed6(label string) (netip.Addr, bool) {
	var groups [8]uint16
	n, gap := 0, -1
	rest := label
	if strings.HasPrefix(rest, "--") {
		gap, rest = 0, rest[2:]
	}
	for rest != "" {
		digits := 0
		var group uint16
		for digits < len(rest) && rest[digits] != '-' {
			v := hexDigit(rest[digits])
			if v < 0 || digits == 4 {
				return netip.Addr{}, false
			}
			group = group<<4 | uint16(v)
			digits++
		}
		if digits == 0 || n == len(groups) {
			return netip.Addr{}, false
		}
		groups[n] = group
		n++
		rest = rest[digits:]
		switch {
		case rest == "":
		case strings.HasPrefix(rest, "--"):
			if gap >= 0 {
				return netip.Addr{}, false
			}
			gap, rest = n, rest[2:]
		case len(rest) == 1: // a lone hyphen at the end
			return netip.Addr{}, false
		default:
			rest = rest[1:]
		}
	}
	if (gap < 0 && n != 8) || (gap >= 0 && n > 7) {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i, g := range groups[:n] {
		at := i
		if gap >= 0 && i >= gap {
			at = 8 - n + i
		}
		binary.BigEndian.PutUint16(b[at*2:], g)
	}
	a := netip.AddrFrom16(b)
	return a, !a.Is4In6()
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}
