package index

import (
	"net/netip"
	"slices"
	"sort"
	"sync/atomic"
)

// A State is a Service joined with its Slices at one moment. It never changes;
// any number of readers may share it.
type State struct {
	Service *Service

	entry  *entry
	slices []*Slice // by name, those without ready addresses too
	v4, v6 family
	ports  [][]Port // the different port lists of slices with ready addresses

	repeats  bool     // an address may be in two slices, or have two labels
	labelled bool     // an endpoint may have a label of its own
	clusters []string // that the slices with ready addresses are from
}

// A family is the part of a State that has addresses of one family.
type family struct {
	slices []*Slice
	ends   []int // ends[i] is the number of addresses in slices[:i+1]
}

// A Family is an address family.
type Family uint8

const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// newFamily is empty, with room for so many slices.
func newFamily(n int) family {
	if n == 0 {
		return family{}
	}
	return family{make([]*Slice, 0, n), make([]int, 0, n)}
}

func (f *family) add(s *Slice) {
	f.slices = append(f.slices, s)
	f.ends = append(f.ends, f.len()+s.Len())
}

func (f *family) len() int {
	if len(f.ends) == 0 {
		return 0
	}
	return f.ends[len(f.ends)-1]
}

// newState joins. Its cost is linear in the number of slices, not of their
// addresses.
func newState(e *entry, service *Service, list []*Slice) *State {
	st := &State{Service: service, entry: e, slices: list}
	n4, n6 := 0, 0
	for _, s := range list {
		switch {
		case s.Len() == 0:
		case s.v6:
			n6++
		default:
			n4++
		}
	}
	st.v4, st.v6 = newFamily(n4), newFamily(n6)
	for _, s := range list {
		if s.Len() == 0 {
			continue
		}
		st.labelled = st.labelled || s.labels != nil
		if s.v6 {
			st.v6.add(s)
		} else {
			st.v4.add(s)
		}
		if s.Cluster != "" && !slices.Contains(st.clusters, s.Cluster) {
			st.clusters = append(st.clusters, s.Cluster)
		}
		if !slices.ContainsFunc(st.ports, func(p []Port) bool { return samePorts(p, s.Ports) }) {
			st.ports = append(st.ports, s.Ports)
		}
	}
	return st
}

// samePorts is slices.Equal with a short cut for shared lists.
func samePorts(a, b []Port) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

// Ready tells whether the Service has a ready endpoint of any family.
func (st *State) Ready() bool { return len(st.v4.slices)+len(st.v6.slices) > 0 }

// EndpointPorts yields the different port lists of the ready endpoints.
func (st *State) EndpointPorts() [][]Port { return st.ports }

// Len is the number of ready addresses of a family; an address that is in two
// slices, as happens while it moves, is counted twice.
func (st *State) Len(f Family) int { return st.family(f).len() }

func (st *State) family(f Family) *family {
	if f == IPv6 {
		return &st.v6
	}
	return &st.v4
}

// Endpoints calls yield for every ready address of a family, in ranges of one
// Slice each, beginning at the start-th and going round, until yield returns
// false.
func (st *State) Endpoints(f Family, start int, yield func(s *Slice, from, to int) bool) {
	fam := st.family(f)
	if len(fam.slices) == 0 {
		return
	}
	start %= fam.len()
	first := sort.SearchInts(fam.ends, start+1)
	offset := start - (fam.ends[first] - fam.slices[first].Len())
	if s := fam.slices[first]; !yield(s, offset, s.Len()) {
		return
	}
	for n := 1; n < len(fam.slices); n++ {
		if s := fam.slices[(first+n)%len(fam.slices)]; !yield(s, 0, s.Len()) {
			return
		}
	}
	if offset > 0 {
		yield(fam.slices[first], 0, offset)
	}
}

// ZoneLen is Len for the addresses in one topology zone. Its cost is linear in
// the number of slices.
func (st *State) ZoneLen(f Family, topologyZone string) int {
	n := 0
	for _, s := range st.family(f).slices {
		from, to := s.inZone(topologyZone)
		n += to - from
	}
	return n
}

// ZoneEndpoints is Endpoints for the addresses in one topology zone.
func (st *State) ZoneEndpoints(f Family, topologyZone string, start int, yield func(s *Slice, from, to int) bool) {
	total := st.ZoneLen(f, topologyZone)
	if total == 0 {
		return
	}
	skip, left := start%total, total
	for left > 0 {
		for _, s := range st.family(f).slices {
			from, to := s.inZone(topologyZone)
			skipped := min(skip, to-from)
			skip -= skipped
			from += skipped
			to = min(to, from+left)
			left -= to - from
			if from < to && !yield(s, from, to) {
				return
			}
		}
	}
}

// Repeats tells whether an address may come more than once: it is in two slices
// while it moves, or two endpoints share it.
func (st *State) Repeats() bool { return st.repeats }

// HasLabels tells whether an endpoint may have a label of its own, so that
// several addresses may share it.
func (st *State) HasLabels() bool { return st.labelled }

// A Rotation is what moves on with the replies that hold a part of a Service's
// endpoints, so that every endpoint gets its turn.
type Rotation uint8

const (
	RotateA Rotation = iota
	RotateAAAA
	RotateSRV
	numRotations
)

// Advance moves a rotation on by n and returns where it stood. Safe for
// concurrent use.
func (st *State) Advance(r Rotation, n int) int {
	start := st.entry.rotations[r].Add(uint64(n)) - uint64(n)
	if n > 0 {
		st.entry.last[r].Store(start)
	}
	return int(start & mostStart)
}

// mostStart keeps what a rotation returns positive.
const mostStart = 1<<62 - 1

// Last is where the rotation stood before it last moved on.
func (st *State) Last(r Rotation) int { return int(st.entry.last[r].Load() & mostStart) }

// InCluster tells whether an endpoint is from the cluster with this ID, or one
// whose ID ends in these labels.
func (st *State) InCluster(id string) bool {
	return slices.ContainsFunc(st.clusters, func(c string) bool {
		return c == id || (len(c) > len(id) && c[len(c)-len(id)-1] == '.' && c[len(c)-len(id):] == id)
	})
}

// PortsOf are the port lists of the slices in which an endpoint has the label,
// in lower case.
func (st *State) PortsOf(label string) [][]Port {
	if len(st.ports) <= 1 {
		return st.ports
	}
	var lists [][]Port
	for _, s := range st.slices {
		has := slices.Contains(s.labels, label)
		if a, ok := ParseDashed(label); ok && !has {
			has = s.hasNameless(a)
		}
		if has {
			lists = append(lists, s.Ports)
		}
	}
	return lists
}

// Labels yields every label that an endpoint of the Service has, each at least
// once, the dashed ones included.
func (st *State) Labels(yield func(label string) bool) {
	for _, s := range st.slices {
		for i := range s.Len() {
			label := s.Label(i)
			if label == "" {
				label = DashedLabel(s.Addr(i))
			}
			if !yield(label) {
				return
			}
		}
	}
}

// An entry is the place of a Service in the Index. It outlives the Service's
// changes, and also stands for a Service of which only Slices are known.
type entry struct {
	key       ObjectKey
	state     atomic.Pointer[State] // nil while there is no Service, or it is hidden
	rotations [numRotations]atomic.Uint64
	last      [numRotations]atomic.Uint64 // what rotations were before
	dashed    *owners                     // the owner list of an address that only this Service has, under its dashed label

	// The rest belongs to the writer.
	service  *Service
	slices   []*Slice // by name
	repeated int      // by how many the names of its addresses exceed its addresses
}

// labelKey finds the addresses under a label that is a name, not an address.
type labelKey struct {
	entry *entry
	label string
}

// A labelled address, with the number of slices that have it: two pods may
// share a hostname, and an endpoint that moves is in two slices.
type labelled struct {
	addr  netip.Addr
	count int
}
