package corefile

import "testing"

func TestEdits(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"ttl", "ttl", 0}, {"", "ttl", 3}, {"pod", "pods", 1}, {"podss", "pods", 1}, {"ttk", "ttl", 1}, {"zonal", "labels", 5},
	} {
		if got := edits(tc.a, tc.b); got != tc.want {
			t.Errorf("edits(%q, %q) = %d; want %d", tc.a, tc.b, got, tc.want)
		}
		if got := edits(tc.b, tc.a); got != tc.want {
			t.Errorf("edits(%q, %q) = %d; want %d", tc.b, tc.a, got, tc.want)
		}
	}
}
