// Package schema is the Kubernetes DNS schema: it turns a name and a type into
// records, or into a negative outcome with its reason. Forward and reverse
// queries, the name server's own records, zone transfers and metadata all come
// from here, so they cannot disagree.
package schema

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/kubezone/kubezone/plugin/internal/index"
	"github.com/miekg/dns"
)

// A PodMode says which pod names exist.
type PodMode uint8

const (
	PodsDisabled PodMode = iota // none
	PodsInsecure                // any address, in a namespace that exists
	PodsVerified                // the address of a pod of the namespace
)

// Features are optional parts of the schema.
type Features uint8

const (
	NoEndpoints        Features = 1 << iota // endpoints are not watched, and have no names
	HeadlessEndpoints                       // only those of headless Services are watched, and have names
	IgnoreEmptyService                      // a ClusterIP service without a ready endpoint does not exist
	FirstPTROnly                            // one name for an address, the first
	ExternalEndpoints                       // in an external zone, endpoints of Services without an external address have names
)

// A Config is what a server block's options make of the schema.
type Config struct {
	Index       *index.Index
	PrimaryZone string // that the names in PTR records end in; lower case
	TTL         uint32 // seconds
	NegativeTTL uint32 // seconds
	Pods        PodMode
	PodRanges   []netip.Prefix // that the addresses of pods are in; any if empty
	Grammar     Grammar
	ApexLabel   string // of an external zone: what its name servers' names are below
	Features    Features
	Local       func() []netip.Addr // the addresses that this server is reached at
}

// A Schema answers from its Config. It is safe for concurrent use.
type Schema struct {
	Config
	own atomic.Pointer[soaNames] // of the primary zone, which most negative answers need
}

func (s *Schema) has(f Features) bool { return s.Features&f != 0 }

// versionTTL is that of the schema's version, which only a new build changes.
const versionTTL = 28800

// A Question is a query for a name in a forward zone.
type Question struct {
	Name  Name
	QName string // as asked; the records come back in its spelling
	Zone  string // the end of QName that is the zone, as asked
	QType uint16
	Room  int // octets that answer and additional section may take, names compressed
}

// An Answer is what a Question comes to. Its records belong to the caller.
type Answer struct {
	Outcome   Outcome
	Reason    Reason
	Records   []dns.RR
	Extra     []dns.RR // the addresses of what Records name, as far as there is room
	Truncated bool     // there was no room for all of Records
}

// Answer looks the question up. It never waits.
func (s *Schema) Answer(q *Question) Answer {
	switch q.Name.Form {
	case Apex:
		return s.AnswerApex(q.QName, q.QType)
	case SvcBranch, PodBranch, DNSBranch:
		return Answer{Outcome: NoData, Reason: OnlyBranch}
	case Version:
		return s.version(q)
	case NameServer:
		return s.addressesOf(q, s.ServerAddrs())
	case SvcNamespace:
		return s.namespace(q.Name.Namespace)
	case PodNamespace:
		if s.Pods == PodsDisabled {
			return Answer{Outcome: NameError, Reason: PodsOff}
		}
		return s.namespace(q.Name.Namespace)
	case PodName:
		return s.pod(q)
	case Impossible:
		return Answer{Outcome: NameError, Reason: NoSuchBranch}
	}
	if s.Grammar == External {
		return s.external(q)
	}
	return s.service(q)
}

func (s *Schema) version(q *Question) Answer {
	switch q.QType {
	case dns.TypeTXT:
		return found(&dns.TXT{Hdr: header(q.QName, dns.TypeTXT, versionTTL), Txt: []string{s.specification()}})
	case dns.TypeANY:
		return s.any(q)
	}
	return Answer{Outcome: NoData, Reason: OtherType}
}

// specification is the version of the DNS specification that the zone follows:
// of Kubernetes, or of its multicluster services.
func (s *Schema) specification() string {
	if s.Grammar == Multicluster {
		return "1.0.0"
	}
	return "1.1.0"
}

func found(rrs ...dns.RR) Answer { return Answer{Records: rrs} }

// any answers a query for any type as RFC 8482 section 4.2 allows.
func (s *Schema) any(q *Question) Answer {
	return found(&dns.HINFO{Hdr: header(q.QName, dns.TypeHINFO, s.TTL), Cpu: "RFC8482"})
}

func header(name string, qtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: qtype, Class: dns.ClassINET, Ttl: ttl}
}

func (s *Schema) namespace(name string) Answer {
	switch {
	case s.Index.HasNamespace(name):
		return Answer{Outcome: NoData, Reason: OnlyBranch}
	case s.Index.Hides(name):
		return Answer{Outcome: NameError, Reason: NoSuchNamespace}
	case !s.Index.Holds(index.Namespaces):
		return Answer{Outcome: NotSynced, Reason: NamespacesMissing}
	case !s.Index.Holds(index.Services):
		return Answer{Outcome: NotSynced, Reason: ServicesMissing}
	}
	return Answer{Outcome: NameError, Reason: NoSuchNamespace}
}

func (s *Schema) pod(q *Question) Answer {
	if s.Pods == PodsDisabled {
		return Answer{Outcome: NameError, Reason: PodsOff}
	}
	addr, ok := index.ParseDashedAnySpelling(q.Name.Label)
	if !ok {
		return Answer{Outcome: NameError, Reason: NotAnAddress}
	}
	if !s.mayBePod(addr) {
		return Answer{Outcome: NameError, Reason: OutsidePodRanges}
	}
	if s.Pods == PodsInsecure {
		if exists := s.namespace(q.Name.Namespace); exists.Outcome != NoData {
			return exists
		}
		return s.addressesOf(q, []netip.Addr{addr})
	}
	switch {
	case len(s.Index.PodsIn(q.Name.Namespace, addr)) > 0:
		return s.addressesOf(q, []netip.Addr{addr})
	case s.Index.Hides(q.Name.Namespace):
	case !s.Index.Holds(index.Pods):
		return Answer{Outcome: NotSynced, Reason: PodsMissing}
	case s.Index.SelectsNamespaces() && !s.Index.Holds(index.Namespaces):
		return Answer{Outcome: NotSynced, Reason: NamespacesMissing}
	}
	return Answer{Outcome: NameError, Reason: NoSuchPod}
}

// mayBePod tells whether a pod may have the address.
func (s *Schema) mayBePod(a netip.Addr) bool {
	return len(s.PodRanges) == 0 || slices.ContainsFunc(s.PodRanges, func(p netip.Prefix) bool { return p.Contains(a) })
}

// service answers for a Service and the names below it.
func (s *Schema) service(q *Question) Answer {
	st := s.Index.Service(index.ObjectKey{Namespace: q.Name.Namespace, Name: q.Name.Service})
	if st == nil {
		return s.noService(q.Name.Namespace)
	}
	if st.Service.Type == index.ExternalName {
		return s.externalName(st, q)
	}
	return s.ownService(st, q)
}

// ownService answers for a Service that is no alias.
func (s *Schema) ownService(st *index.State, q *Question) Answer {
	if missing := s.endpointsMissing(st, q.Name.Form); missing.Outcome != Success {
		return missing
	}
	switch q.Name.Form {
	case Service:
		return s.serviceName(st, q)
	case Endpoint:
		return s.endpoint(st, q)
	case Protocol, PortName:
		return s.portName(st, q)
	}
	return s.zoneName(st, q)
}

func (s *Schema) noService(namespace string) Answer {
	switch {
	case s.Index.Hides(namespace):
		return Answer{Outcome: NameError, Reason: NoSuchNamespace}
	case !s.Index.Holds(index.Services):
		return Answer{Outcome: NotSynced, Reason: ServicesMissing}
	case s.Index.SelectsNamespaces() && !s.Index.Holds(index.Namespaces):
		return Answer{Outcome: NotSynced, Reason: NamespacesMissing}
	case s.Index.Holds(index.Namespaces) && !s.Index.HasNamespace(namespace):
		return Answer{Outcome: NameError, Reason: NoSuchNamespace}
	}
	return Answer{Outcome: NameError, Reason: NoSuchService}
}

// endpointsMissing is Success unless the answer depends on endpoints that are
// not served, not yet known or not there. A headless service without a ready
// endpoint does not exist (specification section 2.4.1), for whatever type, nor
// do the names below it.
func (s *Schema) endpointsMissing(st *index.State, f Form) Answer {
	depends := st.Service.Type == index.Headless || f == Endpoint
	mustBeReady := st.Service.Type == index.Headless || s.has(IgnoreEmptyService)
	switch {
	case !depends && !mustBeReady:
	case s.has(NoEndpoints):
		return Answer{Outcome: NameError, Reason: EndpointsOff}
	case s.has(HeadlessEndpoints) && st.Service.Type != index.Headless:
		return Answer{Outcome: NameError, Reason: HeadlessOnly}
	case !s.Index.Holds(index.EndpointSlices):
		return Answer{Outcome: NotSynced, Reason: SlicesMissing}
	case mustBeReady && !st.Ready():
		return Answer{Outcome: NameError, Reason: NoReadyEndpoint}
	}
	return Answer{}
}

// externalName answers for an alias. A value that looks like an IPv4 address is
// no name to be an alias for.
func (s *Schema) externalName(st *index.State, q *Question) Answer {
	target := st.Service.ExternalName
	if q.Name.Form != Service {
		return Answer{Outcome: NameError, Reason: BelowAlias}
	}
	if _, err := netip.ParseAddr(strings.TrimSuffix(target, ".")); err == nil {
		return Answer{Outcome: NameError, Reason: AliasToAddress}
	}
	return s.alias(q, target)
}

// alias answers with the CNAME.
func (s *Schema) alias(q *Question, target string) Answer {
	alias := found(&dns.CNAME{Hdr: header(q.QName, dns.TypeCNAME, s.TTL), Target: target})
	alias.Reason = IsAlias
	if q.QType != dns.TypeCNAME && q.QType != dns.TypeANY {
		alias.Outcome = Alias
	}
	return alias
}

func (s *Schema) serviceName(st *index.State, q *Question) Answer {
	switch q.QType {
	case dns.TypeA, dns.TypeAAAA:
		if st.Service.Type == index.Headless {
			return s.endpointAddresses(st, q, "")
		}
		return s.addressesOf(q, st.Service.ClusterIPs)
	case dns.TypeSRV:
		return s.srv(st, q, portFilter{})
	case dns.TypeANY:
		if len(st.Service.ClusterIPs) > 0 || st.Ready() {
			return s.any(q)
		}
	}
	return Answer{Outcome: NoData, Reason: OtherType}
}

// portName answers for the name of a port, or of a protocol above those.
func (s *Schema) portName(st *index.State, q *Question) Answer {
	if !hasPort(s.ports(st), q.Name.Port, q.Name.Protocol) {
		return Answer{Outcome: NameError, Reason: NoSuchPort}
	}
	if q.Name.Form == Protocol {
		return Answer{Outcome: NoData, Reason: OnlyBranch}
	}
	switch q.QType {
	case dns.TypeSRV:
		return s.srv(st, q, portFilter{name: q.Name.Port, protocol: q.Name.Protocol})
	case dns.TypeANY:
		return s.any(q)
	}
	return Answer{Outcome: NoData, Reason: OtherType}
}

// ports are those of the service or, if it is published by its endpoints, the
// different lists that these have.
func (s *Schema) ports(st *index.State) [][]index.Port {
	if s.byEndpoints(st) {
		return st.EndpointPorts()
	}
	return [][]index.Port{st.Service.Ports}
}

// byEndpoints tells whether the addresses of the service are its endpoints'.
func (s *Schema) byEndpoints(st *index.State) bool {
	return st.Service.Type == index.Headless && (s.Grammar != External || st.Service.External == nil)
}

// hasPort tells whether a port of this protocol has this name, "" for any name.
// A port without a name has no place in the DNS.
func hasPort(lists [][]index.Port, name, protocol string) bool {
	for _, ports := range lists {
		for _, p := range ports {
			if p.Protocol == protocol && p.Name != "" && (name == "" || p.Name == name) {
				return true
			}
		}
	}
	return false
}

func (s *Schema) endpoint(st *index.State, q *Question) Answer {
	if s.Grammar == Multicluster && st.Service.Type == index.ClusterIP {
		return Answer{Outcome: NameError, Reason: NoSuchEndpoint}
	}
	family := index.IPv4
	if q.QType == dns.TypeAAAA {
		family = index.IPv6
	}
	var addrs []netip.Addr
	if !s.Index.Labelled(st, q.Name.Label, family, func(a netip.Addr) { addrs = append(addrs, a) }) {
		if st.InCluster(q.Name.Label) {
			return Answer{Outcome: NoData, Reason: OnlyBranch}
		}
		return Answer{Outcome: NameError, Reason: NoSuchEndpoint}
	}
	switch q.QType {
	case dns.TypeA, dns.TypeAAAA:
		return s.addressesOf(q, addrs)
	case dns.TypeSRV:
		return s.endpointSRV(st, q)
	case dns.TypeANY:
		return s.any(q)
	}
	return Answer{Outcome: NoData, Reason: OtherType}
}

func (s *Schema) zoneName(st *index.State, q *Question) Answer {
	if st.Service.Type != index.Headless {
		return Answer{Outcome: NameError, Reason: ZoneOfClusterIP}
	}
	if q.Name.Form == ZoneBranch {
		return Answer{Outcome: NoData, Reason: OnlyBranch}
	}
	zone := q.Name.TopologyZone
	if st.Len(index.IPv4, zone)+st.Len(index.IPv6, zone) == 0 {
		if q.Name.Fallback == Pin {
			return Answer{Outcome: NoData, Reason: NoEndpointInZone}
		}
		zone = ""
	}
	switch q.QType {
	case dns.TypeA, dns.TypeAAAA:
		return s.endpointAddresses(st, q, zone)
	case dns.TypeSRV:
		return s.srv(st, q, portFilter{topologyZone: zone})
	case dns.TypeANY:
		return s.any(q)
	}
	return Answer{Outcome: NoData, Reason: OtherType}
}
