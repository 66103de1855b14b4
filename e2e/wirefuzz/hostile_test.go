package wirefuzz

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// A packet is a message and what is to come back for it.
type packet struct {
	class  string
	wire   []byte
	rcodes []int // any of these; none: whatever is an rcode for a query
	known  known // the answer, if there is one
}

const (
	validClass   = "valid query" // its answer is known
	largestClass = "largest message"
	lostClass    = "lost with its connection"
	wrongClass   = "what a wrong length leaves"
)

// A class is a way to break a message.
type class struct {
	name   string
	rcodes []int
	make   func(r *rand.Rand) []byte
}

var (
	formErr  = []int{dns.RcodeFormatError}
	notImp   = []int{dns.RcodeNotImplemented}
	refused  = []int{dns.RcodeRefused}
	inZone   = []int{dns.RcodeSuccess, dns.RcodeNameError}
	whatever []int
)

var classes = []class{
	// A header that is none, or is no query's.
	{"response", nil, func(r *rand.Rand) []byte {
		return message(flagQR|uint16(r.Uint32()), counts{1}, anyQuestion(r))
	}},
	{"shorter than a header", nil, func(r *rand.Rand) []byte {
		return message(flagRD, counts{1}, anyQuestion(r))[:r.IntN(headerSize)]
	}},
	{"header alone", []int{dns.RcodeFormatError, dns.RcodeServerFailure}, func(*rand.Rand) []byte {
		return message(flagRD, counts{1})
	}},
	{"opcode", notImp, func(r *rand.Rand) []byte {
		return message(uint16(1+r.IntN(15))<<opcodeShift, counts{1}, anyQuestion(r))
	}},
	{"counts too high", formErr, func(r *rand.Rand) []byte {
		n := counts{1}
		section := r.IntN(len(n))
		n[section] = oneOf(r, 3, 4, 255, 256, 65535)
		return message(flagRD, n, anyQuestion(r))
	}},
	{"counts of what is not there", whatever, func(r *rand.Rand) []byte {
		return message(flagRD, counts{1, r.IntN(2), r.IntN(2), r.IntN(3)}, anyQuestion(r))
	}},
	{"no question", formErr, func(r *rand.Rand) []byte {
		return message(flagRD, counts{0, 0, 0, r.IntN(2)}, opt(1232, 0, 0))
	}},
	{"many questions", formErr, func(r *rand.Rand) []byte {
		n := 2 + r.IntN(20)
		return message(flagRD, counts{n}, slices.Repeat(anyQuestion(r), n))
	}},

	// A question that ends early, or never.
	{"question cut", []int{dns.RcodeFormatError, dns.RcodeRefused}, func(r *rand.Rand) []byte {
		q := anyQuestion(r)
		return message(flagRD, counts{1}, q[:1+r.IntN(len(q)-1)])
	}},
	{"pointer to itself", formErr, func(r *rand.Rand) []byte {
		labels := nameOf(anyKnown(r).name)
		labels = labels[:len(labels)-1]
		return message(flagRD, counts{1}, question(append(labels, pointer(headerSize+oneOf(r, 0, len(labels)))...), dns.TypeA, dns.ClassINET))
	}},
	{"pointers in a circle", formErr, func(*rand.Rand) []byte {
		return message(flagRD, counts{1}, question(pointer(headerSize+6), dns.TypeA, dns.ClassINET), pointer(headerSize))
	}},
	{"pointer after pointer", formErr, func(*rand.Rand) []byte {
		const hops = 200 // more than a name has octets for labels
		var chain []byte
		for i := range hops {
			chain = append(chain, pointer(headerSize+6+2*(i+1))...)
		}
		return message(flagRD, counts{1}, question(pointer(headerSize+6), dns.TypeA, dns.ClassINET), chain, name())
	}},
	{"pointer forward", whatever, func(r *rand.Rand) []byte {
		return message(flagRD, counts{1}, question(pointer(headerSize+6), dns.TypeA, dns.ClassINET), nameOf(anyKnown(r).name))
	}},
	{"pointer into the header", whatever, func(r *rand.Rand) []byte {
		return message(flagRD, counts{1}, question(pointer(r.IntN(headerSize)), dns.TypeA, dns.ClassINET))
	}},
	{"pointer past the end", formErr, func(r *rand.Rand) []byte {
		return message(flagRD, counts{1}, question(pointer(serverBuffer+r.IntN(1<<13)), dns.TypeA, dns.ClassINET))
	}},
	{"pointer of one octet", formErr, func(*rand.Rand) []byte {
		return message(flagRD, counts{1}, pointer(headerSize)[:1])
	}},

	// Labels and names that cannot be.
	{"label of a reserved type", formErr, func(r *rand.Rand) []byte {
		n := nameOf(anyKnown(r).name)
		n[0] = oneOf[byte](r, 0x40, 0x80) | byte(r.IntN(64))
		return message(flagRD, counts{1}, question(n, dns.TypeA, dns.ClassINET))
	}},
	{"label past the end", formErr, func(r *rand.Rand) []byte {
		return message(flagRD, counts{1}, []byte{maxLabel}, octets(r, r.IntN(maxLabel)))
	}},
	{"name over 255 octets", formErr, func(r *rand.Rand) []byte {
		label := strings.Repeat("x", 1+r.IntN(maxLabel))
		labels := slices.Repeat([]string{label}, 1+maxName/(1+len(label)))
		return message(flagRD, counts{1}, question(name(append(labels, "svc", "cluster", "local")...), dns.TypeA, dns.ClassINET))
	}},
	{"name of 255 octets", []int{dns.RcodeNameError}, func(r *rand.Rand) []byte {
		end := nameOf(oneOf(r, "svc.cluster.local.", "default.svc.cluster.local.", "nginx.default.svc.cluster.local.", "10.in-addr.arpa."))
		var labels []byte
		for left := maxName - len(end); left > 0; left = maxName - len(end) - len(labels) {
			n := min(maxLabel, left-1)
			if left-1-n == 1 {
				n-- // one octet alone is no label
			}
			labels = append(labels, byte(n))
			labels = append(labels, octets(r, n)...)
		}
		return message(flagRD, counts{1}, question(append(labels, end...), dns.TypeA, dns.ClassINET))
	}},
	{"labels of any octets", inZone, func(r *rand.Rand) []byte {
		end := nameOf(oneOf(r, "cluster.local.", "nginx.default.svc.cluster.local.", "default.pod.cluster.local.", "96.10.in-addr.arpa.", "ip6.arpa."))
		return message(flagRD, counts{1}, question(append(label(oddLabel(r)), end...), dns.TypeA, dns.ClassINET))
	}},
	{"empty label", whatever, func(r *rand.Rand) []byte {
		n := nameOf(anyKnown(r).name)
		return message(flagRD, counts{1}, question(slices.Insert(n, 1+int(n[0]), 0), dns.TypeA, dns.ClassINET))
	}},
	{"root", whatever, func(r *rand.Rand) []byte {
		return message(flagRD, counts{1}, question(name(), uint16(r.Uint32()), dns.ClassINET))
	}},

	// Questions that are well-formed, but not for us.
	{"class", refused, func(r *rand.Rand) []byte {
		return message(flagRD, counts{1}, question(nameOf(anyKnown(r).name), dns.TypeA, oneOf[uint16](r, 0, 2, 3, 4, 254, 255, 256, 65535)))
	}},
	{"type", []int{dns.RcodeSuccess, dns.RcodeNameError, dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeNotAuth}, func(r *rand.Rand) []byte {
		return message(flagRD, counts{1}, question(nameOf(anyKnown(r).name), uint16(r.Uint32())>>oneOf(r, 0, 8), dns.ClassINET))
	}},
	{"transfer at an apex", refused, func(r *rand.Rand) []byte {
		apex := nameOf(oneOf(r, "cluster.local.", "in-addr.arpa.", "ip6.arpa."))
		return message(0, counts{1}, question(apex, oneOf(r, dns.TypeAXFR, dns.TypeIXFR), dns.ClassINET))
	}},
	{"transfer below an apex", []int{dns.RcodeNotAuth}, func(r *rand.Rand) []byte {
		below := nameOf(oneOf(r, "svc.cluster.local.", "10.in-addr.arpa.", "nginx.default.svc.cluster.local."))
		return message(0, counts{1}, question(below, oneOf(r, dns.TypeAXFR, dns.TypeIXFR), dns.ClassINET))
	}},

	// OPT records (RFC 6891).
	{"two OPT", formErr, func(r *rand.Rand) []byte {
		return message(flagRD, counts{1, 0, 0, 2}, anyQuestion(r), opt(uint16(r.Uint32()), 0, 0), opt(1232, 0, uint16(r.Uint32())))
	}},
	{"version of OPT", []int{dns.RcodeBadVers}, func(r *rand.Rand) []byte {
		return message(flagRD, counts{1, 0, 0, 1}, anyQuestion(r), opt(1232, byte(1+r.IntN(255)), 0))
	}},
	{"extended rcode in OPT", whatever, func(r *rand.Rand) []byte {
		return message(flagRD, counts{1, 0, 0, 1}, anyQuestion(r), record(name(), dns.TypeOPT, 1232, uint32(1+r.IntN(255))<<24, nil))
	}},
	{"option longer than OPT", formErr, func(r *rand.Rand) []byte {
		long := option(uint16(r.IntN(20)), octets(r, 8))
		binary.BigEndian.PutUint16(long[2:], uint16(9+r.IntN(60_000)))
		return message(flagRD, counts{1, 0, 0, 1}, anyQuestion(r), opt(1232, 0, 0, long))
	}},
	{"half an option", formErr, func(r *rand.Rand) []byte {
		return message(flagRD, counts{1, 0, 0, 1}, anyQuestion(r), opt(1232, 0, 0, octets(r, 1+r.IntN(3))))
	}},
	{"OPT longer than the message", formErr, func(r *rand.Rand) []byte {
		long := opt(1232, 0, 0)
		binary.BigEndian.PutUint16(long[len(long)-2:], uint16(1+r.IntN(65535)))
		return message(flagRD, counts{1, 0, 0, 1}, anyQuestion(r), long)
	}},
	{"option of any octets", whatever, func(r *rand.Rand) []byte {
		return message(flagRD, counts{1, 0, 0, 1}, anyQuestion(r), opt(1232, 0, 0, option(uint16(r.IntN(21)), octets(r, r.IntN(40)))))
	}},
	{"OPT in the wrong place", whatever, func(r *rand.Rand) []byte {
		n := counts{1}
		n[1+r.IntN(2)] = 1
		return message(flagRD, n, anyQuestion(r), opt(512, 0, 0))
	}},
	{"OPT with an owner", whatever, func(r *rand.Rand) []byte {
		return message(flagRD, counts{1, 0, 0, 1}, anyQuestion(r), record(nameOf(anyKnown(r).name), dns.TypeOPT, 512, 0, nil))
	}},

	// Records that no query needs.
	{"TSIG of any octets", whatever, func(r *rand.Rand) []byte {
		return message(flagRD, counts{1, 0, 0, 1}, anyQuestion(r), record(name("key"), dns.TypeTSIG, dns.ClassANY, 0, octets(r, r.IntN(80))))
	}},
	{"TSIG with a wrong MAC", whatever, func(r *rand.Rand) []byte {
		return message(flagRD, counts{1, 0, 0, 2}, anyQuestion(r), opt(1232, 0, 0), tsig(r))
	}},
	{"TSIG before the end", whatever, func(r *rand.Rand) []byte {
		return message(flagRD, counts{1, 0, 0, 2}, anyQuestion(r), tsig(r), opt(1232, 0, 0))
	}},
	{"record of any octets", whatever, func(r *rand.Rand) []byte {
		n := counts{1}
		n[1+r.IntN(3)] = 1
		owner := oneOf(r, name(), pointer(headerSize), name("x"))
		return message(flagRD, n, anyQuestion(r), record(owner, uint16(r.Uint32())>>oneOf(r, 0, 8, 9), dns.ClassINET, 0, octets(r, r.IntN(100))))
	}},

	// No rule at all.
	{"any octets", whatever, func(r *rand.Rand) []byte { return octets(r, r.IntN(serverBuffer)) }},
	{"octets changed", whatever, func(r *rand.Rand) []byte {
		wire := valid(r).wire
		for range 1 + r.IntN(6) {
			at := r.IntN(len(wire))
			switch r.IntN(4) {
			case 0:
				wire[at] ^= 1 << r.IntN(8)
			case 1:
				wire[at] = byte(r.Uint32())
			case 2:
				wire = slices.Insert(wire, at, octets(r, 1+r.IntN(4))...)
			case 3:
				wire = slices.Delete(wire, at, min(len(wire)-1, at+1+r.IntN(4)))
			}
		}
		return wire
	}},
	{largestClass, whatever, func(r *rand.Rand) []byte {
		start := valid(r).wire
		return append(start, octets(r, maxUDPPayload-len(start))...)
	}},
}

// answered are the classes whose valid part is answered as if the rest were not there.
var answered = []struct {
	name string
	make func(r *rand.Rand, k known) []byte
}{
	{"bits that mean nothing in a query", func(r *rand.Rand, k known) []byte {
		odd := uint16(r.Uint32()) & (flagAA | flagTC | flagRA | flagZ | flagAD | flagCD | flagRD | rcodeMask)
		return message(odd, counts{1}, k.question(r))
	}},
	{"bits of OPT that mean nothing", func(r *rand.Rand, k known) []byte {
		return message(flagRD, counts{1, 0, 0, 1}, k.question(r), opt(uint16(r.Uint32()), 0, uint16(r.Uint32())))
	}},
	{"octets after the end", func(r *rand.Rand, k known) []byte {
		return message(flagRD, counts{1}, k.question(r), octets(r, r.IntN(600)))
	}},
}

// hostile is a packet of one of the classes.
func hostile(r *rand.Rand) packet {
	n := r.IntN(len(classes) + len(answered))
	if n < len(classes) {
		c := classes[n]
		return packet{class: c.name, wire: c.make(r), rcodes: c.rcodes}
	}
	c, k := answered[n-len(classes)], anyKnown(r)
	return packet{class: c.name, wire: c.make(r, k), known: k}
}

func label(text string) []byte { return append([]byte{byte(len(text))}, text...) }

// oddLabel is one that parsers trip over.
func oddLabel(r *rand.Rand) string {
	if r.IntN(2) == 0 {
		return string(octets(r, 1+r.IntN(maxLabel)))
	}
	return oneOf(r, "\x00", ".", `\`, `\.`, "*", "/", "_", "__", "-", "a.b", "10.96.0.1", "0x0a", "::1", "255", "256", "00", "\xff", "K\u212a", "10-244-1-11\x00")
}

// tsig is a record of RFC 8945 in good form, with a key that nobody has.
func tsig(r *rand.Rand) []byte {
	mac := octets(r, 32)
	rdata := name("hmac-sha256")
	rdata = append(rdata, octets(r, 6)...) // time signed
	rdata = binary.BigEndian.AppendUint16(rdata, 300)
	rdata = binary.BigEndian.AppendUint16(rdata, uint16(len(mac)))
	rdata = append(rdata, mac...)
	rdata = append(rdata, make([]byte, 6)...) // original ID, error, no other data
	return record(name("nobody"), dns.TypeTSIG, dns.ClassANY, 0, rdata)
}
