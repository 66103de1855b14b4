package index

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDashedLabel(t *testing.T) {
	for addr, want := range map[string]string{
		"10.0.0.1":              "10-0-0-1",
		"2001:db8::1":           "2001-db8--1",
		"2001:db8::":            "2001-db8--0",
		"::1":                   "--1",
		"2001:db8:1:2:3:4:5:6":  "2001-db8-1-2-3-4-5-6",
		"2001:db8:1:2:3:4:5:0":  "2001-db8-1-2-3-4-5-0",
		"2001:db8:0:1:1:1:1:1":  "2001-db8-0-1-1-1-1-1",
		"2001:db8:a:b:c:d:e:ff": "2001-db8-a-b-c-d-e-ff",
	} {
		a := netip.MustParseAddr(addr)
		if got := DashedLabel(a); got != want {
			t.Errorf("DashedLabel(%s) = %s; want %s", addr, got, want)
		}
		if got, ok := ParseDashed(want); !ok || got != a {
			t.Errorf("ParseDashed(%s) = %s, %t; want %s", want, got, ok, addr)
		}
	}
}

func TestParseDashedAnySpelling(t *testing.T) {
	for label, want := range map[string]string{
		"1-2-3-4":                     "1.2.3.4",
		"0-0-0-0":                     "0.0.0.0",
		"2001-db8--1":                 "2001:db8::1",
		"2001-db8-0-0-0-0-0-1":        "2001:db8::1",
		"2001-0db8--0001":             "2001:db8::1",
		"2001-db8--":                  "2001:db8::",
		"2001-db8--0":                 "2001:db8::",
		"--":                          "::",
		"--1":                         "::1",
		"1--":                         "1::",
		"01-2-3-4":                    "",
		"256-2-3-4":                   "",
		"1-2-3":                       "",
		"1-2-3-4-5":                   "",
		"1-2-3-x":                     "",
		"1--2--3":                     "",
		"1---2":                       "",
		"-1--2":                       "",
		"1--2-":                       "",
		"1-2-3-4-5-6-7-8-9":           "",
		"1-2-3-4-5-6-7--8":            "1:2:3:4:5:6:7:8 is not compressed",
		"12345--1":                    "",
		"--ffff-1-2-3-4":              "0:0:ffff:1:2:3:4 has seven groups",
		"--ffff-102-304":              "", // IPv4-mapped
		"fd00--g":                     "",
		"pod-0":                       "",
		"":                            "",
		"1-2-3-4.5":                   "",
		"1111-2222-3333-4444-5-6-7-8": "1111:2222:3333:4444:5:6:7:8",
	} {
		got, ok := ParseDashedAnySpelling(label)
		wanted, err := netip.ParseAddr(want)
		switch {
		case label == "1-2-3-4-5-6-7--8":
			wanted, err = netip.Addr{}, fmt.Errorf("eight groups and a gap")
		case label == "--ffff-1-2-3-4":
			wanted, err = netip.MustParseAddr("::ffff:1:2:3:4"), nil
		}
		if ok != (err == nil) || (ok && got != wanted) {
			t.Errorf("ParseDashedAnySpelling(%q) = %s, %t; want %q", label, got, ok, want)
		}
	}
}

func TestParseDashedTakesOneSpelling(t *testing.T) {
	for _, label := range []string{"2001-db8-0-0-0-0-0-1", "2001-0db8--1", "2001-db8--", "01-2-3-4"} {
		if a, ok := ParseDashed(label); ok {
			t.Errorf("ParseDashed(%q) = %s; want none", label, a)
		}
	}
}

func slice(key ObjectKey, service string, from, n int) *Slice {
	var endpoints []Endpoint
	for i := from; i < from+n; i++ {
		endpoints = append(endpoints, Endpoint{Addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})})
	}
	return NewSlice(key, 1, service, []Port{{Name: "http", Protocol: "tcp", Number: 80}}, endpoints)
}

func headless(x *Index, endpoints int) *State {
	key := ObjectKey{"ns", "db"}
	x.ReplaceServices([]*Service{{ObjectKey: key, Type: Headless}}, 1)
	var list []*Slice
	for from := 0; from < endpoints; from += 20 {
		list = append(list, slice(ObjectKey{"ns", fmt.Sprintf("db-%05d", from)}, "db", from, min(20, endpoints-from)))
	}
	x.ReplaceSlices(list, 1)
	return x.Service(key)
}

// A lookup costs no allocation, whatever the size of the service.
func TestLookupsDoNotAllocate(t *testing.T) {
	for _, n := range []int{20, 20000} {
		x := New(Options{})
		headless(x, n)
		x.SetPod(&Pod{ObjectKey: ObjectKey{"ns", "p"}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}})
		x.SetNamespace(&Namespace{Name: "ns"})
		lookups := func() {
			st := x.Service(ObjectKey{"ns", "db"})
			if !x.Labelled(st, "10-0-0-1", IPv4, func(netip.Addr) {}) || x.Labelled(st, "none", IPv4, func(netip.Addr) {}) {
				t.Error("wrong label")
			}
			if !x.HasOwners(netip.MustParseAddr("10.0.0.1")) || !x.HasNamespace("ns") || len(x.PodsAt(netip.MustParseAddr("10.0.0.1"))) != 1 {
				t.Error("not found")
			}
			if st.Endpoints(IPv4, "", 7, func(*Slice, int, int) bool { return false }); st.Len(IPv6, "") != 0 {
				t.Error("wrong family")
			}
		}
		if got := testing.AllocsPerRun(100, lookups); got != 0 {
			t.Errorf("%d endpoints: %v allocations; want 0", n, got)
		}
	}
}

// An address that moves between slices in one relist is never missing, and no
// reader sees a part of a set.
func TestRelistIsOneStep(t *testing.T) {
	x := New(Options{})
	headless(x, 40)
	a, b := ObjectKey{"ns", "db-00000"}, ObjectKey{"ns", "db-00020"}
	lists := [][]*Slice{
		{slice(a, "db", 0, 20), slice(b, "db", 20, 20)},
		{slice(a, "db", 20, 20), slice(b, "db", 0, 20)},
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				set := map[netip.Addr]bool{}
				st := x.Service(ObjectKey{"ns", "db"})
				st.Endpoints(IPv4, "", 0, func(s *Slice, from, to int) bool {
					for i := from; i < to; i++ {
						set[s.Addr(i)] = true
					}
					return true
				})
				if len(set) != 40 {
					t.Errorf("%d endpoints; want 40", len(set))
					return
				}
				if !x.Labelled(st, "10-0-0-7", IPv4, func(netip.Addr) {}) {
					t.Error("10-0-0-7 is missing")
					return
				}
			}
		})
	}
	for i := range 500 {
		x.ReplaceSlices(lists[i%2], uint64(i))
	}
	close(stop)
	readers.Wait()
}

func TestRotationGivesEachEndpointItsTurn(t *testing.T) {
	x := New(Options{})
	st := headless(x, 130)
	count := map[netip.Addr]int{}
	const window = 13
	for range 130 / window * 4 {
		left := window
		st.Endpoints(IPv4, "", st.Advance(RotateA, window), func(s *Slice, from, to int) bool {
			for i := from; i < to && left > 0; i++ {
				count[s.Addr(i)]++
				left--
			}
			return left > 0
		})
	}
	for a, n := range count {
		if n != 4 {
			t.Errorf("%s came %d times; want 4", a, n)
		}
	}
	if len(count) != 130 {
		t.Errorf("%d endpoints came; want 130", len(count))
	}
}

func TestSerialOnlyGrows(t *testing.T) {
	x := New(Options{})
	for _, step := range []struct{ rv, want uint64 }{{5, 5}, {3, 5}, {9, 9}} {
		x.DeleteService(ObjectKey{"ns", "none"}, step.rv)
		if got := x.Serial(); got != step.want {
			t.Errorf("after %d the serial is %d; want %d", step.rv, got, step.want)
		}
	}
}

func TestEqualObjectsAreShared(t *testing.T) {
	x := New(Options{})
	headless(x, 20)
	key := ObjectKey{"ns", "db-00000"}
	held := x.SameSlice(slice(key, "db", 0, 20))
	if again := x.SameSlice(slice(key, "db", 0, 20)); again != held {
		t.Error("an equal slice is not shared")
	}
	if other := slice(key, "db", 1, 20); x.SameSlice(other) != other {
		t.Error("a changed slice is taken for the old one")
	}
}

// The cost of a change to one slice does not grow with the service.
func BenchmarkSliceUpdate(b *testing.B) {
	for _, n := range []int{20, 2000, 20000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			x := New(Options{})
			headless(x, n)
			key := ObjectKey{"ns", "db-00000"}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				x.SetSlice(slice(key, "db", i%2, 20))
			}
		})
	}
}

func BenchmarkService(b *testing.B) {
	x := New(Options{})
	var list []*Service
	for i := range 20000 {
		list = append(list, &Service{ObjectKey: ObjectKey{fmt.Sprintf("ns%d", i%100), fmt.Sprintf("svc%d", i)}})
	}
	x.ReplaceServices(list, 1)
	keys := make([]ObjectKey, 1024)
	for i := range keys {
		keys[i] = list[rand.IntN(len(list))].ObjectKey
	}
	for i := 0; b.Loop(); i++ {
		if x.Service(keys[i%len(keys)]) == nil {
			b.Fatal("missing")
		}
	}
}
