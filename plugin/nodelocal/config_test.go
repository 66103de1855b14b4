package nodelocal

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
)

func TestParse(t *testing.T) {
	addrs := func(texts ...string) (all []netip.Addr) {
		for _, text := range texts {
			all = append(all, netip.MustParseAddr(text))
		}
		return all
	}
	for _, tc := range []struct {
		name     string
		corefile string
		want     config
	}{
		{"addresses alone", "nodelocal 169.254.20.10 10.96.0.10",
			config{addresses: addrs("169.254.20.10", "10.96.0.10"), device: "nodelocaldns"}},
		{"both families, all options", "nodelocal 169.254.20.10 10.96.0.10 fd00::10 fd00:10:96::a {\ninterface dns0\nredirect dnat\nfallback 10.244.0.2 10.244.0.3:5353 [fd00:244::2]:53\n}",
			config{addresses: addrs("169.254.20.10", "10.96.0.10", "fd00::10", "fd00:10:96::a"), device: "dns0", redirect: redirectDNAT,
				fallback: []netip.AddrPort{netip.MustParseAddrPort("10.244.0.2:53"), netip.MustParseAddrPort("10.244.0.3:5353"), netip.MustParseAddrPort("[fd00:244::2]:53")}}},
		{"redirect none", "nodelocal 169.254.20.10 {\nredirect none\n}",
			config{addresses: addrs("169.254.20.10"), device: "nodelocaldns", redirect: redirectNone}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, _, err := parse(caddy.NewTestController("dns", tc.corefile))
			if err != nil {
				t.Fatal(err)
			}
			if !got.equal(tc.want) {
				t.Errorf("got %+v; want %+v", got, tc.want)
			}
		})
	}
}

// An error names the file, the line, what is wrong and what is wanted.
func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ corefile, want string }{
		{"nodelocal", `Testfile:1 - Error during parsing: nodelocal: missing argument after "nodelocal"; want "nodelocal ADDRESS..."`},
		{"nodelocal dns", `Testfile:1 - Error during parsing: nodelocal "dns": want an IP address, such as 169.254.20.10`},
		{"nodelocal 169.254.20.10/32", `Testfile:1 - Error during parsing: nodelocal "169.254.20.10/32": want an IP address, such as 169.254.20.10`},
		{"nodelocal fe80::1%eth0", `Testfile:1 - Error during parsing: nodelocal "fe80::1%eth0": want an IP address, such as 169.254.20.10`},
		{"nodelocal ::ffff:10.0.0.1", `Testfile:1 - Error during parsing: nodelocal "::ffff:10.0.0.1": want an IP address, such as 169.254.20.10`},
		{"nodelocal 127.0.0.1", `Testfile:1 - Error during parsing: nodelocal "127.0.0.1": want an address of this node alone or a ClusterIP; for others there is bind`},
		{"nodelocal 10.96.0.10 10.96.0.10", `Testfile:1 - Error during parsing: nodelocal "10.96.0.10": given twice`},
		{"nodelocal 10.96.0.10 {\ninterface\n}", `Testfile:2 - Error during parsing: interface: missing argument after "interface"; want "interface NAME"`},
		{"nodelocal 10.96.0.10 {\ninterface a-name-too-long-for-linux\n}", `Testfile:2 - Error during parsing: interface "a-name-too-long-for-linux": want the name of a network interface, of at most 15 octets`},
		{"nodelocal 10.96.0.10 {\nredirect iptables\n}", `Testfile:2 - Error during parsing: redirect "iptables": want auto or notrack or dnat or none`},
		{"nodelocal 10.96.0.10 {\nredirect dnat\n}", `Testfile:2 - Error during parsing: redirect dnat: 10.96.0.10 has no address of the node to lead to; want one of its family before it, such as 169.254.20.10`},
		{"nodelocal 169.254.20.10 fd00:10:96::a {\nredirect dnat\n}", `Testfile:2 - Error during parsing: redirect dnat: fd00:10:96::a has no address of the node to lead to; want one of its family before it, such as 169.254.20.10`},
		{"nodelocal 10.96.0.10 {\nfallback kube-dns\n}", `Testfile:2 - Error during parsing: fallback "kube-dns": want an IP address, with or without a port`},
		{"nodelocal 10.96.0.10 {\nfallback 10.244.0.2:0\n}", `Testfile:2 - Error during parsing: fallback "10.244.0.2:0": want an IP address, with or without a port`},
		{"nodelocal 10.96.0.10 {\nfallback 10.96.0.10\n}", `Testfile:2 - Error during parsing: fallback "10.96.0.10": is an address of this directive; want one of a cluster DNS server`},
		{"nodelocal 10.96.0.10 {\nfallbak 10.244.0.2\n}", `Testfile:2 - Error during parsing: unknown option "fallbak", did you mean "fallback"?; want one of fallback, interface, redirect`},
		{"nodelocal 10.96.0.10\nnodelocal 10.96.0.11", `Testfile:2 - Error during parsing: nodelocal: given twice in this server block, first at Testfile:1`},
	} {
		_, _, err := parse(caddy.NewTestController("dns", tc.corefile))
		if err == nil || err.Error() != tc.want {
			t.Errorf("%q\n got %v\nwant %s", tc.corefile, err, tc.want)
		}
	}
}

func TestOwnAddresses(t *testing.T) {
	for _, tc := range []struct{ addresses, want string }{
		{"169.254.20.10 10.96.0.10", "169.254.20.10"},
		{"10.96.0.10 169.254.20.10", "10.96.0.10 169.254.20.10"}, // the first is taken for the node's
		{"10.96.0.10", ""},
		{"169.254.20.10", "169.254.20.10"},
		{"169.254.20.10 10.96.0.10 fd00::10 fd00:10:96::a", "169.254.20.10 fd00::10"},
		{"169.254.20.10 10.96.0.10 fd00:10:96::a", "169.254.20.10"},
		{"fe80::10 fd00:10:96::a", "fe80::10"},
	} {
		cfg, _, err := parse(caddy.NewTestController("dns", "nodelocal "+tc.addresses))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Trim(fmt.Sprint(cfg.ownAddresses()), "[]"); got != tc.want {
			t.Errorf("of %s the node's own are %q; want %q", tc.addresses, got, tc.want)
		}
	}
}

// Every option is in the README with its arguments, and nothing else is.
func TestReadmeSyntax(t *testing.T) {
	text := readme(t)
	_, after, _ := strings.Cut(text, "~~~ txt\n")
	syntax, _, _ := strings.Cut(after, "~~~")
	var want []string
	for _, o := range options {
		want = append(want, o.Synopsis())
	}
	var got []string
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

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
