package index

import (
	"fmt"
	"net/netip"
	"testing"
)

// Whichever of a Namespace, a Service and its Slices comes first, the Service is
// shown as soon as it is known (and, where namespaces are selected, its
// namespace), with all Slices that are known by then; and the namespace exists
// as soon as either is.
func TestOrderOfArrival(t *testing.T) {
	service := ObjectKey{"prod", "db"}
	slice := func(name, address string) *Slice {
		return NewSlice(ObjectKey{"prod", name}, 1, "db", nil, []Endpoint{{Addr: netip.MustParseAddr(address)}})
	}
	arrivals := []struct {
		name string
		give func(*Index)
	}{
		{"namespace", func(x *Index) { x.SetNamespace(&Namespace{Name: "prod"}) }},
		{"service", func(x *Index) { x.SetService(&Service{ObjectKey: service, Type: Headless}) }},
		{"a slice", func(x *Index) { x.SetSlice(slice("db-a", "192.0.2.1")) }},
		{"another slice", func(x *Index) { x.SetSlice(slice("db-b", "192.0.2.2")) }},
	}
	for _, selects := range []Options{{}, {SelectNamespaces: true}} {
		permute(len(arrivals), func(order []int) {
			x := New(selects)
			came := make(map[string]bool)
			text := ""
			for _, n := range order {
				arrivals[n].give(x)
				came[arrivals[n].name] = true
				text += arrivals[n].name + ", "
				known := 0
				for _, name := range []string{"a slice", "another slice"} {
					if came[name] {
						known++
					}
				}
				st := x.Service(service)
				shown := came["service"] && (came["namespace"] || !selects.SelectNamespaces)
				switch {
				case (st != nil) != shown:
					t.Errorf("%+v, %s: shown %t; want %t", selects, text, st != nil, shown)
				case st != nil && st.Len(IPv4, "") != known:
					t.Errorf("%+v, %s: %d endpoints; want %d", selects, text, st.Len(IPv4, ""), known)
				}
				if exists := came["namespace"] || shown; x.HasNamespace("prod") != exists {
					t.Errorf("%+v, %s: namespace exists %t; want %t", selects, text, !exists, exists)
				}
			}
		})
	}
}

// A Service that is deleted and made again comes back with its Slices, and a
// Slice that is with its endpoints.
func TestMadeAgain(t *testing.T) {
	x := New(Options{})
	key := ObjectKey{"prod", "db"}
	for n := range 3 {
		x.SetService(&Service{ObjectKey: key, Type: Headless, ResourceVersion: uint64(2*n + 1)})
		x.SetSlice(NewSlice(ObjectKey{"prod", "db-a"}, 1, "db", nil, []Endpoint{{Addr: netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", n))}}))
		if st := x.Service(key); st == nil || st.Len(IPv4, "") != 1 {
			t.Fatalf("round %d: %v; want one endpoint", n, st)
		}
		x.DeleteService(key, uint64(2*n+2))
		if x.Service(key) != nil {
			t.Fatalf("round %d: shown after it was deleted", n)
		}
	}
}

// permute calls do with every order of 0 to n-1.
func permute(n int, do func([]int)) {
	order := make([]int, n)
	var place func(at int, used uint)
	place = func(at int, used uint) {
		if at == n {
			do(order)
			return
		}
		for i := range n {
			if used&(1<<i) == 0 {
				order[at] = i
				place(at+1, used|1<<i)
			}
		}
	}
	place(0, 0)
}
