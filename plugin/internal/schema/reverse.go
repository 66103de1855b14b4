package schema

import (
	"net/netip"
	"sync/atomic"

	"github.com/kubezone/kubezone/plugin/internal/index"
	"github.com/miekg/dns"
)

// tooLongNames counts what tooLong left out.
var tooLongNames atomic.Uint64

// TooLongNames is the number of records left out so far, in this process,
// because a name in them would have been longer than 255 octets.
func TooLongNames() uint64 { return tooLongNames.Load() }

// tooLong tells whether a fully qualified name does not fit into the 255 octets
// of RFC 1035 section 2.3.4, and counts it if so.
func tooLong(name string) bool {
	if len(name)+1 <= 255 {
		return false
	}
	tooLongNames.Add(1)
	return true
}

// PrivateSpace is what networks use on their own: private (RFC 1918), shared (RFC
// 6598) and unique local space (RFC 4193).
var PrivateSpace = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("fc00::/7"),
}

// A ReverseQuestion is a query for a name in a reverse zone.
type ReverseQuestion struct {
	Name  string // in lower case
	QName string // as asked
	QType uint16
	Room  int
}

// AnswerReverse looks the question up. It never waits.
func (s *Schema) AnswerReverse(q *ReverseQuestion) Answer {
	prefix, ok := ParseReverse(q.Name)
	if !ok {
		return Answer{Outcome: NameError, Reason: NotReverse}
	}
	if prefix.IsSingleIP() {
		if a := s.ptr(q, prefix.Addr()); a.Outcome != NameError {
			return a
		}
	} else if s.hasOwnersIn(prefix) {
		return Answer{Outcome: NoData, Reason: OnlyBranch}
	}
	switch {
	case !s.Index.Holds(index.Services):
		return Answer{Outcome: NotSynced, Reason: ServicesMissing}
	case s.Grammar != External && !s.has(NoEndpoints) && !s.Index.Holds(index.EndpointSlices):
		return Answer{Outcome: NotSynced, Reason: SlicesMissing}
	case s.Index.SelectsNamespaces() && !s.Index.Holds(index.Namespaces):
		return Answer{Outcome: NotSynced, Reason: NamespacesMissing}
	}
	return Answer{Outcome: NameError, Reason: NoSuchAddress}
}

// ptr answers with the names of an address. The set may be incomplete while
// slices are missing, so there is none then unless the address is a Service's.
func (s *Schema) ptr(q *ReverseQuestion, a netip.Addr) Answer {
	names := s.owners(a)
	if len(names) == 0 {
		return Answer{Outcome: NameError, Reason: NoSuchAddress}
	}
	switch q.QType {
	case dns.TypePTR:
		return s.ptrRecords(q, names, a)
	case dns.TypeANY:
		return s.any(&Question{QName: q.QName})
	}
	return Answer{Outcome: NoData, Reason: OtherType}
}

func (s *Schema) ptrRecords(q *ReverseQuestion, names []index.Owner, a netip.Addr) Answer {
	if s.has(FirstPTROnly) {
		names = names[:1]
	}
	common := len(s.branch()) + len(s.PrimaryZone) // octets, compressed in all records but the first
	answer := Answer{}
	used := common + 1
	for _, n := range names {
		target := below(n.Key.Name+"."+n.Key.Namespace+s.branch(), s.PrimaryZone)
		if !n.ClusterIP {
			target = ownerLabel(n, a) + "." + target
		}
		if tooLong(target) {
			continue
		}
		used += recordSize + len(target) - common + 2
		if used > q.Room {
			answer.Truncated = true
			break
		}
		answer.Records = append(answer.Records, &dns.PTR{Hdr: header(q.QName, dns.TypePTR, s.TTL), Ptr: target})
	}
	if len(answer.Records) == 0 && !answer.Truncated {
		return Answer{Outcome: NoData, Reason: OtherType}
	}
	return answer
}

func ownerLabel(n index.Owner, a netip.Addr) string {
	if n.Label == "" {
		return index.DashedLabel(a)
	}
	return n.Label
}
