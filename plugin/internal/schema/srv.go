package schema

import (
	"net/netip"
	"slices"

	"github.com/kubezone/kubezone/plugin/internal/index"
	"github.com/miekg/dns"
)

// A portFilter selects ports and endpoints; an empty field selects all.
type portFilter struct{ name, protocol, topologyZone string }

func (f portFilter) selects(p index.Port) bool {
	return f.name == "" || (f.name == p.Name && f.protocol == p.Protocol)
}

// of are the numbers of the ports that are selected, each once: TCP and UDP may
// share one.
func (f portFilter) of(ports []index.Port) []uint16 {
	var numbers []uint16
	for _, p := range ports {
		if f.selects(p) && !slices.Contains(numbers, p.Number) {
			numbers = append(numbers, p.Number)
		}
	}
	return numbers
}

// srv answers with the ports of a service (RFC 2782), and with the addresses of
// the targets as far as there is room.
func (s *Schema) srv(st *index.State, q *Question, f portFilter) Answer {
	b := srvBuilder{schema: s, question: *q, service: s.nameOfService(q)}
	if s.byEndpoints(st) {
		b.endpoints(st, f)
		return b.answer()
	}
	addrs, hosts := st.Service.ClusterIPs, []string(nil)
	if s.Grammar == External {
		addrs, hosts = st.Service.External.Addrs, st.Service.External.Hosts
	}
	for _, number := range f.of(st.Service.Ports) {
		if len(addrs) > 0 {
			b.add("", number)
		}
		for _, host := range hosts {
			b.addHost(host, number)
		}
	}
	for _, a := range addrs {
		b.glue("", a)
	}
	return b.answer()
}

// endpointSRV answers for the label of an endpoint, with its ports.
func (s *Schema) endpointSRV(st *index.State, q *Question) Answer {
	b := srvBuilder{schema: s, question: *q, service: s.nameOfService(q), seen: map[srvKey]bool{}}
	label := q.QName[:len(q.Name.Label)]
	for _, ports := range st.PortsOf(q.Name.Label) {
		for _, p := range ports {
			b.add(label, p.Number)
		}
	}
	for _, f := range []index.Family{index.IPv4, index.IPv6} {
		s.Index.Labelled(st, q.Name.Label, f, func(a netip.Addr) { b.glue(label, a) })
	}
	return b.answer()
}

// nameOfService is the service's own name, in the question's spelling.
func (s *Schema) nameOfService(q *Question) string {
	n := len(q.Name.Service) + len(".") + len(q.Name.Namespace) + len(s.branch()) + len(".")
	if q.Zone != "." {
		n += len(q.Zone)
	}
	return q.QName[len(q.QName)-n:]
}

// branch is what stands between a namespace and the zone, with its dot.
func (s *Schema) branch() string {
	if s.Grammar == External {
		return ""
	}
	return ".svc"
}

// totalWeight is shared out evenly among the records, as clients of the stock
// plugin see it.
const totalWeight = 100

type srvKey struct {
	label string
	port  uint16
}

// An srvBuilder makes SRV records and the addresses of their targets.
type srvBuilder struct {
	schema    *Schema
	question  Question
	service   string // the name of the service, below which labels are
	seen      map[srvKey]bool
	used      int // octets of records
	records   []dns.RR
	addresses []target
	truncated bool
}

// A target is a name in an SRV record with one of its addresses.
type target struct {
	label string
	addr  netip.Addr
}

func (b *srvBuilder) name(label string) string {
	if label == "" {
		return b.service
	}
	return label + "." + b.service
}

// srvSize is that of an SRV record. Its target is not compressed (RFC 2782).
func srvSize(target string) int { return recordSize + 2 + 2 + 2 + len(target) + 1 }

// size is that of an SRV record whose target has the label.
func (b *srvBuilder) size(label string) int {
	n := srvSize(b.service)
	if label != "" {
		n += len(label) + 1
	}
	return n
}

// add appends a record unless it is there already, its name would be too long
// or there is no room. It reports whether the builder goes on.
func (b *srvBuilder) add(label string, port uint16) bool {
	if b.seen != nil {
		if b.seen[srvKey{label, port}] {
			return true
		}
		b.seen[srvKey{label, port}] = true
	} else if label == "" && b.has(b.service, port) {
		return true
	}
	if !b.fits(b.size(label)) {
		return false
	}
	if name := b.name(label); !tooLong(name) {
		b.append(name, b.size(label), port)
	}
	return true
}

// addHost is add for a target that is a name of somebody else.
func (b *srvBuilder) addHost(host string, port uint16) {
	if size := srvSize(host); !b.has(host, port) && b.fits(size) {
		b.append(host, size, port)
	}
}

func (b *srvBuilder) fits(size int) bool {
	if b.used+size > b.question.Room {
		b.truncated = true
		return false
	}
	return true
}

func (b *srvBuilder) append(name string, size int, port uint16) {
	b.used += size
	b.records = append(b.records, &dns.SRV{
		Hdr:    header(b.question.QName, dns.TypeSRV, b.schema.TTL),
		Port:   port,
		Target: name,
	})
}

// has tells whether there is such a record: TCP and UDP may share a number.
func (b *srvBuilder) has(name string, port uint16) bool {
	for _, rr := range b.records {
		if srv := rr.(*dns.SRV); srv.Port == port && srv.Target == name {
			return true
		}
	}
	return false
}

// glue notes an address of a target.
func (b *srvBuilder) glue(label string, a netip.Addr) {
	if len(b.addresses)*(recordSize+4) < b.question.Room {
		b.addresses = append(b.addresses, target{label, a})
	}
}

// endpoints adds those of a headless service. Where there may be no room for
// all, it starts where the last reply ended.
func (b *srvBuilder) endpoints(st *index.State, f portFilter) {
	if st.Repeats() || st.HasLabels() {
		b.seen = map[srvKey]bool{}
	}
	total4, total6 := st.Len(index.IPv4, f.topologyZone), st.Len(index.IPv6, f.topologyZone)
	start, taken := 0, 0
	if rotates := (total4+total6)*b.size("1") > b.question.Room; rotates {
		start = st.Advance(index.RotateSRV, 0) % (total4 + total6)
		defer func() { st.Advance(index.RotateSRV, taken) }()
	}
	families := []index.Family{index.IPv4, index.IPv6}
	if start >= total4 {
		start -= total4
		families = []index.Family{index.IPv6, index.IPv4}
	}
	for _, family := range families {
		st.Endpoints(family, f.topologyZone, start, func(s *index.Slice, from, to int) bool {
			ports := f.of(s.Ports)
			for i := from; i < to && len(ports) > 0; i++ {
				if !b.endpoint(s, i, ports) {
					return false
				}
				taken++
			}
			return true
		})
		start = 0
	}
}

func (b *srvBuilder) endpoint(s *index.Slice, i int, ports []uint16) bool {
	label := s.Label(i)
	if label == "" {
		label = index.DashedLabel(s.Addr(i))
	}
	for _, port := range ports {
		if !b.add(label, port) {
			return false
		}
	}
	b.glue(label, s.Addr(i))
	return true
}

func (b *srvBuilder) answer() Answer {
	if len(b.records) == 0 && !b.truncated {
		return Answer{Outcome: NoData, Reason: OtherType}
	}
	for _, rr := range b.records {
		rr.(*dns.SRV).Weight = uint16(max(1, totalWeight/len(b.records)))
	}
	a := Answer{Records: b.records, Truncated: b.truncated}
	if b.truncated {
		return a
	}
	known := map[target]bool{}
	for _, t := range b.addresses {
		size := recordSize + t.addr.BitLen()/8
		if t.label != "" {
			size += len(t.label) + 1
		}
		if known[t] || b.used+size > b.question.Room || tooLong(b.name(t.label)) {
			continue
		}
		known[t] = true
		b.used += size
		a.Extra = append(a.Extra, address(b.name(t.label), b.schema.TTL, t.addr))
	}
	return a
}
