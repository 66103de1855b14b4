package kubezone

import (
	"context"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/request"
	"github.com/kubezone/kubezone/plugin/internal/schema"

	"github.com/miekg/dns"
)

// maxUDPSize is the largest reply that is sent over UDP, in octets: what passes
// every link without fragments, as DNS flag day 2020 settled it.
const maxUDPSize = 1232

const (
	headerSize = 12
	optSize    = 11 // of an OPT record without options (RFC 6891 section 6.1.2)
)

// room is what answer and additional section may take of a reply.
func room(state *request.Request) int {
	r := state.Req
	n := state.Size() - headerSize - (len(r.Question[0].Name) + 1 + 4)
	if r.IsEdns0() != nil {
		n -= optSize
	}
	return max(n, 0)
}

// A reply is a message with its question in one allocation.
type reply struct {
	dns.Msg
	question [1]dns.Question
}

// newReply begins an answer to r, without the AA bit.
func newReply(r *dns.Msg) *dns.Msg {
	m := new(reply)
	m.Id = r.Id
	m.Response = true
	m.Opcode = r.Opcode
	m.RecursionDesired = r.RecursionDesired
	m.CheckingDisabled = r.CheckingDisabled
	m.question[0] = r.Question[0]
	m.Question = m.question[:]
	return &m.Msg
}

// write sends what a question came to.
func (k *Kubezone) write(q *query, a schema.Answer) (int, error) {
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
	addOPT(m, q.state.Req, k.explanation(q.state.Req, a))
	return k.send(q, m)
}

// send writes a message that has its OPT record already, if it is to have one.
// A client that is gone is no breakage of ours.
func (k *Kubezone) send(q *query, m *dns.Msg) (int, error) {
	_ = q.state.W.WriteMsg(m)
	return dns.RcodeSuccess, nil // written
}

// authority is that of a negative answer.
func (q *query) authority() []dns.RR {
	one := new(struct {
		soa dns.SOA
		rrs [1]dns.RR
	})
	one.soa = q.zone.schema.SOA(q.apex)
	one.rrs[0] = &one.soa
	return one.rrs[:]
}

// explanation is the Extended DNS Error (RFC 8914) of a negative answer, or nil
// if the client cannot be told.
func (k *Kubezone) explanation(r *dns.Msg, a schema.Answer) *dns.EDNS0_EDE {
	if k.explain == explainOff || r.IsEdns0() == nil {
		return nil
	}
	switch a.Outcome {
	case schema.NotSynced:
		return &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeNotReady, ExtraText: a.Reason.Text()}
	case schema.NameError, schema.NoData:
		return &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeOther, ExtraText: a.Reason.Text()}
	}
	return nil
}

// addOPT gives the reply an OPT record of its own if the request has one (RFC
// 6891 section 6.1.1): the server's payload size, the DO bit of the request, no
// option but the explanation, which may be nil.
func addOPT(m, r *dns.Msg, explanation *dns.EDNS0_EDE) {
	asked := r.IsEdns0()
	if asked == nil {
		return
	}
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	opt.SetUDPSize(asked.UDPSize())
	opt.SetDo(asked.Do())
	if explanation != nil {
		opt.Option = []dns.EDNS0{explanation}
	}
	m.Extra = append(m.Extra, opt)
}

// limitSize lowers the payload size of a request to maxUDPSize. The server's
// writer and this plugin both go by it.
func limitSize(r *dns.Msg) {
	if opt := r.IsEdns0(); opt != nil && opt.UDPSize() > maxUDPSize {
		opt.SetUDPSize(maxUDPSize)
	}
}

// A gate stands at the front of the plugin chain, because the plugins between
// work on a copy of the request, while the server's writer goes by the original.
type gate struct {
	plugin.Handler // the next
	kubezone       *Kubezone
}

// ServeDNS limits the size of replies in our zones, and refuses a second OPT
// record (RFC 6891 section 6.1.1).
func (g gate) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if len(r.Extra) == 0 || g.kubezone.zoneOf(lower(r.Question[0].Name)) == nil {
		return g.Handler.ServeDNS(ctx, w, r)
	}
	opts := 0
	for _, rr := range r.Extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			opts++
		}
	}
	if opts > 1 {
		return dns.RcodeFormatError, nil
	}
	limitSize(r)
	return g.Handler.ServeDNS(ctx, w, r)
}
