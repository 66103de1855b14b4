package index

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
)

// An External is where a Service is reached from outside of its cluster.
type External struct {
	Addrs []netip.Addr // each once
	Hosts []string     // fully qualified, each once
}

func (e *External) equal(o *External) bool {
	if e == nil || o == nil {
		return e == o
	}
	return slices.Equal(e.Addrs, o.Addrs) && slices.Equal(e.Hosts, o.Hosts)
}

// An externalTable finds the Services that have an address outside of the
// cluster, by name. It never changes once published, nor do its lists.
type externalTable = bart.Table[[]ObjectKey]

// ExternalOwners are the Services that are shown and have this address outside
// of the cluster, by name. The list belongs to the Index.
func (x *Index) ExternalOwners(a netip.Addr) []ObjectKey {
	list, _ := x.external.Load().Lookup(a)
	return list
}

// HasExternalIn tells whether a Service has an address outside of the cluster
// that is in the prefix.
func (x *Index) HasExternalIn(p netip.Prefix) bool { return x.external.Load().OverlapsPrefix(p) }

// AllExternal yields the addresses in the prefix that Services have outside of
// the cluster, in order.
func (x *Index) AllExternal(p netip.Prefix, yield func(netip.Addr) bool) {
	for host := range x.external.Load().Subnets(p) {
		if !yield(host.Addr()) {
			return
		}
	}
}

// publishExternal makes the Service an owner of the addresses in next, and no
// more of those in old alone.
func (x *Index) publishExternal(key ObjectKey, old, next []netip.Addr) {
	if slices.Equal(old, next) {
		return
	}
	table := x.external.Load()
	modify := func(a netip.Addr, change func([]ObjectKey) []ObjectKey) {
		table = table.ModifyPersist(netip.PrefixFrom(a, a.BitLen()), func(list []ObjectKey, _ bool) ([]ObjectKey, bool) {
			list = change(slices.Clone(list))
			return list, len(list) == 0
		})
	}
	for _, a := range next {
		modify(a, func(list []ObjectKey) []ObjectKey {
			at, found := slices.BinarySearchFunc(list, key, ObjectKey.compare)
			if found {
				return list
			}
			return slices.Insert(list, at, key)
		})
	}
	for _, a := range old {
		if slices.Contains(next, a) {
			continue
		}
		modify(a, func(list []ObjectKey) []ObjectKey {
			return slices.DeleteFunc(list, func(k ObjectKey) bool { return k == key })
		})
	}
	x.external.Store(table)
}

func (st *State) externalAddrs() []netip.Addr {
	if st == nil || st.Service.External == nil {
		return nil
	}
	return st.Service.External.Addrs
}
