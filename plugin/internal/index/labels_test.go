package index

import (
	"maps"
	"testing"
	"unsafe"
)

func TestLabels(t *testing.T) {
	for name, m := range map[string]map[string]string{
		"none":          {},
		"one":           {"app": "web"},
		"several":       {"app": "web", "tier": "front", "example.org/role": "a.b_c-d"},
		"without value": {"canary": "", "app": "web"},
	} {
		if got := maps.Collect(NewLabels(m).All); !maps.Equal(got, m) {
			t.Errorf("%s: %v; want %v", name, got, m)
		}
	}
	if got := maps.Collect(Labels("").All); len(got) != 0 {
		t.Errorf("the zero value has %v", got)
	}
	a, b := NewLabels(map[string]string{"app": "web", "x": "y"}), NewLabels(map[string]string{"x": "y", "app": "web"})
	if unsafe.StringData(string(a)) != unsafe.StringData(string(b)) {
		t.Error("equal labels take memory twice")
	}
}
