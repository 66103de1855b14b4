package schema

import (
	"net"
	"net/netip"

	"github.com/kubezone/kubezone/plugin/internal/index"
	"github.com/miekg/dns"
)

// What a record takes in a message when its owner name is a pointer
// (RFC 1035 sections 3.2.1 and 4.1.4): pointer, type, class, TTL, length.
const recordSize = 2 + 2 + 2 + 4 + 2

func familyOf(qtype uint16) (f index.Family, size int, ok bool) {
	switch qtype {
	case dns.TypeA:
		return index.IPv4, net.IPv4len, true
	case dns.TypeAAAA:
		return index.IPv6, net.IPv6len, true
	}
	return 0, 0, false
}

// addressesOf answers with those of addrs that are of the type asked for.
func (s *Schema) addressesOf(q *Question, addrs []netip.Addr) Answer {
	if q.QType == dns.TypeANY && len(addrs) > 0 {
		return s.any(q)
	}
	f, size, ok := familyOf(q.QType)
	if !ok {
		return Answer{Outcome: NoData, Reason: OtherType}
	}
	n := 0
	for _, a := range addrs {
		if a.Is6() == (f == index.IPv6) {
			n++
		}
	}
	room := q.Room / (recordSize + size)
	b := newAddressBuilder(q.QName, s.TTL, f, min(n, room))
	for _, a := range addrs {
		if a.Is6() == (f == index.IPv6) && b.len() < room {
			b.add(a)
		}
	}
	return b.answer(n > room)
}

// endpointAddresses answers with the ready endpoints of a service, in one
// topology zone or, if that is "", in all. Where there is no room for all, the
// reply holds a window that moves on with every query.
func (s *Schema) endpointAddresses(st *index.State, q *Question, topologyZone string) Answer {
	f, size, _ := familyOf(q.QType)
	total := st.Len(f, topologyZone)
	room := q.Room / (recordSize + size)
	paired := s.paired(st, q.Room)
	if paired {
		room = q.Room / (recordSize + net.IPv6len)
	}
	start := 0
	if total > room {
		start = rotate(st, f, room, paired)
	}
	b := newAddressBuilder(q.QName, s.TTL, f, min(total, room))
	var seen map[netip.Addr]bool
	if st.Repeats() {
		seen = make(map[netip.Addr]bool, min(total, room))
	}
	truncated := false
	st.Endpoints(f, topologyZone, start, func(sl *index.Slice, from, to int) bool {
		for i := from; i < to; i++ {
			a := sl.Addr(i)
			switch {
			case seen[a]:
				continue
			case b.len() == room:
				truncated = true
				return false
			case seen != nil:
				seen[a] = true
			}
			b.add(a)
		}
		return true
	})
	return b.answer(truncated)
}

// paired tells whether A and AAAA show the same endpoints of a service: in a
// multicluster zone, if there is no room for all of either (KEP-1645).
func (s *Schema) paired(st *index.State, room int) bool {
	return s.Grammar == Multicluster &&
		st.Len(index.IPv4, "") > room/(recordSize+net.IPv4len) && st.Len(index.IPv6, "") > room/(recordSize+net.IPv6len)
}

// rotate is where a window of room addresses begins: for AAAA, if it is paired,
// where that of the A query before did.
func rotate(st *index.State, f index.Family, room int, paired bool) int {
	switch {
	case f == index.IPv4:
		return st.Advance(index.RotateA, room)
	case paired:
		return st.Last(index.RotateA)
	}
	return st.Advance(index.RotateAAAA, room)
}

// An addressBuilder makes A or AAAA records of one owner in few allocations.
type addressBuilder struct {
	rrs    []dns.RR
	a      []dns.A
	aaaa   []dns.AAAA
	octets []byte
	hdr    dns.RR_Header
}

// oneA is room for the commonest answer.
type oneA struct {
	rrs    [1]dns.RR
	a      [1]dns.A
	octets [net.IPv4len]byte
}

func newAddressBuilder(owner string, ttl uint32, f index.Family, n int) addressBuilder {
	if f == index.IPv4 && n == 1 {
		one := new(oneA)
		return addressBuilder{rrs: one.rrs[:0], a: one.a[:0], octets: one.octets[:0], hdr: header(owner, dns.TypeA, ttl)}
	}
	b := addressBuilder{}
	if n == 0 {
		return b
	}
	b.rrs = make([]dns.RR, 0, n)
	if f == index.IPv4 {
		b.a, b.octets, b.hdr = make([]dns.A, 0, n), make([]byte, 0, n*net.IPv4len), header(owner, dns.TypeA, ttl)
	} else {
		b.aaaa, b.octets, b.hdr = make([]dns.AAAA, 0, n), make([]byte, 0, n*net.IPv6len), header(owner, dns.TypeAAAA, ttl)
	}
	return b
}

func (b *addressBuilder) len() int { return len(b.rrs) }

// add appends a record. There is room, as the builder was made for that many.
func (b *addressBuilder) add(a netip.Addr) {
	from := len(b.octets)
	if a.Is4() {
		octets := a.As4()
		b.octets = append(b.octets, octets[:]...)
		b.a = append(b.a, dns.A{Hdr: b.hdr, A: b.octets[from:len(b.octets):len(b.octets)]})
		b.rrs = append(b.rrs, &b.a[len(b.a)-1])
		return
	}
	octets := a.As16()
	b.octets = append(b.octets, octets[:]...)
	b.aaaa = append(b.aaaa, dns.AAAA{Hdr: b.hdr, AAAA: b.octets[from:len(b.octets):len(b.octets)]})
	b.rrs = append(b.rrs, &b.aaaa[len(b.aaaa)-1])
}

func (b *addressBuilder) answer(truncated bool) Answer {
	if len(b.rrs) == 0 && !truncated {
		return Answer{Outcome: NoData, Reason: OtherType}
	}
	return Answer{Records: b.rrs, Truncated: truncated}
}

// address is one record.
func address(owner string, ttl uint32, a netip.Addr) dns.RR {
	f := index.IPv4
	if a.Is6() {
		f = index.IPv6
	}
	b := newAddressBuilder(owner, ttl, f, 1)
	b.add(a)
	return b.rrs[0]
}
