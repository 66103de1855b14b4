package index

import (
	"bytes"
	"encoding/gob"
	"net/netip"
	"reflect"
	"testing"
)

// What is reached from outside is so after a restart too.
func TestExternalIsInContents(t *testing.T) {
	a := netip.MustParseAddr("192.0.2.1")
	key := ObjectKey{Namespace: "prod", Name: "web"}
	x := New(Options{})
	x.ReplaceServices([]*Service{
		{ObjectKey: key, External: &External{Addrs: []netip.Addr{a}, Hosts: []string{"lb.example.net."}}},
		{ObjectKey: ObjectKey{Namespace: "prod", Name: "inner"}},
	}, 1)

	var written bytes.Buffer
	if err := gob.NewEncoder(&written).Encode(x.Contents()); err != nil {
		t.Fatal(err)
	}
	var read Contents
	if err := gob.NewDecoder(&written).Decode(&read); err != nil {
		t.Fatal(err)
	}
	y := New(Options{})
	if !y.Restore(read) {
		t.Fatal("the contents do not fit together")
	}
	if got, want := y.Service(key).Service.External, x.Service(key).Service.External; !reflect.DeepEqual(got, want) {
		t.Errorf("restored %v; want %v", got, want)
	}
	if got := y.ExternalOwners(a); len(got) != 1 || got[0] != key {
		t.Errorf("owners of %s: %v; want %v", a, got, key)
	}
}
