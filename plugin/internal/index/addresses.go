package index

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"
)

// An Owner is a name that an address has: of a Service, or of an endpoint below
// it.
type Owner struct {
	Key       ObjectKey
	Label     string // of the endpoint; "" for the dashed address
	ClusterIP bool   // the name is the Service's own
}

func (o Owner) compare(p Owner) int {
	if o == p {
		return 0
	}
	return cmp.Or(o.rank()-p.rank(), strings.Compare(o.text(), p.text()))
}

// text sorts as the whole name does. The dashed names of an address begin alike.
func (o Owner) text() string { return o.Label + "." + o.Key.Name + "." + o.Key.Namespace + "." }

// rank orders the names of an address: a Service's own, then those from a
// hostname, then the dashed ones.
func (o Owner) rank() int {
	switch {
	case o.ClusterIP:
		return 0
	case o.Label != "":
		return 1
	}
	return 2
}

// owners are the names of one address, in the order in which they are answered.
// A list never changes once it is in an addressTable.
type owners []ownerCount

// An ownerCount counts the slices that give the address the name, as an
// endpoint that moves is in two.
type ownerCount struct {
	Owner
	entry *entry
	count int
}

// An addressTable finds the owners of an address, and whether there are
// addresses under a prefix. It never changes once published.
type addressTable struct{ bart.Table[*owners] }

// Owners are the names of the address: a Service's own first, then those from a
// hostname, then dashed ones, each in the order of their text.
func (x *Index) Owners(a netip.Addr) []Owner {
	list := x.addresses.Load().get(a)
	if list == nil {
		return nil
	}
	names := make([]Owner, len(*list))
	for i, o := range *list {
		names[i] = o.Owner
	}
	return names
}

// HasOwners tells whether the address has a name.
func (x *Index) HasOwners(a netip.Addr) bool { return x.addresses.Load().get(a) != nil }

// HasOwnersIn tells whether any address in the prefix has a name.
func (x *Index) HasOwnersIn(p netip.Prefix) bool { return x.addresses.Load().OverlapsPrefix(p) }

// AllAddresses yields the addresses in the prefix that have names, in order.
func (x *Index) AllAddresses(p netip.Prefix, yield func(netip.Addr) bool) {
	for host := range x.addresses.Load().Subnets(p) {
		if !yield(host.Addr()) {
			return
		}
	}
}

func (t *addressTable) get(a netip.Addr) *owners {
	list, _ := t.Lookup(a)
	return list
}

// has tells whether the address is a nameless endpoint of the entry's Service.
func (t *addressTable) has(a netip.Addr, e *entry) bool {
	list := t.get(a)
	return list != nil && slices.ContainsFunc(*list, func(o ownerCount) bool {
		return o.entry == e && o.Label == "" && !o.ClusterIP
	})
}

// edit begins a change of a few addresses: every step copies the path to its
// address.
func (t *addressTable) edit() *addressEdit { return &addressEdit{table: t} }

// bulkEdit begins a change of many addresses: the first step copies the table.
func (t *addressTable) bulkEdit() *addressEdit { return &addressEdit{table: t, bulk: true} }

// An addressEdit is a change of an addressTable that readers do not see until
// it is done. It belongs to one goroutine.
type addressEdit struct {
	table *addressTable
	bulk  bool
	own   bool // table is a copy of ours that may be modified
}

func (e *addressEdit) done() *addressTable { return e.table }

func (e *addressEdit) modify(a netip.Addr, change func(owners) *owners) {
	callback := func(list *owners, _ bool) (*owners, bool) {
		if list == nil {
			list = new(owners)
		}
		next := change(*list)
		return next, next == nil
	}
	host := netip.PrefixFrom(a, a.BitLen())
	if !e.bulk {
		e.table = &addressTable{*e.table.ModifyPersist(host, callback)}
		return
	}
	if !e.own {
		e.table = &addressTable{*e.table.Clone()}
		e.own = true
	}
	e.table.Modify(host, callback)
}

// add gives the address the name count times more, or fewer if count is
// negative.
func (e *addressEdit) add(a netip.Addr, o Owner, n *entry, count int) {
	e.modify(a, func(list owners) *owners {
		n.repeated -= list.repeats(n)
		defer func() { n.repeated += list.repeats(n) }()
		if len(list) == 0 && (*n.dashed)[0] == (ownerCount{o, n, count}) {
			list = *n.dashed
			return n.dashed
		}
		list = slices.Clone(list)
		at, found := slices.BinarySearchFunc(list, o, func(c ownerCount, o Owner) int { return c.compare(o) })
		if !found {
			list = slices.Insert(list, at, ownerCount{o, n, 0})
		}
		if list[at].count += count; list[at].count == 0 {
			list = slices.Delete(list, at, at+1)
		}
		switch {
		case len(list) == 0:
			return nil
		case len(list) == 1 && list[0] == (*n.dashed)[0]:
			return n.dashed
		}
		list = slices.Clip(list)
		return &list
	})
}

// repeats is by how many the endpoint names that the entry's Service gives
// exceed one.
func (l owners) repeats(n *entry) int {
	total := 0
	for _, o := range l {
		if o.entry == n && !o.ClusterIP {
			total += o.count
		}
	}
	return max(0, total-1)
}
