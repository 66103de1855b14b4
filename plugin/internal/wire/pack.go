// Package wire packs DNS messages as a cluster's answers are, in a fraction of
// the time that dns.Msg.Pack takes.
package wire

import (
	"encoding/binary"
	"net"
	"strings"

	"github.com/miekg/dns"
)

// Pack packs a message as m.PackBuffer does, octet by octet, if it has one of
// the common shapes: records of the types that a cluster's names have, with
// names that need no escapes. It needs neither a map nor the message's length in
// advance. It returns false if it leaves the message to m.PackBuffer, as every
// one that is not valid or is to be signed. What it returns is in buffer if that
// is large enough. It keeps nothing of m and, as m.PackBuffer, changes nothing
// of it but the OPT record's part of the rcode.
func Pack(m *dns.Msg, buffer []byte) ([]byte, bool) {
	opt, ok := lastOPT(m)
	if !ok || m.Rcode < 0 || m.Rcode > 0xFFF || opt == nil && m.Rcode > 0xF {
		return nil, false
	}
	p := packer{message: buffer[:0]}
	p.compress = m.Compress && (len(m.Question) > 1 || len(m.Answer)+len(m.Ns)+len(m.Extra) > 0)
	p.header(m)
	for i := range m.Question {
		q := &m.Question[i]
		if !p.name(q.Name, pointed) {
			return nil, false
		}
		p.uint16(q.Qtype)
		p.uint16(q.Qclass)
	}
	if opt != nil {
		opt.SetExtendedRcode(uint16(m.Rcode))
	}
	for _, section := range [...][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if !p.record(rr) {
				return nil, false
			}
		}
	}
	return p.message, true
}

// lastOPT returns the OPT record that has the upper part of the rcode, or nil if
// there is none. It returns false if there is something else of that type.
func lastOPT(m *dns.Msg) (*dns.OPT, bool) {
	for i := len(m.Extra) - 1; i >= 0; i-- {
		if m.Extra[i] == nil {
			return nil, false
		}
		if m.Extra[i].Header().Rrtype == dns.TypeOPT {
			opt, ok := m.Extra[i].(*dns.OPT)
			return opt, ok
		}
	}
	return nil, true
}

const maxName = 254 // octets of a name in text, with its final dot: 255 on the wire (RFC 1035 section 2.3.4)

// mostSuffixes is how many names and ends of names a message may have to be of a
// common shape. They are looked through one by one.
const mostSuffixes = 48

// A packer is a message that is being packed.
type packer struct {
	message  []byte
	compress bool

	// The ends of names that pointers may lead to, and where they are (RFC 1035
	// section 4.1.4).
	suffixes [mostSuffixes]string
	offsets  [mostSuffixes]uint16
	count    int
}

func (p *packer) uint16(n uint16) { p.message = binary.BigEndian.AppendUint16(p.message, n) }
func (p *packer) uint32(n uint32) { p.message = binary.BigEndian.AppendUint32(p.message, n) }

// header packs the fixed part (RFC 1035 section 4.1.1, RFC 4035 section 3).
func (p *packer) header(m *dns.Msg) {
	bits := uint16(m.Opcode)<<11 | uint16(m.Rcode&0xF)
	for _, flag := range [...]struct {
		set bool
		bit uint16
	}{
		{m.Response, 1 << 15}, {m.Authoritative, 1 << 10}, {m.Truncated, 1 << 9}, {m.RecursionDesired, 1 << 8},
		{m.RecursionAvailable, 1 << 7}, {m.Zero, 1 << 6}, {m.AuthenticatedData, 1 << 5}, {m.CheckingDisabled, 1 << 4},
	} {
		if flag.set {
			bits |= flag.bit
		}
	}
	p.uint16(m.Id)
	p.uint16(bits)
	p.uint16(uint16(len(m.Question)))
	p.uint16(uint16(len(m.Answer)))
	p.uint16(uint16(len(m.Ns)))
	p.uint16(uint16(len(m.Extra)))
}

// record packs a record, if it is of a type that is common.
func (p *packer) record(rr dns.RR) bool {
	if rr == nil {
		return false
	}
	h := rr.Header()
	if !p.name(h.Name, pointed) {
		return false
	}
	p.message = append(p.message, byte(h.Rrtype>>8), byte(h.Rrtype), byte(h.Class>>8), byte(h.Class),
		byte(h.Ttl>>24), byte(h.Ttl>>16), byte(h.Ttl>>8), byte(h.Ttl), 0, 0)
	start := len(p.message)
	if !p.rdata(rr) {
		return false
	}
	size := len(p.message) - start
	binary.BigEndian.PutUint16(p.message[start-2:], uint16(size))
	return size <= 0xFFFF
}

func (p *packer) rdata(rr dns.RR) bool {
	switch rr := rr.(type) {
	case *dns.A:
		a := rr.A.To4()
		p.message = append(p.message, a...)
		return a != nil
	case *dns.AAAA:
		p.message = append(p.message, rr.AAAA...)
		return len(rr.AAAA) == net.IPv6len
	case *dns.CNAME:
		return p.name(rr.Target, pointed)
	case *dns.PTR:
		return p.name(rr.Ptr, pointed)
	case *dns.NS:
		return p.name(rr.Ns, pointed)
	case *dns.SRV:
		p.uint16(rr.Priority)
		p.uint16(rr.Weight)
		p.uint16(rr.Port)
		return p.name(rr.Target, whole) // RFC 2782
	case *dns.SOA:
		if !p.name(rr.Ns, pointed) || !p.name(rr.Mbox, pointed) {
			return false
		}
		for _, n := range [...]uint32{rr.Serial, rr.Refresh, rr.Retry, rr.Expire, rr.Minttl} {
			p.uint32(n)
		}
		return true
	case *dns.OPT:
		return p.options(rr.Option)
	}
	return false
}

// options packs those of an OPT record, if they are only such as servers send.
func (p *packer) options(options []dns.EDNS0) bool {
	for _, o := range options {
		ede, ok := o.(*dns.EDNS0_EDE)
		if !ok {
			return false
		}
		p.uint16(dns.EDNS0EDE)
		p.uint16(uint16(2 + len(ede.ExtraText)))
		p.uint16(ede.InfoCode)
		p.message = append(p.message, ede.ExtraText...)
	}
	return true
}

// A nameForm says if a name may end in a pointer.
type nameForm int

const (
	pointed nameForm = iota // it may, if the message is compressed
	whole
)

// name packs a name. If the message is compressed, pointers may lead to its ends
// later.
func (p *packer) name(name string, form nameForm) bool {
	if name == "." {
		p.message = append(p.message, 0)
		return true
	}
	if len(name) > maxName {
		return false
	}
	for len(name) > 0 {
		if p.compress {
			if offset, ok := p.find(name); ok {
				if form == pointed {
					p.uint16(0xC000 | offset)
					return true
				}
			} else if offset := len(p.message); offset < 1<<14 {
				if p.count == mostSuffixes {
					return false
				}
				p.suffixes[p.count], p.offsets[p.count] = name, uint16(offset)
				p.count++
			}
		}
		dot := strings.IndexByte(name, '.')
		if dot <= 0 || dot > 63 { // no fully qualified name, or an empty or too long label
			return false
		}
		p.message = append(p.message, byte(dot))
		start := len(p.message)
		p.message = append(p.message, name[:dot]...)
		for _, c := range p.message[start:] {
			if c == '\\' {
				return false
			}
		}
		name = name[dot+1:]
		if name == "" {
			p.message = append(p.message, 0)
			return true
		}
	}
	return false // an empty name, which has no root
}

// find returns where the end of a name is.
func (p *packer) find(suffix string) (offset uint16, ok bool) {
	for i := range p.count {
		if p.suffixes[i] == suffix {
			return p.offsets[i], true
		}
	}
	return 0, false
}
