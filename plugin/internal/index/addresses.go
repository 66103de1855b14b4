package index

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/gaissmai/bart"
)

// An Owner is a name that an address has: of a Service, or of an endpoint below
// it.
type Owner struct {
	Key       ObjectKey
	Label     string // of the endpoint; "" for the dashed address
	ClusterIP bool   // the name is the Service's own
}

// owners are the names of one address, in the order in which they are answered.
// A list never changes once it is in an addressTable.
type owners []owner

// An owner is an Owner with the number of slices that give the address the name,
// as an endpoint that moves is in two.
type owner struct {
	entry     *entry
	label     string
	count     int32
	clusterIP bool
}

func (o owner) compare(p owner) int {
	if o.entry == p.entry && o.label == p.label && o.clusterIP == p.clusterIP {
		return 0
	}
	return cmp.Or(o.rank()-p.rank(), strings.Compare(o.text(), p.text()))
}

// text sorts as the whole name does. The dashed names of an address begin alike.
func (o owner) text() string {
	return o.label + "." + o.entry.key.Name + "." + o.entry.key.Namespace + "."
}

// rank orders the names of an address: a Service's own, then those from a
// hostname, then the dashed ones.
func (o owner) rank() int {
	switch {
	case o.clusterIP:
		return 0
	case o.label != "":
		return 1
	}
	return 2
}

// add is the list with the name count times more, or fewer if count is negative;
// nil if it has no names then.
func (l *owners) add(n addressName, e *entry, count int) *owners {
	var list owners
	if l != nil {
		list = *l
	}
	o := owner{entry: e, label: n.label, clusterIP: n.clusterIP, count: int32(count)}
	if len(list) == 0 && o == (*e.dashed)[0] {
		return e.dashed
	}
	list = slices.Clone(list)
	at, found := slices.BinarySearchFunc(list, o, owner.compare)
	if found {
		list[at].count += o.count
	} else {
		list = slices.Insert(list, at, o)
	}
	if list[at].count == 0 {
		list = slices.Delete(list, at, at+1)
	}
	switch {
	case len(list) == 0:
		return nil
	case len(list) == 1 && list[0] == (*e.dashed)[0]:
		return e.dashed
	}
	list = slices.Clip(list)
	return &list
}

// repeats is by how many the endpoint names that the entry's Service gives
// exceed one.
func (l *owners) repeats(e *entry) int {
	if l == nil {
		return 0
	}
	total := 0
	for _, o := range *l {
		if o.entry == e && !o.clusterIP {
			total += int(o.count)
		}
	}
	return max(0, total-1)
}

// An addressTable finds the owners of an address, and whether there are
// addresses under a prefix. Any number of readers may use it while one writer
// changes it. The zero value is empty once init was called.
//
// A tree holds blocks of neighbouring addresses. Most changes copy one block;
// the tree, of which a change copies more, changes where a block comes or goes.
type addressTable struct {
	blocks atomic.Pointer[bart.Table[*block]]
}

// blockBits is how many of an address's bits tell those in a block apart.
const blockBits = 8

// A block holds the addresses of one prefix that have owners.
type block struct{ atomic.Pointer[blockState] }

// A blockState never changes.
type blockState struct {
	used   [1 << blockBits / 64]uint64 // a bit for each address with owners
	owners []*owners                   // of these
}

func (t *addressTable) init() { t.blocks.Store(new(bart.Table[*block])) }

// Owners are the names of the address: a Service's own first, then those from a
// hostname, then dashed ones, each in the order of their text.
func (x *Index) Owners(a netip.Addr) []Owner {
	list := x.addresses.get(a)
	if list == nil {
		return nil
	}
	names := make([]Owner, len(*list))
	for i, o := range *list {
		names[i] = Owner{Key: o.entry.key, Label: o.label, ClusterIP: o.clusterIP}
	}
	return names
}

// HasOwners tells whether the address has a name.
func (x *Index) HasOwners(a netip.Addr) bool { return x.addresses.get(a) != nil }

// HasOwnersIn tells whether any address in the prefix has a name.
func (x *Index) HasOwnersIn(p netip.Prefix) bool {
	if p.Bits() <= p.Addr().BitLen()-blockBits {
		return x.addresses.blocks.Load().OverlapsPrefix(p)
	}
	found := false
	x.AllAddresses(p, func(netip.Addr) bool {
		found = true
		return false
	})
	return found
}

// AllAddresses yields the addresses in the prefix that have names, in order.
func (x *Index) AllAddresses(p netip.Prefix, yield func(netip.Addr) bool) {
	within := p.Masked()
	if whole := blockOf(p.Addr()); whole.Bits() < p.Bits() {
		within = whole
	}
	for prefix, b := range x.addresses.blocks.Load().Subnets(within) {
		state := b.Load()
		for low := range 1 << blockBits {
			if !state.has(uint8(low)) {
				continue
			}
			if a := addressIn(prefix, uint8(low)); p.Contains(a) && !yield(a) {
				return
			}
		}
	}
}

// get is the list of the address, or nil.
func (t *addressTable) get(a netip.Addr) *owners {
	b, ok := t.blocks.Load().Lookup(a)
	if !ok {
		return nil
	}
	state, low := b.Load(), lastOctet(a)
	if !state.has(low) {
		return nil
	}
	return state.owners[state.position(low)]
}

// has tells whether the address is a nameless endpoint of the entry's Service.
func (t *addressTable) has(a netip.Addr, e *entry) bool {
	list := t.get(a)
	return list != nil && slices.ContainsFunc(*list, func(o owner) bool {
		return o.entry == e && o.label == "" && !o.clusterIP
	})
}

// add gives the address the name count times more, or fewer if count is
// negative.
func (t *addressTable) add(n addressName, e *entry, count int) {
	before := t.get(n.addr)
	after := before.add(n, e, count)
	e.repeated += after.repeats(e) - before.repeats(e)
	if after != before {
		t.set(n.addr, after)
	}
}

// set makes the list that of the address; nil is none.
func (t *addressTable) set(a netip.Addr, list *owners) {
	prefix, low := blockOf(a), lastOctet(a)
	blocks := t.blocks.Load()
	b, ok := blocks.Get(prefix)
	var old blockState
	if ok {
		old = *b.Load()
	}
	next := old.with(low, list)
	switch {
	case !ok:
		b = new(block)
		b.Store(next)
		t.blocks.Store(blocks.InsertPersist(prefix, b))
	case len(next.owners) == 0:
		t.blocks.Store(blocks.DeletePersist(prefix))
	default:
		b.Store(next)
	}
}

func blockOf(a netip.Addr) netip.Prefix {
	return netip.PrefixFrom(a, a.BitLen()-blockBits).Masked()
}

func lastOctet(a netip.Addr) uint8 {
	b := a.As16()
	return b[15]
}

// addressIn is the address of a block with this last octet.
func addressIn(prefix netip.Prefix, low uint8) netip.Addr {
	if a := prefix.Addr(); a.Is4() {
		b := a.As4()
		b[3] = low
		return netip.AddrFrom4(b)
	}
	b := prefix.Addr().As16()
	b[15] = low
	return netip.AddrFrom16(b)
}

func (s *blockState) has(low uint8) bool { return s.used[low/64]&(1<<(low%64)) != 0 }

// position is where the list of the address is, or would be.
func (s *blockState) position(low uint8) int {
	n := bits.OnesCount64(s.used[low/64] & (1<<(low%64) - 1))
	for _, word := range s.used[:low/64] {
		n += bits.OnesCount64(word)
	}
	return n
}

// with is the block with the list for the address, or without the address if
// the list is nil.
func (s *blockState) with(low uint8, list *owners) *blockState {
	next := &blockState{used: s.used}
	at := s.position(low)
	after := s.owners[at:]
	if s.has(low) {
		after = after[1:]
	}
	if list == nil {
		next.used[low/64] &^= 1 << (low % 64)
		next.owners = slices.Concat(s.owners[:at], after)
		return next
	}
	next.used[low/64] |= 1 << (low % 64)
	next.owners = slices.Concat(s.owners[:at], []*owners{list}, after)
	return next
}
