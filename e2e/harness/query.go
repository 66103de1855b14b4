package harness

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const queryTimeout = 5 * time.Second // as long as a resolver waits before its next try

// A Question is what is asked: a name and a type, in the text that DNS people read, and how.
type Question struct {
	Text    string // "kubernetes.default.svc.cluster.local. A"
	Network string // "udp" if empty, or "tcp"
	UDPSize uint16 // of an OPT record; 0 for none
}

// Message is the query itself.
func (q Question) Message(t testing.TB) *dns.Msg {
	t.Helper()
	name, typeName, found := strings.Cut(q.Text, " ")
	qtype, known := dns.StringToType[typeName]
	if !found || !known || !dns.IsFqdn(name) {
		t.Fatalf("question %q: want a full name, a space and a type", q.Text)
	}
	m := new(dns.Msg).SetQuestion(name, qtype)
	if q.UDPSize > 0 {
		m.SetEdns0(q.UDPSize, false)
	}
	return m
}

// Exchange sends a message and returns the reply to it.
func (s *Server) Exchange(m *dns.Msg, network string) (*dns.Msg, error) {
	conn, err := s.dial(network, s.DNS)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	client := &dns.Client{Net: network, Timeout: queryTimeout}
	reply, _, err := client.ExchangeWithConn(m, &dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize})
	return reply, err
}

// Try asks a question and returns the reply if it is well-formed by the rules that hold for every reply.
func (s *Server) Try(t testing.TB, q Question) (*dns.Msg, error) {
	t.Helper()
	if q.Network == "" {
		q.Network = "udp"
	}
	query := q.Message(t)
	reply, err := s.Exchange(query, q.Network)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", q.Text, err)
	}
	if err := wellFormed(query, reply); err != nil {
		return nil, fmt.Errorf("%s: %w\n%v", q.Text, err, reply)
	}
	return reply, nil
}

// Ask is Try for a question without OPT over UDP that must be answered.
func (s *Server) Ask(t testing.TB, text string) *dns.Msg {
	t.Helper()
	reply, err := s.Try(t, Question{Text: text})
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// Expect asks and compares the answer, as Text writes it, with what is wanted.
func (s *Server) Expect(t testing.TB, text, want string) {
	t.Helper()
	if got := Text(s.Ask(t, text)); got != want {
		t.Errorf("%s\n got %s from %s\nwant %s", text, got, s.DNS, want)
	}
}

// ExpectWithin is Expect for an answer that may take a moment to become right.
func (s *Server) ExpectWithin(t testing.TB, within time.Duration, text, want string) {
	t.Helper()
	Eventually(t, within, func() error { return s.Check(t, text, want) })
}

// Check is Expect for a test that does not fail by it.
func (s *Server) Check(t testing.TB, text, want string) error {
	t.Helper()
	reply, err := s.Try(t, Question{Text: text})
	if err != nil {
		return err
	}
	if got := Text(reply); got != want {
		return fmt.Errorf("%s\n got %s from %s\nwant %s", text, got, s.DNS, want)
	}
	return nil
}

// wellFormed checks what every reply must be, whatever was asked.
func wellFormed(query, reply *dns.Msg) error {
	if !reply.Response || len(reply.Question) != 1 || reply.Question[0] != query.Question[0] {
		return fmt.Errorf("the reply's question differs from the query's")
	}
	if query.IsEdns0() == nil && reply.IsEdns0() != nil {
		return fmt.Errorf("OPT in the reply to a query without one")
	}
	if !dns.IsSubDomain(Domain+".", query.Question[0].Name) {
		return nil
	}
	negative := reply.Rcode == dns.RcodeNameError || reply.Rcode == dns.RcodeSuccess && len(reply.Answer) == 0
	soas := 0
	for _, rr := range reply.Ns {
		if rr.Header().Rrtype == dns.TypeSOA {
			soas++
		}
	}
	switch {
	case negative && soas != 1:
		return fmt.Errorf("%d SOA records in a negative answer; want 1", soas)
	case !negative && soas != 0:
		return fmt.Errorf("SOA record in a %s reply with %d records", dns.RcodeToString[reply.Rcode], len(reply.Answer))
	case negative && !reply.Authoritative, len(reply.Answer) > 0 && !reply.Authoritative:
		return fmt.Errorf("AA is not set")
	}
	return nil
}

// Text writes the answer section as "TYPE rdata, TYPE rdata", sorted, or the outcome: NODATA, NXDOMAIN, SERVFAIL. The
// priority and weight of an SRV record are left out: no document says what they are.
func Text(reply *dns.Msg) string {
	if reply.Rcode != dns.RcodeSuccess {
		if len(reply.Answer) == 0 {
			return dns.RcodeToString[reply.Rcode]
		}
		return dns.RcodeToString[reply.Rcode] + " " + records(reply.Answer)
	}
	if len(reply.Answer) == 0 {
		return "NODATA"
	}
	return records(reply.Answer)
}

func records(rrs []dns.RR) string {
	var texts []string
	for _, rr := range rrs {
		rdata := strings.TrimPrefix(rr.String(), rr.Header().String())
		if srv, ok := rr.(*dns.SRV); ok {
			rdata = fmt.Sprintf("%d %s", srv.Port, srv.Target)
		}
		texts = append(texts, dns.TypeToString[rr.Header().Rrtype]+" "+rdata)
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}

// Records writes rdata of one type the way Text does, whatever their order.
func Records(rrtype string, rdata ...string) string {
	texts := make([]string, len(rdata))
	for i, text := range rdata {
		texts[i] = rrtype + " " + text
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}

// Reverse is the name whose PTR records belong to an address.
func Reverse(address string) string {
	name, err := dns.ReverseAddr(address)
	if err != nil {
		return "invalid-address." + Domain + "." // the question then fails the test
	}
	return name
}
