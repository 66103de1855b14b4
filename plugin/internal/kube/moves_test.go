package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

// TestMoves runs events of the slices of one Service, written as the slice's name
// and its endpoints, through a mover. After each it looks at what the Service
// has, at once and at times after it.
func TestMoves(t *testing.T) {
	const settled = moveGrace + quietFor
	type step struct {
		event string        // "a=1,2" is a slice with two endpoints, "a" one that is gone
		after time.Duration // from then to the look
		want  string
	}
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"to another slice, taken first", []step{
			{"a=1,2", 0, "1,2"}, {"b=3", 0, "1,2,3"},
			{"a=1", quietFor / 2, "1,2,3"},
			{"b=2,3", 0, "1,2,3"}, {"", quietFor / 2, "1,2,3"}, {"", settled, "1,2,3"},
		}},
		{"to another slice, added first", []step{
			{"a=1,2", 0, "1,2"}, {"b=3", 0, "1,2,3"},
			{"b=2,3", 0, "1,2,3"}, {"a=1", 0, "1,2,3"}, {"", settled, "1,2,3"},
		}},
		{"two slices exchange their endpoints", []step{
			{"a=1,2", 0, "1,2"}, {"b=3,4", 0, "1,2,3,4"},
			{"a=3,4", quietFor / 2, "1,2,3,4"}, {"b=1,2", 0, "1,2,3,4"}, {"", settled, "1,2,3,4"},
		}},
		{"to a slice made anew, after its own is gone", []step{
			{"a=1,2", 0, "1,2"}, {"b=3", 0, "1,2,3"},
			{"a", quietFor / 2, "1,2,3"}, {"c=1,2", 0, "1,2,3"}, {"", settled, "1,2,3"},
		}},
		{"a slice gone and made again", []step{
			{"a=1,2", 0, "1,2"}, {"b=3", 0, "1,2,3"},
			{"a", 0, "1,2,3"}, {"a=2", 0, "1,2,3"}, {"", settled, "2,3"},
		}},
		{"nowhere", []step{
			{"a=1,2", 0, "1,2"}, {"b=3", 0, "1,2,3"},
			{"a=1", quietFor - 1, "1,2,3"}, {"", 2, "1,3"},
		}},
		{"nowhere, and others come at once", []step{
			{"a=1,2", 0, "1,2"}, {"b=3", 0, "1,2,3"},
			{"a=1,4", 0, "1,2,3,4"}, {"", quietFor + 1, "1,3,4"},
		}},
		{"all of two slices", []step{
			{"a=1,2", 0, "1,2"}, {"b=3", 0, "1,2,3"},
			{"a=", 0, "1,2,3"}, {"b=", 0, "1,2,3"}, {"", quietFor + 1, ""},
		}},
		{"of the only slice", []step{
			{"a=1,2", 0, "1,2"}, {"a=1", 0, "1"}, {"a=", 0, ""}, {"a=2", 0, "2"}, {"a", 0, ""},
		}},
		{"of the only slice of a family", []step{
			{"a=1,2", 0, "1,2"}, {"six=:3", 0, "1,2,:3"}, {"a=1", 0, "1,:3"}, {"six", 0, "1"},
		}},
		{"while the others never rest", slices.Concat(
			[]step{{"a=1,2", 0, "1,2"}, {"b=3", 0, "1,2,3"}, {"a=1", 0, "1,2,3"}},
			slices.Repeat([]step{{"b=3", quietFor / 2, "1,2,3"}}, int(moveGrace/(quietFor/2))-1),
			[]step{{"b=3", quietFor/2 + 1, "1,3"}},
		)},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := index.New(index.Options{})
				x.SetService(&index.Service{ObjectKey: dbKey, Type: index.Headless})
				m := newMover(x)
				defer m.close()
				for version, s := range test.steps {
					runMove(m, s.event, uint64(version+1))
					time.Sleep(s.after)
					synctest.Wait()
					if got := endpointsOf(x); got != s.want {
						t.Fatalf("step %d, %s after %q: %q; want %q", version, s.after, s.event, got, s.want)
					}
				}
			})
		})
	}
}

// runMove gives the mover an event.
func runMove(m *mover, event string, version uint64) {
	name, list, changed := strings.Cut(event, "=")
	key := index.ObjectKey{Namespace: dbKey.Namespace, Name: name}
	switch {
	case name == "":
	case !changed:
		m.remove(key, version)
	default:
		var endpoints []index.Endpoint
		for text := range strings.SplitSeq(list, ",") {
			if text != "" {
				endpoints = append(endpoints, index.Endpoint{Addr: addrOf(text)})
			}
		}
		m.set(index.NewSlice(key, version, dbKey.Name, nil, endpoints))
	}
}

func addrOf(text string) netip.Addr {
	if n, ok := strings.CutPrefix(text, ":"); ok {
		return netip.MustParseAddr("2001:db8::" + n)
	}
	return netip.MustParseAddr("192.0.2." + text)
}

// endpointsOf are what the Service has, in the spelling of the test. Each must be
// found under its own name, too.
func endpointsOf(x *index.Index) string {
	var texts []string
	st := x.Service(dbKey)
	for _, f := range []index.Family{index.IPv4, index.IPv6} {
		st.Endpoints(f, "", 0, func(s *index.Slice, from, to int) bool {
			for i := from; i < to; i++ {
				a := s.Addr(i)
				text := strings.TrimPrefix(strings.TrimPrefix(a.String(), "192.0.2."), "2001:db8")
				if !x.Labelled(st, index.DashedLabel(a), f, func(netip.Addr) {}) {
					text = fmt.Sprintf("%s without a name", text)
				}
				texts = append(texts, text)
			}
			return true
		})
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	// IPv6 comes behind IPv4.
	slices.SortStableFunc(texts, func(a, b string) int { return strings.Count(a, ":") - strings.Count(b, ":") })
	return strings.ReplaceAll(strings.Join(texts, ","), "::", ":")
}
