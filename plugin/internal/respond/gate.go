package respond

import (
	"context"
	"slices"
	"strings"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/request"

	"github.com/miekg/dns"
)

// A Gate stands at the front of the plugin chain, because the plugins between
// work on a copy of the request, while the server's writer goes by the original,
// and because some of them answer in a zone's place.
type Gate struct {
	Next  plugin.Handler
	Zones Zones
}

// Name is that of no directive, so that a Gate hides no plugin from those that
// look others up.
func (Gate) Name() string { return "gate" }

// ServeDNS limits the size of replies in the zones, keeps what means nothing out
// of their OPT records, and refuses a second one (RFC 6891 section 6.1.1). Where
// the server's writer is the next, replies are packed here.
func (g Gate) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	q := query{ctx: ctx, state: request.Request{W: w, Req: r}, qname: r.Question[0].Name, qtype: r.Question[0].Qtype}
	q.name = lower(q.qname)
	if q.zone = g.Zones.Find(q.name); q.zone == nil {
		return g.Next.ServeDNS(ctx, w, r)
	}
	if checkOPT(r) > 1 {
		return dns.RcodeFormatError, nil
	}
	limitSize(r)
	if belowZone(&q) && q.state.Proto() == "udp" {
		return notZone(&q) // the transfer plugin would refuse it before it looks at the name
	}
	w = newWriter(w, r)
	if q.zone.Cached || q.zone.Reverse {
		w = &speller{w, q.qname}
	}
	return g.Next.ServeDNS(ctx, w, r)
}

// belowZone tells whether the query is one for a transfer of what is no zone.
func belowZone(q *query) bool {
	transfer := q.qtype == dns.TypeAXFR || q.qtype == dns.TypeIXFR
	return transfer && q.name != q.zone.Name && q.state.Req.Opcode == dns.OpcodeQuery && q.state.QClass() == dns.ClassINET
}

// checkOPT counts the OPT records, and clears what means nothing in them.
func checkOPT(r *dns.Msg) (n int) {
	for _, rr := range r.Extra {
		if opt, ok := rr.(*dns.OPT); ok {
			n++
			clearZ(opt)
		}
	}
	return n
}

// clearZ clears the bits of an OPT record that mean nothing, as a sender must
// (RFC 6891 section 6.1.4): the server's writer puts the client's OPT record
// into a reply that has none, and leaves them set.
func clearZ(opt *dns.OPT) {
	opt.SetZ(0)
	opt.SetCo(false) // one of them, to all but this library
}

// A speller writes replies from a cache, which are in the spelling of whoever
// asked first, in that of the name asked for.
type speller struct {
	dns.ResponseWriter
	name string
}

// WriteMsg implements dns.ResponseWriter. The records may be shared.
func (s *speller) WriteMsg(m *dns.Msg) error {
	m.Answer, m.Ns = s.spell(m.Answer), s.spell(m.Ns)
	return s.ResponseWriter.WriteMsg(m)
}

// spell returns the records with the owner names that end the name, or are it,
// spelled like it.
func (s *speller) spell(rrs []dns.RR) []dns.RR {
	ours := rrs
	for i, rr := range rrs {
		owner := rr.Header().Name
		if len(owner) > len(s.name) {
			continue
		}
		spelling := s.name[len(s.name)-len(owner):]
		if owner == spelling || !strings.EqualFold(owner, spelling) {
			continue
		}
		if &ours[0] == &rrs[0] {
			ours = slices.Clone(rrs)
		}
		ours[i] = dns.Copy(rr)
		ours[i].Header().Name = spelling
	}
	return ours
}
