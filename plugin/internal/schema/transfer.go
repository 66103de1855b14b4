package schema

import (
	"math"
	"net/netip"
	"slices"

	"github.com/kubezone/kubezone/plugin/internal/index"
	"github.com/miekg/dns"
)

// Transfer yields the RRsets of a zone but for the SOA, each once: the same
// records that queries are answered with, for every name that has any. Names
// that have no finite list (pods insecure) and names by topology zone are left
// out. The zone is in lower case.
func (s *Schema) Transfer(zone string, yield func(rrset []dns.RR)) {
	t := transfer{s, zone, yield}
	apex := s.ns(zone)
	yield(apex.Records)
	if IsReverse(zone) {
		t.reverse()
		return
	}
	if s.Grammar == External {
		t.name(externalServer+"."+s.ApexLabel, dns.TypeA, dns.TypeAAAA)
		s.Index.AllServices(func(st *index.State) bool {
			t.external(st)
			return true
		})
		return
	}
	t.name("dns-version", dns.TypeTXT)
	t.name("ns.dns", dns.TypeA, dns.TypeAAAA)
	s.Index.AllServices(func(st *index.State) bool {
		t.service(st)
		return true
	})
	if s.Pods == PodsVerified {
		t.pods()
	}
}

// Complete tells whether everything that the zones are made of is known.
func (s *Schema) Complete() bool {
	kinds := []index.Kind{index.Services, index.Namespaces}
	if !s.has(NoEndpoints) {
		kinds = append(kinds, index.EndpointSlices)
	}
	if s.Pods == PodsVerified {
		kinds = append(kinds, index.Pods)
	}
	return !slices.ContainsFunc(kinds, func(k index.Kind) bool { return !s.Index.Holds(k) })
}

type transfer struct {
	schema *Schema
	zone   string
	yield  func([]dns.RR)
}

// name yields what a query for each type is answered with. An alias has a CNAME
// and nothing else.
func (t transfer) name(relative string, qtypes ...uint16) {
	q := Question{Name: t.schema.Parse(relative), QName: below(relative, t.zone), Zone: t.zone, Room: math.MaxInt}
	if tooLong(q.QName) {
		return
	}
	for _, q.QType = range qtypes {
		if a := t.schema.Answer(&q); a.Outcome == Success {
			t.yield(a.Records)
		}
	}
}

func (t transfer) service(st *index.State) {
	name := st.Service.Name + "." + st.Service.Namespace + ".svc"
	if st.Service.Type == index.ExternalName {
		t.name(name, dns.TypeCNAME)
		return
	}
	t.name(name, dns.TypeA, dns.TypeAAAA, dns.TypeSRV)
	t.ports(st, name)
	t.labels(st, name)
}

// ports yields the names of the ports that the service with this name has.
func (t transfer) ports(st *index.State, name string) {
	ports := map[string]bool{}
	for _, list := range t.schema.ports(st) {
		for _, p := range list {
			if owner := "_" + p.Name + "._" + p.Protocol + "." + name; p.Name != "" && !ports[owner] {
				ports[owner] = true
				t.name(owner, dns.TypeSRV)
			}
		}
	}
}

// labels yields the names of the endpoints of the service with this name.
func (t transfer) labels(st *index.State, name string) {
	labels := map[string]bool{}
	st.Labels(func(label string) bool {
		if !labels[label] {
			labels[label] = true
			t.name(label+"."+name, dns.TypeA, dns.TypeAAAA, dns.TypeSRV)
		}
		return true
	})
}

func (t transfer) pods() {
	t.schema.Index.AllPods(func(a netip.Addr, pods []*index.Pod) bool {
		namespaces := map[string]bool{}
		for _, p := range pods {
			if !namespaces[p.Namespace] {
				namespaces[p.Namespace] = true
				t.name(index.DashedLabel(a)+"."+p.Namespace+".pod", dns.TypeA, dns.TypeAAAA)
			}
		}
		return true
	})
}

// reverse yields the PTR RRset of every address in the zone.
func (t transfer) reverse() {
	prefix, ok := ParseReverse(t.zone)
	if !ok {
		return
	}
	t.schema.allAddresses(prefix, func(a netip.Addr) bool {
		owner, err := dns.ReverseAddr(a.String())
		if err != nil {
			return true
		}
		q := ReverseQuestion{Name: owner, QName: owner, QType: dns.TypePTR, Room: math.MaxInt}
		if answer := t.schema.AnswerReverse(&q); len(answer.Records) > 0 {
			t.yield(answer.Records)
		}
		return true
	})
}
