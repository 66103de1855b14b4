package index

import (
	"slices"
	"strings"
)

// fanout is how many Slices or nodes a node holds at most. A change copies that
// many pointers on each level, and 1,000 Slices make two or three levels.
const fanout = 32

// A node is a set of Slices, in the order of their names. It never changes: a
// set that differs in one Slice shares all nodes but those above that. nil is
// the empty set.
//
// It is a B+ tree in which every node knows how many addresses are below it, so
// that neither a change nor a search for the n-th address goes through all
// Slices.
type node struct {
	summary
	slices []*Slice // of a leaf
	nodes  []*node  // of an inner node
}

// A summary is what is known of all Slices below a node. Those without ready
// addresses count for nothing.
type summary struct {
	count    [2]uint32 // addresses, by family
	labelled bool      // an endpoint has a label of its own
	ports    [][]Port  // the different lists
	rare     *rareSummary
}

// A rareSummary is the part that most Services have no use for.
type rareSummary struct {
	clusters []string // the different ones
	zones    []zoneCount
}

type zoneCount struct {
	name  string
	count [2]uint32
}

func (f Family) index() int {
	if f == IPv6 {
		return 1
	}
	return 0
}

func leaf(list []*Slice) *node {
	n := &node{slices: list}
	for _, s := range list {
		n.addSlice(s)
	}
	return n
}

func inner(list []*node) *node {
	n := &node{nodes: list}
	for _, child := range list {
		n.addSummary(&child.summary)
	}
	return n
}

func (m *summary) addSlice(s *Slice) {
	if s.Len() == 0 {
		return
	}
	family := s.family().index()
	m.count[family] += uint32(s.Len())
	m.labelled = m.labelled || s.labels != nil
	m.addPorts(s.Ports)
	if s.Cluster == "" && s.zones == nil {
		return
	}
	if m.rare == nil {
		m.rare = new(rareSummary)
	}
	if s.Cluster != "" {
		m.rare.addCluster(s.Cluster)
	}
	from := 0
	for _, z := range s.zones {
		one := zoneCount{name: z.name}
		one.count[family] = uint32(z.end - from)
		m.rare.addZone(one)
		from = z.end
	}
}

func (m *summary) addSummary(o *summary) {
	m.count[0] += o.count[0]
	m.count[1] += o.count[1]
	m.labelled = m.labelled || o.labelled
	for _, p := range o.ports {
		m.addPorts(p)
	}
	if o.rare == nil {
		return
	}
	if m.rare == nil {
		m.rare = new(rareSummary)
	}
	for _, c := range o.rare.clusters {
		m.rare.addCluster(c)
	}
	for _, z := range o.rare.zones {
		m.rare.addZone(z)
	}
}

func (m *summary) addPorts(ports []Port) {
	if m.shared(ports) == nil {
		m.ports = append(m.ports, ports)
	}
}

// shared is the list of the summary that equals ports, in a list of one, or nil.
func (m *summary) shared(ports []Port) [][]Port {
	for i, p := range m.ports {
		if samePorts(p, ports) {
			return m.ports[i : i+1]
		}
	}
	return nil
}

func (r *rareSummary) addCluster(id string) {
	if !slices.Contains(r.clusters, id) {
		r.clusters = append(r.clusters, id)
	}
}

func (r *rareSummary) addZone(z zoneCount) {
	for i := range r.zones {
		if strings.EqualFold(r.zones[i].name, z.name) {
			r.zones[i].count[0] += z.count[0]
			r.zones[i].count[1] += z.count[1]
			return
		}
	}
	r.zones = append(r.zones, z)
}

// len is the number of addresses of a family in a topology zone, or in all if
// that is "".
func (m *summary) len(f Family, zone string) int {
	if zone == "" {
		return int(m.count[f.index()])
	}
	if m.rare != nil {
		for _, z := range m.rare.zones {
			if strings.EqualFold(z.name, zone) {
				return int(z.count[f.index()])
			}
		}
	}
	return 0
}

// with is the set with s in it, in place of the Slice of its name.
func (n *node) with(s *Slice) *node {
	if n == nil {
		return leaf([]*Slice{s})
	}
	left, right := n.insert(s)
	if right == nil {
		return left
	}
	return inner([]*node{left, right})
}

// insert is with, in two nodes if one has no room.
func (n *node) insert(s *Slice) (left, right *node) {
	if n.nodes == nil {
		at, found := findSlice(n.slices, s.Name)
		after := n.slices[at:]
		if found {
			after = after[1:]
		}
		return split(slices.Concat(n.slices[:at], []*Slice{s}, after), leaf)
	}
	at := n.childOf(s.Name)
	parts := make([]*node, 1, 2)
	if parts[0], right = n.nodes[at].insert(s); right != nil {
		parts = append(parts, right)
	}
	return split(slices.Concat(n.nodes[:at], parts, n.nodes[at+1:]), inner)
}

func split[T any](list []T, of func([]T) *node) (left, right *node) {
	if len(list) <= fanout {
		return of(list), nil
	}
	return of(list[:len(list)/2]), of(list[len(list)/2:])
}

// without is the set without the Slice of this name, which must be in it.
func (n *node) without(name string) *node {
	if n.nodes == nil {
		at, _ := findSlice(n.slices, name)
		if len(n.slices) == 1 {
			return nil
		}
		return leaf(slices.Concat(n.slices[:at], n.slices[at+1:]))
	}
	at := n.childOf(name)
	child := n.nodes[at].without(name)
	before, after := n.nodes[:at], n.nodes[at+1:]
	if child != nil && len(after) > 0 {
		if both := join(child, after[0]); both != nil {
			child, after = both, after[1:]
		}
	}
	var list []*node
	if child == nil {
		list = slices.Concat(before, after)
	} else {
		list = slices.Concat(before, []*node{child}, after)
	}
	if len(list) == 1 {
		return list[0]
	}
	return inner(list)
}

// join is one node for two neighbours, or nil if it would soon be split again.
func join(a, b *node) *node {
	const most = fanout / 2
	switch {
	case a.nodes == nil && b.nodes == nil && len(a.slices)+len(b.slices) <= most:
		return leaf(slices.Concat(a.slices, b.slices))
	case a.nodes != nil && b.nodes != nil && len(a.nodes)+len(b.nodes) <= most:
		return inner(slices.Concat(a.nodes, b.nodes))
	}
	return nil
}

// childOf finds the node that the Slice of this name is in, or belongs in.
func (n *node) childOf(name string) int {
	at, found := slices.BinarySearchFunc(n.nodes, name, func(child *node, name string) int {
		return strings.Compare(child.firstName(), name)
	})
	if found || at == 0 {
		return at
	}
	return at - 1
}

func (n *node) firstName() string {
	for n.nodes != nil {
		n = n.nodes[0]
	}
	return n.slices[0].Name
}

func findSlice(list []*Slice, name string) (int, bool) {
	return slices.BinarySearchFunc(list, name, func(s *Slice, name string) int { return strings.Compare(s.Name, name) })
}

// all yields the Slices by name.
func (n *node) all(yield func(*Slice) bool) bool {
	if n == nil {
		return true
	}
	for _, child := range n.nodes {
		if !child.all(yield) {
			return false
		}
	}
	for _, s := range n.slices {
		if !yield(s) {
			return false
		}
	}
	return true
}

// visit yields the addresses of a family in a topology zone, or in all if that
// is "", from the from-th to the one before the to-th, until yield returns
// false.
func (n *node) visit(f Family, zone string, from, to int, yield func(s *Slice, from, to int) bool) bool {
	for _, child := range n.nodes {
		size := child.len(f, zone)
		if from < size && to > 0 && !child.visit(f, zone, max(from, 0), min(to, size), yield) {
			return false
		}
		from, to = from-size, to-size
	}
	for _, s := range n.slices {
		if s.family() != f {
			continue
		}
		first, end := s.inZone(zone)
		size := end - first
		if from < size && to > 0 && !yield(s, first+max(from, 0), first+min(to, size)) {
			return false
		}
		from, to = from-size, to-size
	}
	return true
}
