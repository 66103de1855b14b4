package index

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// A twin is a slow, obvious Index: it keeps the objects and scans them all for
// every question.
type twin struct {
	options    Options
	services   map[ObjectKey]*Service
	slices     map[ObjectKey]*Slice
	namespaces map[string]bool
	pods       map[ObjectKey]*Pod
}

func newTwin(o Options) *twin {
	return &twin{o, map[ObjectKey]*Service{}, map[ObjectKey]*Slice{}, map[string]bool{}, map[ObjectKey]*Pod{}}
}

func (w *twin) shows(namespace string) bool {
	if len(w.options.Namespaces) > 0 && !slices.Contains(w.options.Namespaces, namespace) {
		return false
	}
	if slices.Contains(w.options.Denied.Names, namespace) {
		return false
	}
	return !w.options.SelectNamespaces || w.namespaces[namespace]
}

func (w *twin) service(key ObjectKey) *Service {
	if s := w.services[key]; s != nil && w.shows(key.Namespace) {
		return s
	}
	return nil
}

func (w *twin) hasNamespace(name string) bool {
	if !w.shows(name) {
		return false
	}
	for key := range w.services {
		if key.Namespace == name {
			return true
		}
	}
	return w.namespaces[name]
}

// endpoints calls f for every ready endpoint of the service that has names.
func (w *twin) endpoints(key ObjectKey, f func(a netip.Addr, label string)) {
	s := w.service(key)
	if s == nil || s.Type == ExternalName {
		return
	}
	for _, sl := range w.slices {
		if sl.Namespace == key.Namespace && sl.Service == key.Name {
			for i := range sl.Len() {
				f(sl.Addr(i), sl.Label(i))
			}
		}
	}
}

func (w *twin) addrs(key ObjectKey, f Family) []netip.Addr {
	set := map[netip.Addr]bool{}
	w.endpoints(key, func(a netip.Addr, _ string) {
		if a.Is6() == (f == IPv6) {
			set[a] = true
		}
	})
	return slices.SortedFunc(maps.Keys(set), netip.Addr.Compare)
}

func (w *twin) labelled(key ObjectKey, label string, f Family) ([]netip.Addr, bool) {
	set, found := map[netip.Addr]bool{}, false
	w.endpoints(key, func(a netip.Addr, l string) {
		if l == label || (l == "" && DashedLabel(a) == label) {
			found = true
			if a.Is6() == (f == IPv6) {
				set[a] = true
			}
		}
	})
	return slices.SortedFunc(maps.Keys(set), netip.Addr.Compare), found
}

func (w *twin) owners(a netip.Addr) []Owner {
	set := map[Owner]bool{}
	for key := range w.services {
		s := w.service(key)
		if s == nil {
			continue
		}
		if slices.Contains(s.ClusterIPs, a) {
			set[Owner{Key: key, ClusterIP: true}] = true
		}
		w.endpoints(key, func(b netip.Addr, label string) {
			if a == b {
				set[Owner{Key: key, Label: label}] = true
			}
		})
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b Owner) int {
		rank := func(o Owner) int {
			switch {
			case o.ClusterIP:
				return 0
			case o.Label != "":
				return 1
			}
			return 2
		}
		text := func(o Owner) string { return fmt.Sprintf("%s.%s.%s.svc", o.Label, o.Key.Name, o.Key.Namespace) }
		return cmp.Or(rank(a)-rank(b), cmp.Compare(text(a), text(b)))
	})
}

func (w *twin) externalOwners(a netip.Addr) []ObjectKey {
	var keys []ObjectKey
	for key := range w.services {
		if s := w.service(key); s != nil && s.External != nil && slices.Contains(s.External.Addrs, a) {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, ObjectKey.compare)
	return keys
}

// A script makes the same random changes to an Index and its twin.
type script struct {
	rand *rand.Rand
	x    *Index
	w    *twin
	rv   uint64
}

var (
	someNamespaces = []string{"a", "b", "c"}
	someNames      = []string{"web", "db", "x"}
	someLabels     = []string{"", "", "pod-0", "pod-1"}
)

func pick[T any](s *script, from []T) T { return from[s.rand.IntN(len(from))] }

func (s *script) key() ObjectKey { return ObjectKey{pick(s, someNamespaces), pick(s, someNames)} }

func (s *script) addr(f Family) netip.Addr {
	n := byte(s.rand.IntN(6))
	if f == IPv6 {
		return netip.AddrFrom16([16]byte{0: 0xfd, 15: n})
	}
	return netip.AddrFrom4([4]byte{10, n % 2, 0, n})
}

func (s *script) service(key ObjectKey) *Service {
	s.rv++
	svc := &Service{ObjectKey: key, ResourceVersion: s.rv, Type: ServiceType(s.rand.IntN(3))}
	if svc.Type == ClusterIP {
		svc.ClusterIPs = []netip.Addr{s.addr(IPv4)}
	}
	if s.rand.IntN(2) == 0 {
		svc.External = &External{Addrs: []netip.Addr{s.addr(IPv4), s.addr(IPv6)}[s.rand.IntN(2):]}
	}
	return svc
}

func (s *script) slice(key ObjectKey) *Slice {
	s.rv++
	f := pick(s, []Family{IPv4, IPv6})
	var endpoints []Endpoint
	for range s.rand.IntN(5) {
		endpoints = append(endpoints, Endpoint{Addr: s.addr(f), Label: pick(s, someLabels), TopologyZone: pick(s, []string{"", "z1"})})
	}
	return NewSlice(key, s.rv, pick(s, someNames), []Port{{Name: "http", Protocol: "tcp", Number: 80}}, endpoints)
}

func (s *script) sliceKey() ObjectKey {
	return ObjectKey{pick(s, someNamespaces), fmt.Sprintf("slice-%d", s.rand.IntN(6))}
}

func (s *script) step() {
	switch s.rand.IntN(12) {
	case 0, 1:
		svc := s.service(s.key())
		s.x.SetService(svc)
		s.w.services[svc.ObjectKey] = svc
	case 2:
		key := s.key()
		s.x.DeleteService(key, s.rv)
		delete(s.w.services, key)
	case 3, 4, 5:
		sl := s.slice(s.sliceKey())
		s.x.SetSlice(sl)
		s.w.slices[sl.ObjectKey] = sl
	case 6:
		key := s.sliceKey()
		s.x.DeleteSlice(key, s.rv)
		delete(s.w.slices, key)
	case 7:
		name := pick(s, someNamespaces)
		s.x.SetNamespace(&Namespace{Name: name})
		s.w.namespaces[name] = true
	case 8:
		name := pick(s, someNamespaces)
		s.x.DeleteNamespace(name, s.rv)
		delete(s.w.namespaces, name)
	case 9:
		s.relistSlices()
	case 10:
		s.relistServices()
	case 11:
		s.pod()
	}
}

func (s *script) relistSlices() {
	var list []*Slice
	for key, sl := range s.w.slices {
		switch s.rand.IntN(4) {
		case 0:
			delete(s.w.slices, key)
			continue
		case 1:
			sl = s.slice(key)
			s.w.slices[key] = sl
		}
		list = append(list, sl)
	}
	s.x.ReplaceSlices(list, s.rv)
}

func (s *script) relistServices() {
	var list []*Service
	for key, svc := range s.w.services {
		if s.rand.IntN(4) == 0 {
			delete(s.w.services, key)
			continue
		}
		list = append(list, svc)
	}
	s.x.ReplaceServices(list, s.rv)
}

func (s *script) pod() {
	key := s.key()
	if s.rand.IntN(3) == 0 {
		s.x.DeletePod(key, s.rv)
		delete(s.w.pods, key)
		return
	}
	p := &Pod{ObjectKey: key, Addrs: []netip.Addr{s.addr(IPv4), s.addr(IPv6)}}
	s.x.SetPod(p)
	s.w.pods[key] = p
}

// check compares every answer.
func (s *script) check(t *testing.T) {
	t.Helper()
	for _, ns := range someNamespaces {
		if got, want := s.x.HasNamespace(ns), s.w.hasNamespace(ns); got != want {
			t.Fatalf("HasNamespace(%s) = %t; want %t", ns, got, want)
		}
		for _, name := range someNames {
			s.checkService(t, ObjectKey{ns, name})
		}
	}
	for n := range byte(6) {
		for _, a := range []netip.Addr{netip.AddrFrom4([4]byte{10, n % 2, 0, n}), netip.AddrFrom16([16]byte{0: 0xfd, 15: n})} {
			s.checkAddr(t, a)
		}
	}
	if got, want := s.x.Count(Services), len(s.w.services); got != want {
		t.Fatalf("Count(Services) = %d; want %d", got, want)
	}
	if got, want := s.x.Count(EndpointSlices), len(s.w.slices); got != want {
		t.Fatalf("Count(EndpointSlices) = %d; want %d", got, want)
	}
}

func (s *script) checkService(t *testing.T, key ObjectKey) {
	t.Helper()
	st, want := s.x.Service(key), s.w.service(key)
	if (st == nil) != (want == nil) {
		t.Fatalf("Service(%v) = %v; want %v", key, st, want)
	}
	if st == nil || want.Type == ExternalName {
		return
	}
	for _, f := range []Family{IPv4, IPv6} {
		if got, want := s.collect(t, st, f, s.rand.IntN(10)), s.w.addrs(key, f); !slices.Equal(got, want) {
			t.Fatalf("endpoints of %v, IPv%d: %v; want %v", key, f, got, want)
		}
		labels := []string{"pod-0", "pod-1", "10-0-0-0", "10-1-0-1", "fd00--0", "fd00--1", "fd00-0-0-0-0-0-0-1", "none"}
		for _, label := range labels {
			var got []netip.Addr
			found := s.x.Labelled(st, label, f, func(a netip.Addr) { got = append(got, a) })
			slices.SortFunc(got, netip.Addr.Compare)
			if want, wantFound := s.w.labelled(key, label, f); found != wantFound || !slices.Equal(got, want) {
				t.Fatalf("Labelled(%v, %s, IPv%d) = %v, %t; want %v, %t", key, label, f, got, found, want, wantFound)
			}
		}
	}
}

// collect reads the endpoints from start on. Where the state says that no
// address repeats, none must.
func (s *script) collect(t *testing.T, st *State, f Family, start int) []netip.Addr {
	t.Helper()
	var all []netip.Addr
	st.Endpoints(f, "", start, func(sl *Slice, from, to int) bool {
		for i := from; i < to; i++ {
			all = append(all, sl.Addr(i))
		}
		return true
	})
	if len(all) != st.Len(f, "") {
		t.Fatalf("Endpoints yields %d addresses; Len is %d", len(all), st.Len(f, ""))
	}
	slices.SortFunc(all, netip.Addr.Compare)
	set := slices.Compact(slices.Clone(all))
	if len(set) != len(all) && !st.Repeats() {
		t.Fatalf("addresses repeat without being said to: %v", all)
	}
	return set
}

func (s *script) checkAddr(t *testing.T, a netip.Addr) {
	t.Helper()
	want := s.w.owners(a)
	if got := s.x.Owners(a); !slices.Equal(got, want) {
		t.Fatalf("Owners(%s) = %v; want %v", a, got, want)
	}
	external := s.w.externalOwners(a)
	if got := s.x.ExternalOwners(a); !slices.Equal(got, external) {
		t.Fatalf("ExternalOwners(%s) = %v; want %v", a, got, external)
	}
	for _, bits := range []int{8, 16, a.BitLen()} {
		p, _ := a.Prefix(bits)
		any, outside := false, []netip.Addr(nil)
		for n := range byte(6) {
			for _, b := range []netip.Addr{netip.AddrFrom4([4]byte{10, n % 2, 0, n}), netip.AddrFrom16([16]byte{0: 0xfd, 15: n})} {
				any = any || (p.Contains(b) && len(s.w.owners(b)) > 0)
				if p.Contains(b) && len(s.w.externalOwners(b)) > 0 {
					outside = append(outside, b)
				}
			}
		}
		if got := s.x.HasOwnersIn(p); got != any {
			t.Fatalf("HasOwnersIn(%s) = %t; want %t", p, got, any)
		}
		var all []netip.Addr
		s.x.AllExternal(p, func(a netip.Addr) bool { all = append(all, a); return true })
		slices.SortFunc(outside, netip.Addr.Compare)
		if got := s.x.HasExternalIn(p); got != (len(outside) > 0) || !slices.Equal(all, outside) {
			t.Fatalf("in %s: HasExternalIn %t, AllExternal %v; want %v", p, got, all, outside)
		}
	}
	var pods []ObjectKey
	for key, p := range s.w.pods {
		if slices.Contains(p.Addrs, a) {
			pods = append(pods, key)
		}
	}
	var got []ObjectKey
	for _, p := range s.x.PodsAt(a) {
		got = append(got, p.ObjectKey)
	}
	slices.SortFunc(pods, ObjectKey.compare)
	slices.SortFunc(got, ObjectKey.compare)
	if !slices.Equal(got, pods) {
		t.Fatalf("PodsAt(%s) = %v; want %v", a, got, pods)
	}
}

func TestIndexAgainstTwin(t *testing.T) {
	for name, o := range map[string]Options{
		"everything":          {},
		"listed namespaces":   {Namespaces: []string{"a", "b"}},
		"selected namespaces": {SelectNamespaces: true},
		"denied namespaces":   {Denied: Denial{Names: []string{"b"}}, SelectNamespaces: true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20) {
				s := &script{rand: rand.New(rand.NewPCG(seed, 1)), x: New(o), w: newTwin(o)}
				for range 150 {
					s.step()
					s.check(t)
				}
			}
		})
	}
}
