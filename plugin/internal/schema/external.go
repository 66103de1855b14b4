package schema

import (
	"net/netip"

	"github.com/kubezone/kubezone/plugin/internal/index"
	"github.com/miekg/dns"
)

// DefaultApexLabel is what the names of an external zone's name servers are
// below.
const DefaultApexLabel = "dns"

// externalServer is the label of the only name server of an external zone.
const externalServer = "ns1"

// parseExternal reads a name in an external zone, as Parse does.
func (s *Schema) parseExternal(relative string) Name {
	rest, branch := cutLast(relative)
	switch {
	case relative == "":
		return Name{Form: Apex}
	case branch != s.ApexLabel:
		return parseService(relative, External)
	case rest == "":
		return Name{Form: DNSBranch}
	case rest == externalServer:
		return Name{Form: NameServer}
	}
	return Name{}
}

// external answers for a Service and the names below it in an external zone.
// There it exists by its external addresses or host names, else, if that is
// asked for, by its endpoints.
func (s *Schema) external(q *Question) Answer {
	st := s.Index.Service(index.ObjectKey{Namespace: q.Name.Namespace, Name: q.Name.Service})
	switch {
	case st == nil:
		a := s.noService(q.Name.Namespace)
		if a.Reason == NoSuchService {
			a.Reason = NoSuchExternal // whether it exists in the cluster is not told outside
		}
		return a
	case st.Service.External != nil:
		return s.externalService(st, q)
	case !s.has(ExternalEndpoints) || st.Service.Type == index.ExternalName:
		return Answer{Outcome: NameError, Reason: NoSuchExternal}
	case st.Service.Type == index.Headless:
		return s.ownService(st, q)
	}
	return s.internalService(st, q)
}

// externalService answers for a Service with external addresses or host names.
// A host name alone makes it an alias, and no other record goes with that (RFC
// 1034 section 3.6.2). An alias has one target (RFC 2181 section 10.1), so of
// several host names it is the first.
func (s *Schema) externalService(st *index.State, q *Question) Answer {
	x := st.Service.External
	switch q.Name.Form {
	case Endpoint:
		return Answer{Outcome: NameError, Reason: NoSuchBranch}
	case Protocol, PortName:
		return s.portName(st, q)
	}
	if len(x.Addrs) == 0 {
		return s.alias(q, x.Hosts[0])
	}
	switch q.QType {
	case dns.TypeSRV:
		return s.srv(st, q, portFilter{})
	case dns.TypeANY:
		return s.any(q)
	}
	return s.addressesOf(q, x.Addrs)
}

// internalService answers for a Service that is reached in the cluster only:
// its endpoints have names, it has none but for these.
func (s *Schema) internalService(st *index.State, q *Question) Answer {
	if q.Name.Form != Service && q.Name.Form != Endpoint {
		return Answer{Outcome: NameError, Reason: NoSuchExternal}
	}
	switch missing := s.endpointsMissing(st, Endpoint); {
	case missing.Outcome != Success:
		return missing
	case q.Name.Form == Endpoint:
		return s.endpoint(st, q)
	case st.Ready():
		// Empty non-terminal: the name exists, so NODATA (RFC 8020).
		return Answer{Outcome: NoData, Reason: OnlyEndpoints}
	}
	return Answer{Outcome: NameError, Reason: NoSuchExternal}
}

// externalNS is the name server of an external zone. A reverse zone has that of
// the primary zone.
func (s *Schema) externalNS(zone string) Answer {
	host := below(externalServer+"."+s.ApexLabel, s.namesOf(zone))
	a := found(&dns.NS{Hdr: header(zone, dns.TypeNS, s.TTL), Ns: host})
	for _, addr := range s.ServerAddrs() {
		a.Extra = append(a.Extra, address(host, s.TTL, addr))
	}
	return a
}

// mostServerAddrs bounds how many endpoints of a headless Service are addresses
// of the name server, so that an NS answer always fits.
const mostServerAddrs = 8

// reach are the addresses that a Service in front of this server is reached at:
// from outside, in an external zone.
func (s *Schema) reach(st *index.State) []netip.Addr {
	switch {
	case s.Grammar != External:
		return st.Service.ClusterIPs
	case st.Service.External != nil:
		return st.Service.External.Addrs
	case !s.has(ExternalEndpoints) || st.Service.Type != index.Headless:
		return nil
	}
	var addrs []netip.Addr
	for _, f := range []index.Family{index.IPv4, index.IPv6} {
		st.Endpoints(f, "", 0, func(sl *index.Slice, from, to int) bool {
			for i := from; i < to && len(addrs) < mostServerAddrs; i++ {
				addrs = append(addrs, sl.Addr(i))
			}
			return len(addrs) < mostServerAddrs
		})
	}
	return addrs
}

// owners are the names of an address in the schema's zones.
func (s *Schema) owners(a netip.Addr) []index.Owner {
	if s.Grammar != External {
		return s.Index.Owners(a)
	}
	var owners []index.Owner
	for _, key := range s.Index.ExternalOwners(a) {
		owners = append(owners, index.Owner{Key: key, ClusterIP: true})
	}
	return owners
}

func (s *Schema) hasOwnersIn(p netip.Prefix) bool {
	if s.Grammar == External {
		return s.Index.HasExternalIn(p)
	}
	return s.Index.HasOwnersIn(p)
}

func (s *Schema) allAddresses(p netip.Prefix, yield func(netip.Addr) bool) {
	if s.Grammar == External {
		s.Index.AllExternal(p, yield)
		return
	}
	s.Index.AllAddresses(p, yield)
}

// external yields the names of a Service in an external zone.
func (t transfer) external(st *index.State) {
	name := st.Service.Name + "." + st.Service.Namespace
	if st.Service.External != nil {
		t.name(name, dns.TypeCNAME, dns.TypeA, dns.TypeAAAA, dns.TypeSRV)
		t.ports(st, name)
		return
	}
	if !t.schema.has(ExternalEndpoints) || st.Service.Type == index.ExternalName {
		return
	}
	if st.Service.Type == index.Headless {
		t.name(name, dns.TypeA, dns.TypeAAAA, dns.TypeSRV)
		t.ports(st, name)
	}
	t.labels(st, name)
}
