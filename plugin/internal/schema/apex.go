package schema

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/kubezone/kubezone/plugin/internal/index"
	"github.com/miekg/dns"
)

// Timers of the SOA record, in seconds.
const (
	soaRefresh = 7200
	soaRetry   = 1800
	soaExpire  = 86400
)

// namesOf is the zone that the name servers of a zone have their names in: those
// of a reverse zone are in the primary zone.
func (s *Schema) namesOf(zone string) string {
	if IsReverse(strings.ToLower(zone)) { // the zone is as asked
		return s.PrimaryZone
	}
	return zone
}

// SOA is the zone's. Its TTL and its minimum are both the negative TTL
// (RFC 2308 section 5). The serial is the low 32 bits of the highest resource
// version seen, so that it grows with every change, also across restarts, and
// all replicas come to the same.
func (s *Schema) SOA(zone string) dns.SOA {
	names := s.soaNames(zone)
	return dns.SOA{
		Hdr:     header(zone, dns.TypeSOA, s.NegativeTTL),
		Ns:      names.server,
		Mbox:    names.mailbox,
		Serial:  uint32(s.Index.Serial()),
		Refresh: soaRefresh,
		Retry:   soaRetry,
		Expire:  soaExpire,
		Minttl:  s.NegativeTTL,
	}
}

// soaNames are those in an SOA record.
type soaNames struct{ server, mailbox string }

func (s *Schema) soaNames(zone string) soaNames {
	in := zone
	if s.Grammar == External {
		in = s.namesOf(zone)
	}
	if in != s.PrimaryZone {
		return s.newSOANames(in)
	}
	own := s.own.Load()
	if own == nil {
		names := s.newSOANames(in)
		own = &names
		s.own.Store(own)
	}
	return *own
}

func (s *Schema) newSOANames(in string) soaNames {
	if s.Grammar == External {
		return soaNames{below(externalServer+"."+s.ApexLabel, in), below("hostmaster."+s.ApexLabel, in)}
	}
	return soaNames{below("ns.dns", in), below("hostmaster", in)}
}

func below(name, zone string) string {
	if zone == "." {
		return name + "."
	}
	return name + "." + zone
}

// AnswerApex answers at a zone's own name, of a forward or a reverse zone.
func (s *Schema) AnswerApex(qname string, qtype uint16) Answer {
	switch qtype {
	case dns.TypeSOA:
		soa := s.SOA(qname)
		return found(&soa)
	case dns.TypeNS:
		return s.ns(qname)
	case dns.TypeANY:
		return s.any(&Question{QName: qname})
	}
	return Answer{Outcome: NoData, Reason: OtherType}
}

// ns names the Services in front of this server, else ns.dns.Z. A reverse zone
// has the name servers of the primary zone.
func (s *Schema) ns(zone string) Answer {
	if s.Grammar == External {
		return s.externalNS(zone)
	}
	names := s.namesOf(zone)
	a := Answer{}
	for _, st := range s.fronts() {
		host := below(st.Service.Name+"."+st.Service.Namespace+".svc", names)
		a.Records = append(a.Records, &dns.NS{Hdr: header(zone, dns.TypeNS, s.TTL), Ns: host})
		for _, addr := range st.Service.ClusterIPs {
			a.Extra = append(a.Extra, address(host, s.TTL, addr))
		}
	}
	if len(a.Records) > 0 {
		return a
	}
	host := below("ns.dns", names)
	a.Records = []dns.RR{&dns.NS{Hdr: header(zone, dns.TypeNS, s.TTL), Ns: host}}
	for _, addr := range s.ServerAddrs() {
		a.Extra = append(a.Extra, address(host, s.TTL, addr))
	}
	return a
}

// mostFronts bounds how many Services are named as name servers, so that an NS
// answer always fits.
const mostFronts = 4

// fronts are the Services with addresses that this server is a ready endpoint of,
// by name.
func (s *Schema) fronts() []*index.State {
	var states []*index.State
	for _, local := range s.Local() {
		for _, o := range s.Index.Owners(local) {
			st := s.Index.Service(o.Key)
			if o.ClusterIP || st == nil || len(s.reach(st)) == 0 || slices.Contains(states, st) {
				continue
			}
			if states = append(states, st); len(states) == mostFronts {
				return states
			}
		}
	}
	return states
}

// ServerAddrs are those of the name server: the addresses of the Services in
// front of this server, else those that it is bound to.
func (s *Schema) ServerAddrs() []netip.Addr {
	var addrs []netip.Addr
	for _, st := range s.fronts() {
		addrs = append(addrs, s.reach(st)...)
	}
	if len(addrs) > 0 {
		return addrs
	}
	return s.Local()
}
