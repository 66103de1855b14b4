// Package index holds the joined state of a cluster that every query reads:
// Services with their EndpointSlices, Pods by address, Namespaces, and the
// owners of every address.
//
// Readers never lock and never wait; lookups do not allocate. Writers are
// serialized. A Service and its Slices change together in one step; a Replace
// never shows a Service with a part of its Slices.
package index

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/puzpuzpuz/xsync/v4"
)

// A Kind is a kind of Kubernetes object that an Index holds.
type Kind uint8

const (
	Services Kind = iota
	EndpointSlices
	Namespaces
	Pods
	numKinds
)

// Kinds are all kinds.
var Kinds = []Kind{Services, EndpointSlices, Namespaces, Pods}

// String is the resource's name in the Kubernetes API.
func (k Kind) String() string {
	return [numKinds]string{"services", "endpointslices", "namespaces", "pods"}[k]
}

// Options say which objects an Index shows.
type Options struct {
	// Namespaces, if not empty, are the only ones shown.
	Namespaces []string
	// Denied namespaces are never shown.
	Denied Denial
	// SelectNamespaces shows the objects of a namespace only while the
	// namespace itself is in the Index, as a label selector asks.
	SelectNamespaces bool
}

// Hide tells whether the options leave the namespace out, which is known without
// any object.
func (o Options) Hide(namespace string) bool {
	return (len(o.Namespaces) > 0 && !slices.Contains(o.Namespaces, namespace)) || o.Denied.Denies(namespace)
}

// An Index is safe for concurrent use. Make one with New.
type Index struct {
	options    Options
	services   *xsync.Map[ObjectKey, *entry]
	labels     *xsync.Map[labelKey, []labelled]
	namespaces *xsync.Map[string, namespace]
	pods       *xsync.Map[netip.Addr, []*Pod]
	addresses  addressTable
	external   atomic.Pointer[externalTable]
	serial     atomic.Uint64
	held       [numKinds]atomic.Bool
	counts     [numKinds]atomic.Int64

	mu          sync.Mutex // guards what only writers use: the rest, and entries
	slicesByKey map[ObjectKey]*Slice
	podsByKey   map[ObjectKey]*Pod
	changed     []*entry     // those with pending changes
	names       []nameChange // room for the changes of one entry
}

// A namespace exists as an object, or because a Service in it is shown: the
// two may arrive in any order, and a name with names below it exists
// (RFC 8020).
type namespace struct {
	object   *Namespace
	services int
}

// New returns an empty Index.
func New(o Options) *Index {
	x := &Index{
		options:     o,
		services:    xsync.NewMap[ObjectKey, *entry](),
		labels:      xsync.NewMap[labelKey, []labelled](),
		namespaces:  xsync.NewMap[string, namespace](),
		pods:        xsync.NewMap[netip.Addr, []*Pod](),
		slicesByKey: map[ObjectKey]*Slice{},
		podsByKey:   map[ObjectKey]*Pod{},
	}
	x.addresses.init()
	x.external.Store(new(externalTable))
	return x
}

// Holds tells whether all objects of a kind have been given at least once, by a
// Replace. Before that, what is missing may exist.
func (x *Index) Holds(k Kind) bool { return x.held[k].Load() }

// Count is the number of objects of a kind, hidden ones included.
func (x *Index) Count(k Kind) int { return int(x.counts[k].Load()) }

// Serial is the highest resource version seen.
func (x *Index) Serial() uint64 { return x.serial.Load() }

// Hides is Options.Hide of the Index's own.
func (x *Index) Hides(namespace string) bool { return x.options.Hide(namespace) }

// SelectsNamespaces tells whether a Service is shown only while its namespace
// is known.
func (x *Index) SelectsNamespaces() bool { return x.options.SelectNamespaces }

// Service finds a Service that is shown, or nil.
func (x *Index) Service(key ObjectKey) *State {
	if e, ok := x.services.Load(key); ok {
		return e.state.Load()
	}
	return nil
}

// AllServices yields every Service that is shown, in no order. It may miss or
// hold what changes meanwhile.
func (x *Index) AllServices(yield func(*State) bool) {
	x.services.Range(func(_ ObjectKey, e *entry) bool {
		st := e.state.Load()
		return st == nil || yield(st)
	})
}

// HasNamespace tells whether the namespace exists and is shown.
func (x *Index) HasNamespace(name string) bool {
	_, ok := x.namespaces.Load(name)
	return ok
}

// AllNamespaces yields every namespace that is shown, in no order.
func (x *Index) AllNamespaces(yield func(name string) bool) {
	x.namespaces.Range(func(name string, _ namespace) bool { return yield(name) })
}

// Labelled calls yield for each ready address of one family that carries the
// label below the Service, and reports whether any address of either family
// does. The label is in lower case. An endpoint with a name has no dashed label.
func (x *Index) Labelled(st *State, label string, f Family, yield func(netip.Addr)) (found bool) {
	if list, ok := x.labels.Load(labelKey{st.entry, label}); ok {
		for _, l := range list {
			if l.addr.Is6() == (f == IPv6) {
				yield(l.addr)
			}
		}
		found = true
	}
	if addr, ok := ParseDashed(label); ok && x.addresses.has(addr, st.entry) {
		if addr.Is6() == (f == IPv6) {
			yield(addr)
		}
		found = true
	}
	return found
}

// PodsAt are the pods that have the address: one, or those that share their
// node's. Hidden ones are among them.
func (x *Index) PodsAt(a netip.Addr) []*Pod {
	pods, _ := x.pods.Load(a)
	return pods
}

// PodsIn are the pods of the namespace that are shown and have the address.
func (x *Index) PodsIn(namespace string, a netip.Addr) []*Pod {
	if x.hidden(namespace) {
		return nil
	}
	hidden := func(p *Pod) bool { return p.Hidden || p.Namespace != namespace }
	pods := x.PodsAt(a)
	if slices.ContainsFunc(pods, hidden) {
		pods = slices.DeleteFunc(slices.Clone(pods), hidden)
	}
	return pods
}

// AllPods yields every address that pods have, with the pods, hidden ones too,
// in no order.
func (x *Index) AllPods(yield func(a netip.Addr, pods []*Pod) bool) { x.pods.Range(yield) }

// ReplaceServices makes the Services those of the list, which is complete as of
// the resource version.
func (x *Index) ReplaceServices(list []*Service, resourceVersion uint64) {
	x.replace(Services, resourceVersion, func() int {
		listed := make(map[ObjectKey]bool, len(list))
		for _, s := range list {
			listed[s.ObjectKey] = true
			x.setService(s)
		}
		x.services.Range(func(key ObjectKey, e *entry) bool {
			if e.service != nil && !listed[key] {
				x.dropService(key)
			}
			return true
		})
		return len(listed)
	})
}

// SetService adds or changes a Service.
func (x *Index) SetService(s *Service) {
	x.update(s.ResourceVersion, func() { x.setService(s) })
}

// DeleteService takes a Service away. One that is not there is no error: a
// relist may replay a delete.
func (x *Index) DeleteService(key ObjectKey, resourceVersion uint64) {
	x.update(resourceVersion, func() { x.dropService(key) })
}

// ReplaceSlices makes the Slices those of the list, which is complete as of the
// resource version. Slices equal to those held before are shared with them.
func (x *Index) ReplaceSlices(list []*Slice, resourceVersion uint64) {
	x.replace(EndpointSlices, resourceVersion, func() int {
		listed := make(map[ObjectKey]bool, len(list))
		for _, s := range list {
			listed[s.ObjectKey] = true
			x.putSlice(s)
		}
		for key := range x.slicesByKey {
			if !listed[key] {
				x.takeSlice(key)
			}
		}
		x.publishChanged()
		return len(listed)
	})
}

// SetSlice adds or changes a Slice.
func (x *Index) SetSlice(s *Slice) {
	x.update(s.ResourceVersion, func() {
		x.putSlice(s)
		x.publishChanged()
	})
}

// DeleteSlice takes a Slice away.
func (x *Index) DeleteSlice(key ObjectKey, resourceVersion uint64) {
	x.update(resourceVersion, func() {
		x.takeSlice(key)
		x.publishChanged()
	})
}

// ReplaceNamespaces makes the Namespaces those of the list.
func (x *Index) ReplaceNamespaces(list []*Namespace, resourceVersion uint64) {
	x.replace(Namespaces, resourceVersion, func() int {
		listed := make(map[string]bool, len(list))
		for _, n := range list {
			listed[n.Name] = true
			x.setNamespace(n.Name, n)
		}
		x.namespaces.Range(func(name string, n namespace) bool {
			if n.object != nil && !listed[name] {
				x.setNamespace(name, nil)
			}
			return true
		})
		return len(listed)
	})
}

// SetNamespace adds or changes a Namespace.
func (x *Index) SetNamespace(n *Namespace) {
	x.update(n.ResourceVersion, func() { x.setNamespace(n.Name, n) })
}

// DeleteNamespace takes a Namespace away.
func (x *Index) DeleteNamespace(name string, resourceVersion uint64) {
	x.update(resourceVersion, func() { x.setNamespace(name, nil) })
}

// ReplacePods makes the Pods those of the list.
func (x *Index) ReplacePods(list []*Pod, resourceVersion uint64) {
	x.replace(Pods, resourceVersion, func() int {
		listed := make(map[ObjectKey]bool, len(list))
		for _, p := range list {
			listed[p.ObjectKey] = true
			x.setPod(p.ObjectKey, p)
		}
		for key := range x.podsByKey {
			if !listed[key] {
				x.setPod(key, nil)
			}
		}
		return len(listed)
	})
}

// SetPod adds or changes a Pod.
func (x *Index) SetPod(p *Pod) {
	x.update(p.ResourceVersion, func() { x.setPod(p.ObjectKey, p) })
}

// DeletePod takes a Pod away.
func (x *Index) DeletePod(key ObjectKey, resourceVersion uint64) {
	x.update(resourceVersion, func() { x.setPod(key, nil) })
}

// SameService returns the Service held under the same key if it is equal, else
// s: a relist that asks so keeps no second copy of what did not change.
func (x *Index) SameService(s *Service) *Service {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e, ok := x.services.Load(s.ObjectKey); ok && e.service != nil && e.service.equal(s) {
		return e.service
	}
	return s
}

// SameSlice is SameService for Slices.
func (x *Index) SameSlice(s *Slice) *Slice {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old, ok := x.slicesByKey[s.ObjectKey]; ok && old.equal(s) {
		return old
	}
	return s
}

// SamePod is SameService for Pods.
func (x *Index) SamePod(p *Pod) *Pod {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old, ok := x.podsByKey[p.ObjectKey]; ok && old.ResourceVersion == p.ResourceVersion && slices.Equal(old.Addrs, p.Addrs) {
		return old
	}
	return p
}

// replace runs a write that makes a kind complete; apply returns the number of
// objects there are then.
func (x *Index) replace(k Kind, resourceVersion uint64, apply func() int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := apply()
	x.counts[k].Store(int64(n))
	x.seen(resourceVersion)
	x.held[k].Store(true)
}

func (x *Index) update(resourceVersion uint64, apply func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	apply()
	x.seen(resourceVersion)
}

func (x *Index) seen(resourceVersion uint64) {
	if resourceVersion > x.serial.Load() {
		x.serial.Store(resourceVersion)
	}
}

func (x *Index) setService(s *Service) {
	e := x.entryFor(s.ObjectKey)
	if e.service == nil {
		x.counts[Services].Add(1)
	} else if e.service.equal(s) {
		return
	}
	s.ObjectKey = e.key // shares the strings
	e.service = s
	x.publish(e)
}

func (x *Index) dropService(key ObjectKey) {
	e, ok := x.services.Load(key)
	if !ok || e.service == nil {
		return
	}
	e.service = nil
	x.counts[Services].Add(-1)
	x.publish(e)
	x.forgetEmpty(e)
}

func (x *Index) entryFor(key ObjectKey) *entry {
	if e, ok := x.services.Load(key); ok {
		return e
	}
	e := &entry{key: key}
	e.dashed = &owners{{entry: e, count: 1}}
	x.services.Store(key, e)
	return e
}

func (x *Index) forgetEmpty(e *entry) {
	if e.service == nil && e.slices == nil {
		x.services.Delete(e.key)
	}
}

// putSlice and takeSlice change the slices of an entry, which publishChanged
// then shows: an endpoint that moves between slices within one Replace is never
// missing.
func (x *Index) putSlice(s *Slice) {
	old := x.slicesByKey[s.ObjectKey]
	switch {
	case old == nil:
		x.counts[EndpointSlices].Add(1)
	case old == s || old.equal(s):
		return
	case old.Service != s.Service:
		x.takeSlice(s.ObjectKey)
		x.counts[EndpointSlices].Add(1)
		old = nil
	}
	e := x.entryFor(ObjectKey{s.Namespace, s.Service})
	s.Namespace, s.Service = e.key.Namespace, e.key.Name // shares the strings
	if e.slices != nil {
		if shared := e.slices.shared(s.Ports); shared != nil {
			s.Ports = shared[0]
		}
	}
	x.slicesByKey[s.ObjectKey] = s
	e.slices = e.slices.with(s)
	x.change(e, sliceChange{old, s})
}

func (x *Index) takeSlice(key ObjectKey) {
	old, ok := x.slicesByKey[key]
	if !ok {
		return
	}
	delete(x.slicesByKey, key)
	x.counts[EndpointSlices].Add(-1)
	e, _ := x.services.Load(ObjectKey{old.Namespace, old.Service})
	e.slices = e.slices.without(old.Name)
	x.change(e, sliceChange{old, nil})
}

func (x *Index) change(e *entry, c sliceChange) {
	if e.pending == nil {
		x.changed = append(x.changed, e)
	}
	e.pending = append(e.pending, c)
}

func (x *Index) publishChanged() {
	for _, e := range x.changed {
		x.publish(e)
		x.forgetEmpty(e)
	}
	clear(x.changed)
	x.changed = x.changed[:0]
}

// publish shows the entry's Service, if it is to be shown, joined with its
// Slices. Names that appear are added to the other tables before names that go
// are taken away.
func (x *Index) publish(e *entry) {
	old := e.state.Load()
	var next *State
	if e.service != nil && !x.hidden(e.key.Namespace) {
		next = &State{Service: e.service, entry: e, slices: e.slices}
	}
	pending := e.pending
	e.pending = nil
	if old == nil && next == nil {
		return
	}
	changes := x.nameChanges(old, next, pending)
	for _, n := range changes {
		if n.count > 0 {
			x.addresses.add(n.addressName, e, n.count)
			x.relabel(e, n.addressName, n.count)
		}
	}
	if next != nil {
		next.repeats = e.repeated > 0
	}
	e.state.Store(next)
	x.publishExternal(e.key, old.externalAddrs(), next.externalAddrs())
	for _, n := range changes {
		if n.count < 0 {
			x.addresses.add(n.addressName, e, n.count)
			x.relabel(e, n.addressName, n.count)
		}
	}
	switch {
	case old == nil:
		x.countNamespace(e.key.Namespace, 1)
	case next == nil:
		x.countNamespace(e.key.Namespace, -1)
	}
}

// An addressName is a name that a Service gives to an address.
type addressName struct {
	addr      netip.Addr
	label     string
	clusterIP bool
}

func (n addressName) compare(o addressName) int {
	clusterIP := 0
	if n.clusterIP != o.clusterIP {
		clusterIP = 1
		if n.clusterIP {
			clusterIP = -1
		}
	}
	return cmp.Or(n.addr.Compare(o.addr), clusterIP, strings.Compare(n.label, o.label))
}

// A nameChange is by how many slices more, or fewer, an address has the name.
type nameChange struct {
	addressName
	count int
}

// mostNames is for how many changes room is kept: more than two slices hold.
const mostNames = 4096

// nameChanges are those from one state to the next; either may be nil. pending
// are the slices that differ, if both states give their endpoints names. The
// list is valid until the next call.
func (x *Index) nameChanges(old, next *State, pending []sliceChange) []nameChange {
	list := x.names[:0]
	before, after := old.namesEndpoints(), next.namesEndpoints()
	switch {
	case before && after:
		for _, c := range pending {
			list = appendDifference(list, c.old, c.next)
		}
	case before:
		old.slices.all(func(s *Slice) bool {
			list = appendDifference(list, s, nil)
			return true
		})
	case after:
		next.slices.all(func(s *Slice) bool {
			list = appendDifference(list, nil, s)
			return true
		})
	}
	if !slices.Equal(old.clusterIPs(), next.clusterIPs()) {
		for _, a := range next.clusterIPs() {
			list = append(list, nameChange{addressName{addr: a, clusterIP: true}, 1})
		}
		for _, a := range old.clusterIPs() {
			list = append(list, nameChange{addressName{addr: a, clusterIP: true}, -1})
		}
	}
	if x.names = nil; cap(list) <= mostNames {
		x.names = list
	}
	return sumUp(list)
}

// appendDifference appends the names that two versions of a Slice do not have
// in common. Either may be nil.
func appendDifference(list []nameChange, old, next *Slice) []nameChange {
	i, j := 0, 0
	for i < old.size() || j < next.size() {
		order := 0
		switch {
		case i == old.size():
			order = 1
		case j == next.size():
			order = -1
		default:
			order = cmp.Or(old.Addr(i).Compare(next.Addr(j)), strings.Compare(old.Label(i), next.Label(j)))
		}
		if order < 0 {
			list = append(list, nameChange{addressName{addr: old.Addr(i), label: old.Label(i)}, -1})
		} else if order > 0 {
			list = append(list, nameChange{addressName{addr: next.Addr(j), label: next.Label(j)}, 1})
		}
		if order <= 0 {
			i++
		}
		if order >= 0 {
			j++
		}
	}
	return list
}

// sumUp makes one change of all of a name, in place. Slices in topology zones
// are not sorted by address alone, and an endpoint may move between slices.
func sumUp(list []nameChange) []nameChange {
	slices.SortFunc(list, func(a, b nameChange) int { return a.compare(b.addressName) })
	n := 0
	for _, c := range list {
		if n > 0 && list[n-1].addressName == c.addressName {
			list[n-1].count += c.count
		} else {
			list[n] = c
			n++
		}
	}
	return list[:n]
}

// namesEndpoints tells whether the endpoints of the state have names; those of
// an alias have none.
func (st *State) namesEndpoints() bool { return st != nil && st.Service.Type != ExternalName }

func (st *State) clusterIPs() []netip.Addr {
	if st == nil {
		return nil
	}
	return st.Service.ClusterIPs
}

// relabel changes how many slices give the address its label.
func (x *Index) relabel(e *entry, n addressName, count int) {
	if n.label == "" {
		return
	}
	key := labelKey{e, n.label}
	list, _ := x.labels.Load(key)
	list = slices.Clone(list)
	at, found := slices.BinarySearchFunc(list, n.addr, func(l labelled, a netip.Addr) int { return l.addr.Compare(a) })
	if !found {
		list = slices.Insert(list, at, labelled{addr: n.addr})
	}
	if list[at].count += count; list[at].count == 0 {
		list = slices.Delete(list, at, at+1)
	}
	if len(list) == 0 {
		x.labels.Delete(key)
		return
	}
	x.labels.Store(key, slices.Clip(list))
}

func (x *Index) hidden(name string) bool {
	if x.Hides(name) {
		return true
	}
	if !x.options.SelectNamespaces {
		return false
	}
	n, _ := x.namespaces.Load(name)
	return n.object == nil
}

func (x *Index) countNamespace(name string, delta int) {
	n, _ := x.namespaces.Load(name)
	n.services += delta
	x.storeNamespace(name, n)
}

func (x *Index) storeNamespace(name string, n namespace) {
	if n.object == nil && n.services == 0 {
		x.namespaces.Delete(name)
		return
	}
	x.namespaces.Store(name, n)
}

// setNamespace adds the object, or takes it away if it is nil.
func (x *Index) setNamespace(name string, object *Namespace) {
	if x.Hides(name) {
		return
	}
	n, _ := x.namespaces.Load(name)
	had := n.object != nil
	n.object = object
	x.storeNamespace(name, n)
	if had == (object != nil) {
		return
	}
	if had {
		x.counts[Namespaces].Add(-1)
	} else {
		x.counts[Namespaces].Add(1)
	}
	if x.options.SelectNamespaces {
		x.services.Range(func(key ObjectKey, e *entry) bool {
			if key.Namespace == name {
				x.publish(e)
			}
			return true
		})
	}
}

// setPod adds the pod, or takes it away if it is nil.
func (x *Index) setPod(key ObjectKey, p *Pod) {
	old := x.podsByKey[key]
	if old == p {
		return
	}
	if p != nil {
		x.podsByKey[key] = p
		for _, a := range p.Addrs {
			x.changePodsAt(a, func(pods []*Pod) []*Pod { return append(pods, p) })
		}
	} else {
		delete(x.podsByKey, key)
	}
	if old != nil {
		for _, a := range old.Addrs {
			x.changePodsAt(a, func(pods []*Pod) []*Pod {
				return slices.DeleteFunc(pods, func(q *Pod) bool { return q == old })
			})
		}
	}
	x.counts[Pods].Store(int64(len(x.podsByKey)))
}

func (x *Index) changePodsAt(a netip.Addr, change func([]*Pod) []*Pod) {
	pods, _ := x.pods.Load(a)
	if pods = change(slices.Clone(pods)); len(pods) == 0 {
		x.pods.Delete(a)
		return
	}
	x.pods.Store(a, slices.Clip(pods))
}
