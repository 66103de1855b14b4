package differential

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// A comparison is one question and both replies to it.
type comparison struct {
	view            view // of the zone that the name is in
	cluster         view // of the cluster's own objects
	block           *block
	question        question
	meaning         meaning
	exists, records bool // whether the name exists, and whether it has any records

	stock  *dns.Msg // empty if there was no reply
	silent bool     // stock did not reply
	ours   *dns.Msg
	want   *dns.Msg // what stock said, nil if nothing, as the table changes it step by step into what we mean to say

	ask func(name string, qtype uint16) (*dns.Msg, error) // asks us, in the way of the question
	err error                                             // of ask
}

// cap is the most octets that we may send in reply.
func (c *comparison) cap() int {
	if c.question.network == "tcp" {
		return dns.MaxMsgSize
	}
	size := dns.MinMsgSize
	if opt := c.question.message.IsEdns0(); opt != nil {
		size = max(size, int(opt.UDPSize()))
	}
	return min(size, 1232)
}

// explain applies the table. It returns the entries that changed something, and an error if the replies differ still.
func (c *comparison) explain() (fired []int, err error) {
	if !c.silent {
		c.want = c.stock.Copy()
	}
	stock := canonical(c.want)
	before, octets := stock, packed(c.want)
	for i := range differences {
		if !differences[i].anywhere && (c.meaning.form == elsewhere || !ordinary(c.question.message)) {
			continue
		}
		if c.want == nil && !differences[i].silent {
			continue
		}
		differences[i].apply(c)
		now := packed(c.want)
		if bytes.Equal(now, octets) { // as nearly always, and soon seen
			continue
		}
		octets = now
		if after := canonical(c.want); after != before {
			fired, before = append(fired, i), after
		}
	}
	if c.err != nil {
		return fired, c.err
	}
	if got := canonical(c.ours); got != before {
		return fired, errors.New(unified(stock, before, got))
	}
	return fired, nil
}

// packed is the message as it is sent.
func packed(m *dns.Msg) []byte {
	if m == nil {
		return nil
	}
	octets, err := m.Pack()
	if err != nil {
		return []byte(canonical(m))
	}
	return octets
}

// ordinary tells whether a message is a query as resolvers send it, which reaches the plugin.
func ordinary(m *dns.Msg) bool {
	opts := 0
	for _, rr := range m.Extra {
		if opt, ok := rr.(*dns.OPT); ok {
			opts++
			if opt.Version() != 0 {
				return false
			}
		}
	}
	return m.Opcode == dns.OpcodeQuery && m.Question[0].Qclass == dns.ClassINET && opts < 2 &&
		m.Question[0].Qtype != dns.TypeAXFR && m.Question[0].Qtype != dns.TypeIXFR
}

// canonical writes a message down so that equal ones are equal: the sections are sorted, and names in rdata and in the
// additional section are in lower case.
func canonical(m *dns.Msg) string {
	if m == nil {
		return "no reply"
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s QR:%t AA:%t TC:%t RD:%t RA:%t AD:%t CD:%t Z:%t %v\n", dns.OpcodeToString[m.Opcode], dns.RcodeToString[m.Rcode&0xf],
		m.Response, m.Authoritative, m.Truncated, m.RecursionDesired, m.RecursionAvailable, m.AuthenticatedData, m.CheckingDisabled, m.Zero, m.Question)
	for _, section := range []struct {
		name string
		rrs  []dns.RR
	}{{"answer", m.Answer}, {"authority", m.Ns}, {"additional", m.Extra}} {
		var lines []string
		for _, rr := range section.rrs {
			lines = append(lines, section.name+" "+line(rr, section.name == "additional"))
		}
		slices.Sort(lines)
		for _, l := range lines {
			text.WriteString(l + "\n")
		}
	}
	return text.String()
}

func line(rr dns.RR, lower bool) string {
	if opt, ok := rr.(*dns.OPT); ok {
		var options []string
		for _, o := range opt.Option {
			options = append(options, fmt.Sprintf("%d=%s", o.Option(), o))
		}
		return fmt.Sprintf("OPT version %d size %d DO:%t Z:%#x rcode %d %v", opt.Version(), opt.UDPSize(), opt.Do(), opt.Z(), opt.ExtendedRcode(), options)
	}
	header := rr.Header().String()
	rdata := strings.TrimPrefix(rr.String(), header)
	if rr.Header().Rrtype != dns.TypeTXT {
		rdata = asciiLower(rdata)
	}
	if lower {
		header = asciiLower(header)
	}
	return header + rdata
}

func unified(stock, want, got string) string {
	return fmt.Sprintf("stock\n%swant\n%sgot\n%s", indent(stock), indent(want), indent(got))
}

func indent(text string) string {
	var out strings.Builder
	for l := range strings.Lines(text) {
		out.WriteString("    " + strings.TrimRight(l, "\n") + "\n")
	}
	return out.String()
}

// header is an empty reply from us, with the OPT record that stock would send.
func (c *comparison) header() *dns.Msg {
	m := new(dns.Msg).SetReply(c.question.message)
	m.Authoritative = true
	if asked := c.question.message.IsEdns0(); asked != nil {
		opt := dns.Copy(asked).(*dns.OPT)
		opt.Hdr.Ttl &= 0xff00
		opt.Option = nil
		m.Extra = []dns.RR{opt}
	}
	return m
}

// answer wants these records.
func (c *comparison) answer(rrs ...dns.RR) {
	c.want = c.header()
	c.want.Answer = rrs
}

// nodata wants the name to exist.
func (c *comparison) nodata() {
	c.want = c.header()
	c.want.Ns = []dns.RR{c.soa()}
}

// nothing wants the name not to exist: NXDOMAIN or what the next plugin says.
func (c *comparison) nothing() {
	name := c.question.name()
	if !c.block.fallsThrough(asciiLower(name)) {
		c.nodata()
		c.want.Rcode = dns.RcodeNameError
		return
	}
	c.want = c.header()
	soa, _ := dns.NewRR(c.nextZone() + ` 77 IN SOA next. next. 1 7200 1800 86400 77`)
	ns, _ := dns.NewRR(c.nextZone() + ` 77 IN NS next.`)
	txt := &dns.TXT{Hdr: dns.RR_Header{Name: asciiLower(name), // as the file plugin spells it
		Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 77}, Txt: []string{"next"}}
	switch {
	case c.belowWildcard():
		c.want.Rcode, c.want.Ns = dns.RcodeNameError, []dns.RR{soa}
	case c.question.qtype() == dns.TypeTXT:
		c.want.Answer, c.want.Ns = []dns.RR{txt}, []dns.RR{ns}
	default:
		c.want.Ns = []dns.RR{soa}
	}
}

// belowWildcard tells whether the name is below the next plugin's wildcard, where there is nothing.
func (c *comparison) belowWildcard() bool {
	wildcard := "*"
	if zone := c.nextZone(); zone != "." {
		wildcard = "*." + zone
	}
	return strings.HasSuffix(asciiLower(c.question.name()), "."+wildcard)
}

// spells tells whether we have all names of an answer in the spelling of the query: wherever a cache or another plugin may
// have given it.
func (c *comparison) spells() bool {
	zone := c.meaning.zone
	return c.meaning.form != elsewhere && (strings.HasSuffix(zone, ".arpa.") || slices.ContainsFunc(c.block.through, func(through string) bool {
		return dns.IsSubDomain(through, zone) || dns.IsSubDomain(zone, through)
	}))
}

// nextZone is the zone of the next plugin that the name is in.
func (c *comparison) nextZone() string {
	for _, zone := range importZones {
		if dns.IsSubDomain(zone, c.question.name()) {
			return zone
		}
	}
	return "."
}

// soa is the zone's, as stock has it; serial and TTLs are differences of their own.
func (c *comparison) soa() *dns.SOA {
	name := c.question.name()
	zone := name[len(name)-len(c.meaning.zone):]
	var serial uint32
	for _, rr := range slices.Concat(c.stock.Answer, c.stock.Ns) {
		if have, ok := rr.(*dns.SOA); ok {
			serial = have.Serial
		}
	}
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: min(c.block.ttl, 300)},
		Ns:  "ns.dns." + zone, Mbox: "hostmaster." + zone, Serial: serial, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: c.block.ttl,
	}
}

// stockNo tells whether stock said that the name does not exist.
func (c *comparison) stockNo() bool {
	return c.stock.Rcode == dns.RcodeNameError || fromNext(c.stock)
}

// stockNodata tells whether stock said that the name exists without records of the type.
func (c *comparison) stockNodata() bool {
	return !c.silent && c.stock.Rcode == dns.RcodeSuccess && len(c.stock.Answer) == 0 && !fromNext(c.stock)
}

// fromNext tells whether the plugin behind ours has answered.
func fromNext(m *dns.Msg) bool {
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		switch rr := rr.(type) {
		case *dns.SOA:
			if rr.Ns == "next." {
				return true
			}
		case *dns.TXT:
			if rr.Txt[0] == "next" {
				return true
			}
		}
	}
	return false
}
