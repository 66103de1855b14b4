package respond

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/request"
	"github.com/kubezone/kubezone/plugin/internal/schema"

	"github.com/miekg/dns"
)

const (
	// maxChain is how many lookups one query may cause here, through aliases
	// that lead back to us by whatever plugin.
	maxChain = 8
	// maxChases is how many lookups of one target and type may be under way.
	// A loop over the network begins anew with every turn; this ends it.
	maxChases = 100
)

// A Lookup resolves a name through the server's own chain of plugins.
type Lookup interface {
	Lookup(ctx context.Context, state request.Request, name string, qtype uint16) (*dns.Msg, error)
}

// An AliasCode says which rcode goes with a CNAME whose target was looked up.
type AliasCode uint8

const (
	TargetCode  AliasCode = iota // the target's (RFC 6604 section 3)
	NoErrorCode                  // always NOERROR, as the stock plugins do
)

// follow answers for an alias: its CNAME, and what the target comes to. The
// rcode and the SOA are those of the last name (RFC 6604 section 3, RFC 2308
// section 2).
func (r *Responder) follow(q *query, a schema.Answer) (int, error) {
	m := newReply(q.state.Req)
	m.Authoritative = true
	m.Answer = a.Records
	var explanation *dns.EDNS0_EDE
	if q.state.Req.RecursionDesired {
		explanation = r.chase(q, m)
	}
	if r.Explain == ExplainOff {
		explanation = nil
	}
	addOPT(m, q.state.Req, explanation)
	return send(q, m)
}

// chase adds to m what its alias leads to. If the chain refuses or says
// nothing, the alias stays alone.
func (r *Responder) chase(q *query, m *dns.Msg) *dns.EDNS0_EDE {
	target := m.Answer[0].(*dns.CNAME).Target
	depth, _ := q.ctx.Value(dnsserver.LoopKey{}).(int)
	if depth >= maxChain {
		m.Rcode = dns.RcodeServerFailure
		return &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeOther, ExtraText: "the chain of aliases is too long, or a loop"}
	}
	if !r.inFlight.begin(target, q.qtype) {
		m.Rcode = dns.RcodeServerFailure
		return &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeOther, ExtraText: "too many lookups of the external name are under way"}
	}
	defer r.inFlight.end(target, q.qtype)

	ctx := context.WithValue(q.ctx, dnsserver.LoopKey{}, depth+1)
	found, err := r.Lookup.Lookup(ctx, q.state, target, q.qtype)
	if err != nil || found == nil || found.Rcode == dns.RcodeRefused {
		return nil
	}
	return r.adopt(m, found)
}

// adopt takes over the answer for the target.
func (r *Responder) adopt(m, found *dns.Msg) *dns.EDNS0_EDE {
	for _, rr := range found.Answer {
		if !slices.ContainsFunc(m.Answer, func(have dns.RR) bool { return dns.IsDuplicate(have, rr) }) {
			m.Answer = append(m.Answer, rr)
		}
	}
	m.Truncated = found.Truncated
	var explanation *dns.EDNS0_EDE
	switch {
	case loops(m.Answer): // which a plugin on the way may have made NOERROR
		m.Rcode = dns.RcodeServerFailure
		explanation = &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeOther, ExtraText: "the chain of aliases is a loop"}
	case found.Rcode == dns.RcodeSuccess, found.Rcode == dns.RcodeNameError:
		m.Rcode = found.Rcode
	default:
		m.Rcode = dns.RcodeServerFailure
		explanation = &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeNoReachableAuthority, ExtraText: "no answer for the external name"}
	}
	if m.Rcode != dns.RcodeServerFailure {
		m.Ns = soaOf(found)
	}
	if r.AliasCode == NoErrorCode && m.Rcode != dns.RcodeSuccess {
		m.Rcode, m.Ns, m.Answer = dns.RcodeSuccess, nil, m.Answer[:1]
	}
	return explanation
}

// loops tells whether the aliases, followed from the first record on, lead back
// to one of them.
func loops(rrs []dns.RR) bool {
	targets := map[string]string{}
	for _, rr := range rrs {
		if alias, ok := rr.(*dns.CNAME); ok {
			targets[strings.ToLower(alias.Hdr.Name)] = strings.ToLower(alias.Target)
		}
	}
	name := strings.ToLower(rrs[0].Header().Name)
	for range targets {
		name = targets[name] // "" at the end of the chain
	}
	return targets[name] != ""
}

// soaOf is the SOA of a negative answer, if it has one, alone. A positive
// answer needs none.
func soaOf(m *dns.Msg) []dns.RR {
	for _, rr := range m.Ns {
		if rr.Header().Rrtype == dns.TypeSOA {
			return []dns.RR{rr}
		}
	}
	return nil
}

// chases counts the lookups of aliases' targets that are under way. The zero
// value is ready; it is safe for concurrent use.
type chases struct {
	mu    sync.Mutex // guards count
	count map[chase]int
}

type chase struct {
	target string
	qtype  uint16
}

func newChase(target string, qtype uint16) chase { return chase{strings.ToLower(target), qtype} }

// begin reports whether one more may be under way; if so, end must follow.
func (c *chases) begin(target string, qtype uint16) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count == nil {
		c.count = map[chase]int{}
	}
	key := newChase(target, qtype)
	if c.count[key] >= maxChases {
		return false
	}
	c.count[key]++
	return true
}

func (c *chases) end(target string, qtype uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := newChase(target, qtype)
	if c.count[key]--; c.count[key] == 0 {
		delete(c.count, key)
	}
}
