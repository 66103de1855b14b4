package respond

import (
	"github.com/coredns/coredns/request"

	"github.com/miekg/dns"
)

// MaxUDPSize is the largest reply that is sent over UDP, in octets: what passes
// every link without fragments, as DNS flag day 2020 settled it.
const MaxUDPSize = 1232

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

// send writes a message that has its OPT record already, if it is to have one.
// A client that is gone is no breakage of ours.
func send(q *query, m *dns.Msg) (int, error) {
	_ = q.state.W.WriteMsg(m)
	return dns.RcodeSuccess, nil // written
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

// limitSize lowers the payload size of a request to MaxUDPSize. The server's
// writer and the plugin both go by it.
func limitSize(r *dns.Msg) {
	if opt := r.IsEdns0(); opt != nil && opt.UDPSize() > MaxUDPSize {
		opt.SetUDPSize(MaxUDPSize)
	}
}
