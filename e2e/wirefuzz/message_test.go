package wirefuzz

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"

	"github.com/miekg/dns"
)

// A message is put together octet by octet: no library would pack what most of them are.

// Header bits (RFC 1035 section 4.1.1, RFC 4035 section 3.1.6).
const (
	flagQR = 1 << 15
	flagAA = 1 << 10
	flagTC = 1 << 9
	flagRD = 1 << 8
	flagRA = 1 << 7
	flagZ  = 1 << 6
	flagAD = 1 << 5
	flagCD = 1 << 4

	opcodeShift = 11
	rcodeMask   = 0xf
)

const (
	headerSize    = 12
	maxName       = 255    // octets on the wire (RFC 1035 section 2.3.4)
	maxLabel      = 63     // octets
	pointerBits   = 0xc000 // of the two octets of a compression pointer
	maxUDPPayload = 65_507 // octets that an IPv4 datagram has room for
	serverBuffer  = 512    // octets of a UDP query that the server reads
)

// counts are of the question, answer, authority and additional section, true or not.
type counts [4]int

// message is a header with the ID 0, and then the parts.
func message(flags uint16, n counts, parts ...[]byte) []byte {
	wire := make([]byte, 2, serverBuffer)
	wire = binary.BigEndian.AppendUint16(wire, flags)
	for _, count := range n {
		wire = binary.BigEndian.AppendUint16(wire, uint16(count))
	}
	for _, part := range parts {
		wire = append(wire, part...)
	}
	return wire
}

// name is a name of labels, which may be of any octets but no longer than a label can say.
func name(labels ...string) []byte {
	var wire []byte
	for _, label := range labels {
		wire = append(wire, byte(len(label)))
		wire = append(wire, label...)
	}
	return append(wire, 0)
}

// nameOf is the name that the text has no escapes in.
func nameOf(text string) []byte {
	if text == "." {
		return name()
	}
	return name(strings.Split(strings.TrimSuffix(text, "."), ".")...)
}

func pointer(offset int) []byte {
	return binary.BigEndian.AppendUint16(nil, uint16(pointerBits|offset))
}

// question is the name with a type and a class after it.
func question(name []byte, qtype, class uint16) []byte {
	wire := binary.BigEndian.AppendUint16(name[:len(name):len(name)], qtype)
	return binary.BigEndian.AppendUint16(wire, class)
}

func record(owner []byte, rrtype, class uint16, ttl uint32, rdata []byte) []byte {
	wire := question(owner, rrtype, class)
	wire = binary.BigEndian.AppendUint32(wire, ttl)
	wire = binary.BigEndian.AppendUint16(wire, uint16(len(rdata)))
	return append(wire, rdata...)
}

// opt is an OPT record; its flags are DO and Z (RFC 6891 section 6.1).
func opt(size uint16, version byte, flags uint16, options ...[]byte) []byte {
	var rdata []byte
	for _, option := range options {
		rdata = append(rdata, option...)
	}
	return record(name(), dns.TypeOPT, size, uint32(version)<<16|uint32(flags), rdata)
}

func option(code uint16, value []byte) []byte {
	wire := binary.BigEndian.AppendUint16(nil, code)
	wire = binary.BigEndian.AppendUint16(wire, uint16(len(value)))
	return append(wire, value...)
}

// octets are n random ones.
func octets(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// oneOf picks a value.
func oneOf[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

// spelled gives each letter of a name a random case, as resolvers do to tell a reply from a forged one.
func spelled(r *rand.Rand, name []byte) []byte {
	mixed := make([]byte, len(name))
	for i, c := range name {
		if 'a' <= c && c <= 'z' && r.IntN(2) == 0 {
			c -= 'a' - 'A'
		}
		mixed[i] = c
	}
	return mixed
}
