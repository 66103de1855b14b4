package wirefuzz

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// zones are those of the server under test.
var zones = []string{"cluster.local.", "in-addr.arpa.", "ip6.arpa."}

// maxUDPReply is what a reply in our zones may have, in octets.
const maxUDPReply = 1232

// isAnswered tells whether a message gets a reply at all: a header is the least, and a reply to a response would go in
// circles.
func isAnswered(wire []byte) bool { return len(wire) >= headerSize && wire[2]&(flagQR>>8) == 0 }

// check says what is wrong with the reply to a packet, by what holds for every reply and by what the packet asks for.
// Names outside the zones have the rcode outside.
func (p packet) check(wire []byte, network string, outside int) error {
	if err := wholeMessage(wire); err != nil {
		return fmt.Errorf("a malformed reply: %w", err)
	}
	reply := new(dns.Msg)
	if err := reply.Unpack(wire); err != nil {
		return fmt.Errorf("a malformed reply: %w", err)
	}
	query := new(dns.Msg)
	readable := query.Unpack(p.wire[:min(len(p.wire), readBy(network))]) == nil
	switch {
	case !reply.Response:
		return fmt.Errorf("QR is clear in the reply")
	case p.rcodes != nil && !slices.Contains(p.rcodes, reply.Rcode):
		return fmt.Errorf("%s; want %s", rcodeName(reply.Rcode), rcodeNames(p.rcodes))
	}
	if len(reply.Question) == 0 {
		if p.known.answer != "" {
			return fmt.Errorf("%s without the question, to a valid query", rcodeName(reply.Rcode))
		}
		if reply.Rcode != dns.RcodeFormatError && reply.Rcode != dns.RcodeNotImplemented && len(query.Question) > 0 {
			return fmt.Errorf("%s without the question", rcodeName(reply.Rcode))
		}
		return onlyOPT(reply)
	}
	if len(reply.Question) != 1 || len(query.Question) == 0 || reply.Question[0] != query.Question[0] {
		return fmt.Errorf("the question comes back as %v; want %v", reply.Question, query.Question)
	}
	if limit := sizeLimit(query, network); len(wire) > limit {
		return fmt.Errorf("%d octets; the client takes %d", len(wire), limit)
	}
	if !readable {
		if reply.Rcode != dns.RcodeFormatError {
			return fmt.Errorf("%s to what nobody can read", rcodeName(reply.Rcode))
		}
		return onlyOPT(reply)
	}
	if !inZones(query.Question[0].Name) {
		if !slices.Contains([]int{outside, dns.RcodeRefused, dns.RcodeFormatError, dns.RcodeNotImplemented, dns.RcodeBadVers}, reply.Rcode) {
			return fmt.Errorf("%s for a name outside the zones", rcodeName(reply.Rcode))
		}
		return onlyOPT(reply)
	}
	if query.Question[0].Qclass != dns.ClassINET { // CoreDNS itself refuses, before any plugin
		if reply.Rcode != dns.RcodeRefused {
			return fmt.Errorf("%s for class %d; want REFUSED", rcodeName(reply.Rcode), query.Question[0].Qclass)
		}
		return onlyOPT(reply)
	}
	if err := inZoneReply(query, reply); err != nil {
		return err
	}
	if p.known.answer != "" {
		return p.known.check(p.wire, wire, reply)
	}
	return nil
}

// readBy is how much of a message the server reads.
func readBy(network string) int {
	if network == "udp" {
		return serverBuffer
	}
	return dns.MaxMsgSize
}

// inZoneReply checks the reply to a query that is well-formed and about our zones.
func inZoneReply(query, reply *dns.Msg) error {
	if reply.Zero {
		return fmt.Errorf("the Z bit is set")
	}
	asked, got := query.IsEdns0(), reply.IsEdns0()
	switch {
	case asked == nil && got != nil:
		return fmt.Errorf("OPT in the reply to a query without one")
	case asked != nil && got == nil && reply.Rcode != dns.RcodeFormatError && reply.Rcode != dns.RcodeNotImplemented:
		return fmt.Errorf("no OPT in the reply to a query with one")
	case got != nil && got.Hdr.Ttl&0x7fff != 0:
		return fmt.Errorf("bits of OPT that mean nothing are set: %#x", got.Hdr.Ttl)
	}
	alias := len(reply.Answer) > 0 && reply.Answer[0].Header().Rrtype == dns.TypeCNAME
	switch reply.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
	case dns.RcodeServerFailure:
		if alias {
			return nil // nobody resolves the target
		}
		return fmt.Errorf("SERVFAIL for what the server knows")
	case dns.RcodeFormatError, dns.RcodeNotImplemented, dns.RcodeRefused, dns.RcodeNotAuth, dns.RcodeBadVers:
		return onlyOPT(reply)
	default:
		return fmt.Errorf("%s is no rcode for a query", rcodeName(reply.Rcode))
	}
	soas := 0
	for _, rr := range reply.Ns {
		if rr.Header().Rrtype == dns.TypeSOA {
			soas++
		}
	}
	negative := len(reply.Answer) == 0
	switch {
	case !reply.Authoritative:
		return fmt.Errorf("AA is clear")
	case reply.Rcode == dns.RcodeNameError && !negative:
		return fmt.Errorf("NXDOMAIN with %d records", len(reply.Answer))
	case negative && (soas != 1 || len(reply.Ns) != 1):
		return fmt.Errorf("%d SOA of %d records in the authority section of a negative answer; want one alone", soas, len(reply.Ns))
	case !negative && !alias && len(reply.Ns) != 0:
		return fmt.Errorf("%d records in the authority section of an answer", len(reply.Ns))
	}
	return nil
}

// onlyOPT checks that an error brings no records along: they would be for whoever forged the client's address.
func onlyOPT(reply *dns.Msg) error {
	if len(reply.Answer) > 0 || len(reply.Ns) > 0 || len(reply.Extra) > 1 || len(reply.Extra) == 1 && reply.IsEdns0() == nil {
		return fmt.Errorf("%s with records", rcodeName(reply.Rcode))
	}
	return nil
}

// sizeLimit is the most octets that the reply may have.
func sizeLimit(query *dns.Msg, network string) int {
	if network != "udp" {
		return dns.MaxMsgSize
	}
	limit := dns.MinMsgSize
	if opt := query.IsEdns0(); opt != nil {
		limit = max(limit, int(opt.UDPSize()))
	}
	return min(limit, maxUDPReply)
}

func inZones(name string) bool {
	return slices.ContainsFunc(zones, func(zone string) bool { return dns.IsSubDomain(zone, name) })
}

// wholeMessage reads a reply to its last octet, so that the library that wrote it is not the only one to judge: as many
// questions and records as the header says, names that end, pointers that lead back, and nothing after.
func wholeMessage(wire []byte) error {
	if len(wire) < headerSize {
		return fmt.Errorf("%d octets", len(wire))
	}
	at := headerSize
	for section := range 4 {
		for range binary.BigEndian.Uint16(wire[4+2*section:]) {
			var err error
			if at, err = pastName(wire, at); err != nil {
				return err
			}
			if at += 4; section > 0 { // type and class
				if at += 4 + 2; at > len(wire) {
					return fmt.Errorf("the message ends in a record")
				}
				at += int(binary.BigEndian.Uint16(wire[at-2:]))
			}
			if at > len(wire) {
				return fmt.Errorf("the message ends in a question or record")
			}
		}
	}
	if at != len(wire) {
		return fmt.Errorf("%d octets after the end", len(wire)-at)
	}
	return nil
}

// pastName is where the name that begins at ends. All of it is read, pointers too.
func pastName(wire []byte, at int) (end int, err error) {
	size := 1 // the root's
	for lowest := at; ; {
		if at >= len(wire) {
			return 0, fmt.Errorf("the message ends in a name")
		}
		c := int(wire[at])
		switch {
		case c == 0 && end == 0:
			return at + 1, nil
		case c == 0:
			return end, nil
		case c <= maxLabel:
			at += 1 + c
			if size += 1 + c; size > maxName {
				return 0, fmt.Errorf("a name over %d octets", maxName)
			}
		case c >= pointerBits>>8 && at+1 < len(wire):
			if end == 0 { // what comes after the first pointer is elsewhere
				end = at + 2
			}
			to := int(binary.BigEndian.Uint16(wire[at:])) &^ pointerBits
			if to >= lowest {
				return 0, fmt.Errorf("a pointer at %d that does not lead back: to %d", at, to)
			}
			at, lowest = to, to
		default:
			return 0, fmt.Errorf("a label that begins with %#x", c)
		}
	}
}

func rcodeName(rcode int) string {
	if text, ok := dns.RcodeToString[rcode]; ok {
		return text
	}
	return fmt.Sprintf("rcode %d", rcode)
}

func rcodeNames(rcodes []int) string {
	var names []string
	for _, rcode := range rcodes {
		names = append(names, rcodeName(rcode))
	}
	return strings.Join(names, " or ")
}
