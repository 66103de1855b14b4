// Package respond is what plugins that answer from the schema have in common
// between a query and its reply: zones, refusals, fallthrough, sizes, EDNS,
// Extended DNS Errors, the targets of aliases, and zone transfers.
package respond

import (
	"context"
	"net/netip"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/fall"
	"github.com/coredns/coredns/request"
	"github.com/kubezone/kubezone/plugin/internal/schema"

	"github.com/miekg/dns"
)

// A Responder is a plugin.Handler that serves zones. It is safe for concurrent
// use once its fields are set, and must not be copied then.
type Responder struct {
	Next      plugin.Handler
	Directive string // the plugin's name
	Zones     Zones
	Fall      fall.F         // where names that do not exist go on to the next plugin
	Own       []netip.Prefix // addresses whose reverse names never do
	Objects   Objects
	Explain   Explain
	AliasCode AliasCode
	Lookup    Lookup
	Count     func(schema.Outcome, schema.Reason) // called for each answer, if set

	inFlight chases
}

// Objects are what answers are made of.
type Objects interface {
	// Complete tells whether all is known that answers depend on.
	Complete() bool
	// Stale tells whether what is known may be out of date.
	Stale() bool
	// ServiceCIDRs are where Services have their addresses, as far as is known
	// before the objects are.
	ServiceCIDRs() []netip.Prefix
}

// Explain says whether negative answers carry an Extended DNS Error.
type Explain uint8

const (
	ExplainReason Explain = iota
	ExplainOff
)

// Name is the directive that set the plugin up.
func (r *Responder) Name() string { return r.Directive }

// ServeDNS implements plugin.Handler.
func (r *Responder) ServeDNS(ctx context.Context, w dns.ResponseWriter, m *dns.Msg) (int, error) {
	q := query{ctx: ctx, state: request.Request{W: w, Req: m}, qname: m.Question[0].Name, qtype: m.Question[0].Qtype}
	q.name = lower(q.qname)
	if q.zone = r.Zones.Find(q.name); q.zone == nil {
		return plugin.NextOrFailure(r.Directive, r.Next, ctx, w, m)
	}
	q.apex = q.qname[len(q.qname)-len(q.zone.Name):]
	limitSize(m)
	switch {
	case m.Question[0].Qclass != dns.ClassINET:
		return dns.RcodeRefused, nil
	case m.Opcode != dns.OpcodeQuery:
		return dns.RcodeNotImplemented, nil
	case q.qtype == dns.TypeAXFR || q.qtype == dns.TypeIXFR:
		return r.refuseTransfer(&q)
	}
	a := q.answer()
	if r.Count != nil {
		r.Count(a.Outcome, a.Reason)
	}
	return r.respond(&q, a)
}

// respond replies with what a query came to, or leaves it to the next plugin.
func (r *Responder) respond(q *query, a schema.Answer) (int, error) {
	switch {
	case a.Outcome == schema.NotSynced && r.mayNotReply(q):
		return dns.RcodeServerFailure, nil
	case r.passes(q, a):
		return plugin.NextOrFailure(r.Directive, r.Next, q.ctx, q.state.W, q.state.Req)
	case a.Outcome == schema.Alias:
		return r.follow(q, a)
	}
	return r.write(q, a)
}

// mayNotReply tells whether what is not known yet may neither be said, as a
// cache would keep a SERVFAIL that is written, nor asked of the next plugin.
func (r *Responder) mayNotReply(q *query) bool {
	if q.zone.Reverse {
		return isIn(q.name, ClusterSpace) || isIn(q.name, r.Own) || isIn(q.name, r.Objects.ServiceCIDRs()) || !r.Fall.Through(q.name)
	}
	return q.zone.Cached
}

// passes tells whether the query goes on to the next plugin. In a reverse zone
// so does one for a name that is there for those below it alone, and one whose
// answer is not known yet; in an external zone, one for a Service that is there
// for its endpoints alone.
func (r *Responder) passes(q *query, a schema.Answer) bool {
	absent := a.Outcome == schema.NameError || a.Reason == schema.OnlyEndpoints
	if q.zone.Reverse {
		if isIn(q.name, r.Own) {
			return false
		}
		branch := a.Reason == schema.OnlyBranch && q.name != q.zone.Name
		absent = absent || branch || a.Outcome == schema.NotSynced
	}
	return absent && r.Fall.Through(q.name)
}

// CacheBypassZones implements cache.ZoneBypasser: answers in forward zones
// without fallthrough are always fresh, and keep their Extended DNS Errors,
// which the cache plugin strips.
func (r *Responder) CacheBypassZones() []string {
	var names []string
	for _, z := range r.Zones {
		if !z.Reverse && !z.Cached {
			names = append(names, z.Name)
		}
	}
	return names
}

// write sends what a question came to.
func (r *Responder) write(q *query, a schema.Answer) (int, error) {
	m := newReply(q.state.Req)
	m.Authoritative = a.Outcome != schema.NotSynced
	m.Answer, m.Extra, m.Truncated = a.Records, a.Extra, a.Truncated
	switch a.Outcome {
	case schema.NameError:
		m.Rcode = dns.RcodeNameError
		m.Ns = q.authority()
	case schema.NoData:
		m.Ns = q.authority()
	case schema.NotSynced:
		m.Rcode = dns.RcodeServerFailure
	}
	addOPT(m, q.state.Req, r.explanation(q.state.Req, a))
	return send(q, m)
}

// authority is that of a negative answer in the zone.
func (q *query) authority() []dns.RR {
	one := new(struct {
		soa dns.SOA
		rrs [1]dns.RR
	})
	one.soa = q.zone.Schema.SOA(q.apex)
	one.rrs[0] = &one.soa
	return one.rrs[:]
}

// explanation is the Extended DNS Error (RFC 8914) of a negative answer, or of
// one that may be out of date; nil if there is nothing to say, or the client
// cannot be told.
func (r *Responder) explanation(req *dns.Msg, a schema.Answer) *dns.EDNS0_EDE {
	if r.Explain == ExplainOff || req.IsEdns0() == nil {
		return nil
	}
	if a.Outcome != schema.NotSynced && r.Objects.Stale() {
		return stale(a)
	}
	switch a.Outcome {
	case schema.NotSynced:
		return &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeNotReady, ExtraText: a.Reason.Text()}
	case schema.NameError, schema.NoData:
		return &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeOther, ExtraText: a.Reason.Text()}
	}
	return nil
}

// stale marks an answer of which the API server may know better by now.
func stale(a schema.Answer) *dns.EDNS0_EDE {
	const text = "the API server is away, this is the last that was known"
	switch a.Outcome {
	case schema.NameError:
		return &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeStaleNXDOMAINAnswer, ExtraText: a.Reason.Text() + "; " + text}
	case schema.NoData:
		return &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeStaleAnswer, ExtraText: a.Reason.Text() + "; " + text}
	}
	return &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeStaleAnswer, ExtraText: text}
}
