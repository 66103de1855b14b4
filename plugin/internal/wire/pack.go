// Package wire packs DNS messages as answers about a cluster have them: short,
// with one question, and with most names the question's own. For these it takes
// a fraction of the time that dns.Msg.Pack needs.
package wire

import (
	"encoding/binary"
	"net"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

const (
	headerSize   = 12
	maxName      = 254    // octets of a name in text, with its final dot: 255 on the wire
	maxLabel     = 63     // octets
	mostPointers = 0x3fff // where a pointer can lead to
	mostNames    = 8      // that pointers lead to; later ones are as a rule like one of the first
)

// Pack returns the message in wire format, in the array of buf as far as there
// is room. Names are compressed (RFC 1035 section 4.1.4). ok is false for a
// message that needs dns.Msg.Pack: one that has not exactly one question, that is
// to be signed, that has an extended rcode, a name with escapes or a name or a
// record that is not valid. Pack does not change the message and keeps nothing
// of it.
func Pack(m *dns.Msg, buf []byte) (packed []byte, ok bool) {
	if len(m.Question) != 1 || m.Rcode < 0 || m.Rcode > 0xf {
		return nil, false
	}
	p := packer{b: append(buf[:0], make([]byte, headerSize)...)}
	p.header(m)
	q := &m.Question[0]
	if !p.name(q.Name, compressed) {
		return nil, false
	}
	p.b = binary.BigEndian.AppendUint16(p.b, q.Qtype)
	p.b = binary.BigEndian.AppendUint16(p.b, q.Qclass)
	for _, section := range [...][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if rr == nil || !p.record(rr) {
				return nil, false
			}
		}
	}
	return p.b, true
}

// A packer appends to a message.
type packer struct {
	b     []byte
	names [mostNames]knownName
	known int
}

// A knownName is one that is in the message.
type knownName struct {
	text  string
	at    int // where it begins
	whole int // octets of the text that are there in full; a pointer stands for the rest
}

// The bits of a header (RFC 1035 section 4.1.1, RFC 2535 section 6.1).
const (
	bitQR = 1 << 15
	bitAA = 1 << 10
	bitTC = 1 << 9
	bitRD = 1 << 8
	bitRA = 1 << 7
	bitZ  = 1 << 6
	bitAD = 1 << 5
	bitCD = 1 << 4
)

func (p *packer) header(m *dns.Msg) {
	bits := uint16(m.Opcode)<<11 | uint16(m.Rcode)
	for _, f := range [...]struct {
		set bool
		bit uint16
	}{
		{m.Response, bitQR}, {m.Authoritative, bitAA}, {m.Truncated, bitTC}, {m.RecursionDesired, bitRD},
		{m.RecursionAvailable, bitRA}, {m.Zero, bitZ}, {m.AuthenticatedData, bitAD}, {m.CheckingDisabled, bitCD},
	} {
		if f.set {
			bits |= f.bit
		}
	}
	for i, n := range [...]uint16{m.Id, bits, uint16(len(m.Question)), uint16(len(m.Answer)), uint16(len(m.Ns)), uint16(len(m.Extra))} {
		binary.BigEndian.PutUint16(p.b[2*i:], n)
	}
}

func (p *packer) record(rr dns.RR) bool {
	switch rr := rr.(type) {
	case *dns.A:
		octets := rr.A.To4()
		return octets != nil && p.owner(&rr.Hdr, net.IPv4len) && p.octets(octets)
	case *dns.AAAA:
		return len(rr.AAAA) == net.IPv6len && p.owner(&rr.Hdr, net.IPv6len) && p.octets(rr.AAAA)
	case *dns.CNAME:
		return p.named(&rr.Hdr, rr.Target)
	case *dns.NS:
		return p.named(&rr.Hdr, rr.Ns)
	case *dns.PTR:
		return p.named(&rr.Hdr, rr.Ptr)
	case *dns.SOA:
		return p.soa(rr)
	case *dns.SRV:
		return p.srv(rr)
	case *dns.TSIG:
		return false
	}
	return p.other(rr)
}

func (p *packer) octets(b []byte) bool {
	p.b = append(p.b, b...)
	return true
}

// owner appends what a record begins with; its data has so many octets.
func (p *packer) owner(h *dns.RR_Header, length int) bool {
	if !p.name(h.Name, compressed) {
		return false
	}
	p.b = binary.BigEndian.AppendUint16(p.b, h.Rrtype)
	p.b = binary.BigEndian.AppendUint16(p.b, h.Class)
	p.b = binary.BigEndian.AppendUint32(p.b, h.Ttl)
	p.b = binary.BigEndian.AppendUint16(p.b, uint16(length))
	return true
}

// named appends a record whose data is a name.
func (p *packer) named(h *dns.RR_Header, name string) bool {
	from, ok := p.begin(h)
	return ok && p.name(name, compressed) && p.end(from)
}

func (p *packer) soa(rr *dns.SOA) bool {
	from, ok := p.begin(&rr.Hdr)
	if !ok || !p.name(rr.Ns, compressed) || !p.name(rr.Mbox, compressed) {
		return false
	}
	for _, n := range [...]uint32{rr.Serial, rr.Refresh, rr.Retry, rr.Expire, rr.Minttl} {
		p.b = binary.BigEndian.AppendUint32(p.b, n)
	}
	return p.end(from)
}

func (p *packer) srv(rr *dns.SRV) bool {
	from, ok := p.begin(&rr.Hdr)
	for _, n := range [...]uint16{rr.Priority, rr.Weight, rr.Port} {
		p.b = binary.BigEndian.AppendUint16(p.b, n)
	}
	return ok && p.name(rr.Target, full) && p.end(from) // RFC 2782
}

// begin is owner for a record whose data ends where end is called.
func (p *packer) begin(h *dns.RR_Header) (from int, ok bool) {
	ok = p.owner(h, 0)
	return len(p.b), ok
}

func (p *packer) end(from int) bool {
	binary.BigEndian.PutUint16(p.b[from-2:], uint16(len(p.b)-from))
	return true
}

// other appends a record of a type that is rare here, with its names in full.
func (p *packer) other(rr dns.RR) bool {
	from := len(p.b)
	p.b = slices.Grow(p.b, dns.Len(rr)+1)
	end, err := dns.PackRR(rr, p.b[:cap(p.b)], from, nil, false)
	if err != nil {
		return false
	}
	p.b = p.b[:end]
	return true
}

// A form says whether a name may end in a pointer.
type form uint8

const (
	compressed form = iota
	full
)

// name appends a fully qualified name, and reports whether that can be done
// here.
func (p *packer) name(s string, f form) bool {
	if s == "." {
		p.b = append(p.b, 0)
		return true
	}
	whole, pointer := len(s), 0
	if f == compressed {
		whole, pointer = p.find(s)
	}
	if pointer == 0 && whole == 0 || whole > 0 && !p.labels(s, whole) {
		return false
	}
	if pointer > 0 {
		p.b = binary.BigEndian.AppendUint16(p.b, 0xc000|uint16(pointer))
	} else {
		p.b = append(p.b, 0)
	}
	return true
}

// find is how much of the name has to be there in full, and what the pointer
// after it leads to, 0 for none.
func (p *packer) find(s string) (whole, pointer int) {
	whole = len(s)
	for i := range p.names[:p.known] {
		k := &p.names[i]
		if s == k.text {
			if k.whole > 0 {
				return 0, k.at
			}
			continue
		}
		// Text and wire format have the same offsets, as each label has its dot
		// in the one and its length in the other.
		common := commonSuffix(s, k.text)
		if at := len(k.text) - common; common > 0 && at < k.whole && len(s)-common < whole && k.at+at <= mostPointers {
			whole, pointer = len(s)-common, k.at+at
		}
	}
	return whole, pointer
}

// commonSuffix is how many octets at the end of two names are whole labels that
// both have.
func commonSuffix(a, b string) int {
	n, common := 1, 0 // both end in a dot
	for n <= len(a) && n <= len(b) && a[len(a)-n] == b[len(b)-n] {
		if n > 1 && a[len(a)-n] == '.' {
			common = n - 1
		}
		n++
	}
	n--
	// The labels of the shorter name may end where that begins.
	if n > 1 && (n == len(a) || a[len(a)-n-1] == '.') && (n == len(b) || b[len(b)-n-1] == '.') {
		common = n
	}
	return common
}

// labels appends the first labels of a name, those of so many octets, and makes
// the name known.
func (p *packer) labels(s string, whole int) bool {
	if len(s) > maxName || !strings.HasSuffix(s, ".") || strings.IndexByte(s[:whole], '\\') >= 0 {
		return false
	}
	at := len(p.b)
	p.b = append(p.b, 0)
	p.b = append(p.b, s[:whole-1]...) // the last dot makes room for the first length
	for from := 0; from < whole; {
		length := strings.IndexByte(s[from:whole], '.')
		if length < 1 || length > maxLabel {
			return false
		}
		p.b[at+from] = byte(length)
		from += length + 1
	}
	if p.known < mostNames && at <= mostPointers {
		p.names[p.known] = knownName{s, at, whole}
		p.known++
	}
	return true
}
