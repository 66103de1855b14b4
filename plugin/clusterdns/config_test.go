package clusterdns

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct{ corefile, want string }{
		{"clusterdns cluster.local in-addr.arpa", "[cluster.local. in-addr.arpa.] kube-system kube-dns   [] 2000"},
		{"clusterdns cluster.local {\nservice dns/coredns\nkubeconfig /etc/kube/config admin\nheadless Upstream.dns.svc.cluster.local\nto 10.96.0.11 [fd00::1]:5353\nmax_concurrent 10\n}",
			"[cluster.local.] dns coredns /etc/kube/config admin upstream.dns.svc.cluster.local. [10.96.0.11:53 [fd00::1]:5353] 10"},
	} {
		cfg, err := parse(caddy.NewTestController("dns", tc.corefile))
		if err != nil {
			t.Errorf("%s: %v", tc.corefile, err)
			continue
		}
		got := fmt.Sprintf("%v %s %s %s %s %s %v %d", cfg.zones, cfg.namespace, cfg.service, cfg.kubeconfig, cfg.context, cfg.headless, cfg.to, cfg.maxConcurrent)
		if strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(tc.want), " ") {
			t.Errorf("%s\n got %s\nwant %s", tc.corefile, got, tc.want)
		}
	}
}

// An error names the file, the line, what is wrong and what is wanted.
func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ corefile, want string }{
		{"clusterdns a..b", `Testfile:1 - Error during parsing: "a..b": want a zone: a domain name, or a network such as 10.0.0.0/16`},
		{"clusterdns . {\nservice kube-dns\n}", `Testfile:2 - Error during parsing: service "kube-dns": want NAMESPACE/NAME, such as kube-system/kube-dns`},
		{"clusterdns . {\nservice a/b/c\n}", `Testfile:2 - Error during parsing: service "a/b/c": want NAMESPACE/NAME, such as kube-system/kube-dns`},
		{"clusterdns . {\nto kube-dns\n}", `Testfile:2 - Error during parsing: to "kube-dns": want an IP address, with or without a port`},
		{"clusterdns . {\nheadless a..b\nto 10.96.0.11\n}", `Testfile:2 - Error during parsing: headless "a..b": want the domain name of a headless Service`},
		{"clusterdns . {\nheadless dns.example\n}", `Testfile:2 - Error during parsing: headless dns.example.: nobody to ask for it; want a server with to ADDRESS`},
		{"clusterdns . {\nmax_concurrent 0\n}", `Testfile:2 - Error during parsing: max_concurrent "0": want a whole number from 1 to 1048576`},
	} {
		_, err := parse(caddy.NewTestController("dns", tc.corefile))
		if err == nil || err.Error() != tc.want {
			t.Errorf("%q\n got %v\nwant %s", tc.corefile, err, tc.want)
		}
	}
}

// Every option is in the README with its arguments, and nothing else is.
func TestReadmeSyntax(t *testing.T) {
	_, after, _ := strings.Cut(readme(t), "~~~ txt\n")
	syntax, _, _ := strings.Cut(after, "~~~")
	var got, want []string
	for _, o := range options {
		want = append(want, o.Synopsis())
	}
	for line := range strings.Lines(syntax) {
		if strings.HasPrefix(line, "    ") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("README has options\n%q; want\n%q", got, want)
	}
}
