package index

import (
	"net/netip"
	"slices"
	"sync/atomic"
)

// A State is a Service joined with its Slices at one moment. It never changes;
// any number of readers may share it.
type State struct {
	Service *Service

	entry   *entry
	slices  *node
	repeats bool // an address may be in two slices, or have two labels
}

// A Family is an address family.
type Family uint8

const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// samePorts is slices.Equal with a short cut for shared lists.
func samePorts(a, b []Port) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

// noSummary is that of no Slices.
var noSummary summary

func (st *State) summary() *summary {
	if st.slices == nil {
		return &noSummary
	}
	return &st.slices.summary
}

// Ready tells whether the Service has a ready endpoint of any family.
func (st *State) Ready() bool { return st.summary().count != [2]uint32{} }

// EndpointPorts yields the different port lists of the ready endpoints.
func (st *State) EndpointPorts() [][]Port { return st.summary().ports }

// Len is the number of ready addresses of a family in a topology zone, or in
// all zones if that is ""; an address that is in two slices, as happens while it
// moves, is counted twice.
func (st *State) Len(f Family, topologyZone string) int { return st.summary().len(f, topologyZone) }

// Endpoints calls yield for those addresses, in ranges of one Slice each,
// beginning at the start-th and going round, until yield returns false.
func (st *State) Endpoints(f Family, topologyZone string, start int, yield func(s *Slice, from, to int) bool) {
	total := st.Len(f, topologyZone)
	if total == 0 {
		return
	}
	start %= total
	if st.slices.visit(f, topologyZone, start, total, yield) {
		st.slices.visit(f, topologyZone, 0, start, yield)
	}
}

// Repeats tells whether an address may come more than once: it is in two slices
// while it moves, or two endpoints share it.
func (st *State) Repeats() bool { return st.repeats }

// HasLabels tells whether an endpoint may have a label of its own, so that
// several addresses may share it.
func (st *State) HasLabels() bool { return st.summary().labelled }

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
	rare := st.summary().rare
	return rare != nil && slices.ContainsFunc(rare.clusters, func(c string) bool {
		return c == id || (len(c) > len(id) && c[len(c)-len(id)-1] == '.' && c[len(c)-len(id):] == id)
	})
}

// PortsOf are the port lists of the slices in which an endpoint has the label,
// in lower case.
func (st *State) PortsOf(label string) [][]Port {
	if all := st.EndpointPorts(); len(all) <= 1 {
		return all
	}
	var lists [][]Port
	st.slices.all(func(s *Slice) bool {
		has := slices.Contains(s.labels, label)
		if a, ok := ParseDashed(label); ok && !has {
			has = s.hasNameless(a)
		}
		if has {
			lists = append(lists, s.Ports)
		}
		return true
	})
	return lists
}

// Labels yields every label that an endpoint of the Service has, each at least
// once, the dashed ones included.
func (st *State) Labels(yield func(label string) bool) {
	st.slices.all(func(s *Slice) bool {
		for i := range s.Len() {
			label := s.Label(i)
			if label == "" {
				label = DashedLabel(s.Addr(i))
			}
			if !yield(label) {
				return false
			}
		}
		return true
	})
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
	slices   *node
	pending  []sliceChange // that State does not show yet
	repeated int           // by how many the names of its addresses exceed its addresses
}

// A sliceChange is what became of a Slice. One that was not there, or is no
// more, is nil.
type sliceChange struct{ old, next *Slice }

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
