package respond

import (
	"context"
	"net/netip"
	"slices"

	"github.com/coredns/coredns/request"
	"github.com/kubezone/kubezone/plugin/internal/schema"
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

// clusterSpace is where a cluster's addresses usually are: private (RFC 1918),
// shared (RFC 6598), unique local (RFC 4193) and link-local space.
var clusterSpace = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("fc00::/7"),
	netip.MustParsePrefix("fe80::/10"),
}

// isClusterSpace tells whether a reverse name is one of an address that may
// well be the cluster's. Its names are nobody else's business.
func isClusterSpace(name string) bool {
	p, ok := schema.ParseReverse(name)
	return ok && slices.ContainsFunc(clusterSpace, func(c netip.Prefix) bool { return c.Overlaps(p) && p.Bits() >= c.Bits() })
}
