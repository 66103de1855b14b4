//go:build linux

package udpbatch

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// A query is a message of the most common shape, with what it consists of.
type query struct {
	dns.Msg
	question [1]dns.Question
	extra    [1]dns.RR
	opt      dns.OPT
}

const (
	plainOPTSize = 11 // a root, type, class, TTL and a length of 0

	mostName = 254 // octets of a name's labels with their lengths: one less than with the root (RFC 1035 section 2.3.4)
)

// unpackQuery unpacks a message as dns.Msg.Unpack does, but in two allocations,
// if it has one question for a name without special characters, and nothing but
// perhaps an OPT record without options. It returns nil if it leaves the message
// to dns.Msg.Unpack.
func unpackQuery(packet []byte) *dns.Msg {
	if len(packet) < headerSize ||
		binary.BigEndian.Uint64(packet[4:])&^1 != 1<<48 { // one question, no other record but at most one additional
		return nil
	}
	extra := packet[11]
	var buffer [mostName]byte
	name, rest, ok := plainName(buffer[:0], packet[headerSize:])
	if !ok || len(rest) != 4+int(extra)*plainOPTSize {
		return nil
	}
	bits := binary.BigEndian.Uint16(packet[2:])
	q := new(query)
	q.MsgHdr = dns.MsgHdr{
		Id:                 binary.BigEndian.Uint16(packet),
		Response:           bits&(1<<15) != 0,
		Opcode:             int(bits>>11) & 0xF,
		Authoritative:      bits&(1<<10) != 0,
		Truncated:          bits&(1<<9) != 0,
		RecursionDesired:   bits&(1<<8) != 0,
		RecursionAvailable: bits&(1<<7) != 0,
		Zero:               bits&(1<<6) != 0,
		AuthenticatedData:  bits&(1<<5) != 0,
		CheckingDisabled:   bits&(1<<4) != 0,
		Rcode:              int(bits & 0xF),
	}
	q.question[0] = dns.Question{
		Name:   string(name),
		Qtype:  binary.BigEndian.Uint16(rest),
		Qclass: binary.BigEndian.Uint16(rest[2:]),
	}
	q.Question = q.question[:]
	if extra == 0 {
		return &q.Msg
	}
	rr := rest[4:]
	if rr[0] != 0 || binary.BigEndian.Uint16(rr[1:]) != dns.TypeOPT || binary.BigEndian.Uint16(rr[9:]) != 0 {
		return nil
	}
	q.opt.Hdr = dns.RR_Header{
		Name:   ".",
		Rrtype: dns.TypeOPT,
		Class:  binary.BigEndian.Uint16(rr[3:]),
		Ttl:    binary.BigEndian.Uint32(rr[5:]),
	}
	q.extra[0] = &q.opt
	q.Extra = q.extra[:]
	q.Rcode |= q.opt.ExtendedRcode()
	return &q.Msg
}

// plainName appends the name at the start of packet to text, if it has neither
// pointers nor characters that have to be escaped. It returns what follows the
// name, too.
func plainName(text, packet []byte) (name, rest []byte, ok bool) {
	for len(packet) > 0 {
		size := int(packet[0])
		packet = packet[1:]
		if size == 0 {
			if len(text) == 0 {
				text = append(text, '.')
			}
			return text, packet, true
		}
		if size > 63 || size > len(packet) || len(text)+size+1 > mostName {
			return nil, nil, false
		}
		for _, c := range packet[:size] {
			if !plain[c] {
				return nil, nil, false
			}
		}
		text = append(append(text, packet[:size]...), '.')
		packet = packet[size:]
	}
	return nil, nil, false
}

// plain are the characters of host names, and the underscore.
var plain = func() (is [256]bool) {
	for _, c := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_" {
		is[c] = true
	}
	return is
}()
