package index

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// A set built by random changes holds what a list does that is changed in the
// same way, and finds the same by position, in every topology zone.
func TestSliceSetAgainstList(t *testing.T) {
	for seed := range uint64(2) {
		random := rand.New(rand.NewPCG(seed, 3))
		var set *node
		var list []*Slice // by name
		for step := range 6000 {
			name := fmt.Sprintf("s-%04d", random.IntN(1500))
			at, found := findSlice(list, name)
			grow := step < 3000 // then it shrinks to nothing
			if grow == (random.IntN(5) > 0) {
				s := someSlice(random, name)
				set = set.with(s)
				if found {
					list[at] = s
				} else {
					list = slices.Insert(list, at, s)
				}
			} else if found {
				set = set.without(name)
				list = slices.Delete(list, at, at+1)
			}
			if step%500 == 0 {
				compareSet(t, random, set, list)
			}
		}
		for len(list) > 0 {
			set = set.without(list[0].Name)
			list = list[1:]
		}
		if set != nil {
			t.Fatalf("seed %d: a set without Slices is not nil", seed)
		}
	}
}

func someSlice(random *rand.Rand, name string) *Slice {
	var endpoints []Endpoint
	base := netip.AddrFrom4([4]byte{10, byte(random.IntN(256)), byte(random.IntN(256)), 0}).As4()
	v6 := random.IntN(3) == 0
	for i := range random.IntN(4) {
		a := netip.AddrFrom4([4]byte{base[0], base[1], base[2], byte(i)})
		if v6 {
			a = netip.AddrFrom16([16]byte{0: 0xfd, 14: base[2], 15: byte(i)})
		}
		endpoints = append(endpoints, Endpoint{Addr: a, TopologyZone: []string{"", "a", "b"}[random.IntN(3)]})
	}
	ports := []Port{{Number: uint16(80 + random.IntN(3))}}
	s := NewSlice(ObjectKey{"ns", name}, 1, "db", ports, endpoints)
	s.Cluster = []string{"", "east", "west"}[random.IntN(3)]
	return s
}

func compareSet(t *testing.T, random *rand.Rand, set *node, list []*Slice) {
	t.Helper()
	var all []*Slice
	set.all(func(s *Slice) bool { all = append(all, s); return true })
	if !slices.Equal(all, list) {
		t.Fatalf("%d Slices; want %d", len(all), len(list))
	}
	st := &State{slices: set}
	var ports []uint16
	clusters := map[string]bool{}
	for _, s := range list {
		if s.Len() > 0 && !slices.Contains(ports, s.Ports[0].Number) {
			ports = append(ports, s.Ports[0].Number)
		}
		if s.Len() > 0 && s.Cluster != "" {
			clusters[s.Cluster] = true
		}
	}
	if got := st.EndpointPorts(); len(got) != len(ports) {
		t.Fatalf("%d lists of ports; want %d", len(got), len(ports))
	}
	for _, id := range []string{"east", "west", "north"} {
		if st.InCluster(id) != clusters[id] {
			t.Fatalf("InCluster(%s) = %t", id, !clusters[id])
		}
	}
	for _, f := range []Family{IPv4, IPv6} {
		for _, zone := range []string{"", "a", "B", "none"} {
			var want []netip.Addr
			for _, s := range list {
				for i := range s.Len() {
					if s.family() == f && (zone == "" || zoneOf(s, i) == strings.ToLower(zone)) {
						want = append(want, s.Addr(i))
					}
				}
			}
			start := random.IntN(len(want) + 5)
			var got []netip.Addr
			st.Endpoints(f, zone, start, func(s *Slice, from, to int) bool {
				for i := from; i < to; i++ {
					got = append(got, s.Addr(i))
				}
				return true
			})
			if len(want) > 0 {
				start %= len(want)
				want = slices.Concat(want[start:], want[:start])
			}
			if !slices.Equal(got, want) || st.Len(f, zone) != len(want) {
				t.Fatalf("IPv%d in zone %q from %d: %d addresses, Len %d; want %d", f, zone, start, len(got), st.Len(f, zone), len(want))
			}
		}
	}
}

func zoneOf(s *Slice, i int) string {
	for _, z := range s.zones {
		if i < z.end {
			return z.name
		}
	}
	return ""
}

// A change to one slice costs the same whatever the size of the Service, but for
// the levels of the tree above it.
func TestSliceUpdateIsFlat(t *testing.T) {
	cost := func(endpoints int) (allocations float64, octets int64) {
		x := New(Options{})
		headless(x, endpoints)
		key := ObjectKey{"ns", fmt.Sprintf("db-%05d", endpoints/2/20*20)}
		versions := [2]*Slice{slice(key, "db", 1<<20, 20), slice(key, "db", 1<<20+1, 20)} // one address differs
		n := 0
		update := func() {
			n++
			s := *versions[n%2]
			x.SetSlice(&s)
		}
		const updates = 100
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		allocations = testing.AllocsPerRun(updates-1, update) // and once to warm up
		runtime.ReadMemStats(&after)
		return allocations, int64(after.TotalAlloc-before.TotalAlloc) / updates
	}
	small, smallOctets := cost(20)
	large, largeOctets := cost(20_000)
	t.Logf("20 endpoints: %v allocations, %d octets; 20,000: %v, %d", small, smallOctets, large, largeOctets)
	// Two more levels, each a node, its list and what it has in common.
	if large > small+8 {
		t.Errorf("%v allocations with 20,000 endpoints; %v with 20", large, small)
	}
	if most := smallOctets + 2<<10; largeOctets > most {
		t.Errorf("%d octets with 20,000 endpoints; want at most %d", largeOctets, most)
	}
}
