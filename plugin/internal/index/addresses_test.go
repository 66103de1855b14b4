package index

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// The table says of every address and every prefix what a plain list says.
func TestAddressTableAgainstList(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	x := New(Options{})
	e := x.entryFor(ObjectKey{"ns", "db"})
	address := func() netip.Addr {
		low := []byte{0, 1, 63, 64, 128, 255, byte(random.IntN(256))}[random.IntN(7)]
		if random.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{10, byte(random.IntN(3)), byte(random.IntN(4)), low})
		}
		return netip.AddrFrom16([16]byte{0: 0xfd, 13: byte(random.IntN(2)), 14: byte(random.IntN(4)), 15: low})
	}
	var held []netip.Addr // sorted
	for step := range 4000 {
		a := address()
		at, found := slices.BinarySearchFunc(held, a, netip.Addr.Compare)
		if keep := step < 2000 == (random.IntN(4) > 0); keep && !found {
			x.addresses.add(addressName{addr: a}, e, 1)
			held = slices.Insert(held, at, a)
		} else if !keep && found {
			x.addresses.add(addressName{addr: a}, e, -1)
			held = slices.Delete(held, at, at+1)
		}
		if x.HasOwners(a) != slices.Contains(held, a) {
			t.Fatalf("HasOwners(%s) = %t", a, x.HasOwners(a))
		}
		p, _ := address().Prefix([]int{0, 8, 12, 16, 20, 23, 24, 25, 28, 31, 32}[random.IntN(11)])
		if p.Addr().Is6() {
			p, _ = p.Addr().Prefix([]int{0, 8, 16, 112, 116, 120, 121, 124, 127, 128}[random.IntN(10)])
		}
		var want, got []netip.Addr
		for _, a := range held {
			if p.Contains(a) {
				want = append(want, a)
			}
		}
		x.AllAddresses(p, func(a netip.Addr) bool {
			got = append(got, a)
			return true
		})
		if !slices.Equal(got, want) || x.HasOwnersIn(p) != (len(want) > 0) {
			t.Fatalf("in %s: %v, any %t; want %v", p, got, x.HasOwnersIn(p), want)
		}
	}
	if e.repeated != 0 {
		t.Errorf("%d names too many; each address had one", e.repeated)
	}
}
