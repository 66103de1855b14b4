package index

import "testing"

func TestDenial(t *testing.T) {
	for _, tc := range []struct {
		denial    Denial
		namespace string
		want      bool
	}{
		{Denial{}, "com", false},
		{Denial{Names: []string{"svc"}}, "svc", true},
		{Denial{Names: []string{"svc"}}, "com", false},
		{Denial{PublicSuffixes: true}, "com", true},
		{Denial{PublicSuffixes: true}, "uk", true},
		{Denial{PublicSuffixes: true}, "dev", true},
		{Denial{PublicSuffixes: true}, "xn--p1ai", true}, // as an object spells it
		{Denial{PublicSuffixes: true}, "kube-system", false},
		{Denial{PublicSuffixes: true}, "default", false},
		{Denial{PublicSuffixes: true}, "staging", false},
		{Denial{PublicSuffixes: true}, "local", false}, // reserved, but nobody's suffix
		{Denial{PublicSuffixes: true, Except: []string{"dev"}}, "dev", false},
		{Denial{PublicSuffixes: true, Except: []string{"dev"}}, "app", true},
		{Denial{Names: []string{"dev"}, PublicSuffixes: true, Except: []string{"dev"}}, "dev", true},
	} {
		if got := tc.denial.Denies(tc.namespace); got != tc.want {
			t.Errorf("%+v denies %q: %t; want %t", tc.denial, tc.namespace, got, tc.want)
		}
	}
}
