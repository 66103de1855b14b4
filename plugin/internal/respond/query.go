package respond

import (
	"context"
	"net/netip"
	"slices"

	"github.com/coredns/coredns/request"
	"github.com/kubezone/kubezone/plugin/internal/schema"

	"github.com/miekg/dns"
)

// A query is one that is being served.
type query struct {
	ctx   context.Context
	state request.Request
	qname string // as asked
	name  string // in lower case
	zone  *Zone
	apex  string // the end of qname that is the zone, in the client's spelling
	qtype uint16
}

// answer asks the zone's schema.
func (q *query) answer() schema.Answer {
	switch {
	case !q.zone.Reverse:
		return q.zone.Schema.Answer(&schema.Question{
			Name:  q.zone.Parse(q.name),
			QName: q.qname,
			Zone:  q.apex,
			QType: q.qtype,
			Room:  room(&q.state),
		})
	case q.name == q.zone.Name:
		return q.zone.Schema.AnswerApex(q.qname, q.qtype)
	}
	return q.zone.Schema.AnswerReverse(&schema.ReverseQuestion{Name: q.name, QName: q.qname, QType: q.qtype, Room: room(&q.state)})
}

// ClusterSpace is where a cluster's addresses usually are. Their names are nobody
// else's business (RFC 6303, RFC 7793).
var ClusterSpace = slices.Concat(schema.PrivateSpace, []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"), // link-local (RFC 3927)
	netip.MustParsePrefix("fe80::/10"),
})

// isIn tells whether a name, in lower case, is the reverse name of an address in
// one of the ranges, of a part of such a range, or below one of those, as names
// of DNS-SD are (RFC 6763 section 11).
func isIn(name string, ranges []netip.Prefix) bool {
	if len(ranges) == 0 {
		return false
	}
	for at, end := 0, false; !end; at, end = dns.NextLabel(name, at) {
		if p, ok := schema.ParseReverse(name[at:]); ok {
			return slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Overlaps(p) && p.Bits() >= r.Bits() })
		}
	}
	return false
}
