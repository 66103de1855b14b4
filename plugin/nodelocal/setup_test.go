//go:build linux

package nodelocal

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"

	"github.com/prometheus/client_golang/prometheus"
)

// The server block listens on the addresses, beside those of bind.
func TestListens(t *testing.T) {
	for _, tc := range []struct {
		name   string
		before []string
		want   []string
	}{
		{"without bind", []string{""}, []string{"169.254.20.10", "10.96.0.10"}},
		{"with bind", []string{"127.0.0.1"}, []string{"127.0.0.1", "169.254.20.10", "10.96.0.10"}},
		{"with bind to the same", []string{"10.96.0.10"}, []string{"10.96.0.10", "169.254.20.10"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := caddy.NewTestController("dns", "nodelocal 169.254.20.10 10.96.0.10 {\nredirect notrack\n}")
			dnsserver.GetConfig(c).ListenHosts = tc.before
			if err := setup(c); err != nil {
				t.Fatal(err)
			}
			if got := dnsserver.GetConfig(c).ListenHosts; !slices.Equal(got, tc.want) {
				t.Errorf("listens on %q; want %q", got, tc.want)
			}
		})
	}
}

// With dnat the ClusterIP is on no interface, and nobody listens there.
func TestListensWithDNAT(t *testing.T) {
	c := caddy.NewTestController("dns", "nodelocal 169.254.20.10 10.96.0.10 {\nredirect dnat\n}")
	if err := setup(c); err != nil {
		t.Fatal(err)
	}
	if got := dnsserver.GetConfig(c).ListenHosts; !slices.Equal(got, []string{"169.254.20.10"}) {
		t.Errorf("listens on %q; want 169.254.20.10", got)
	}
}

// Several server blocks may have the directive if it asks for the same.
func TestBlocksAgree(t *testing.T) {
	for _, tc := range []struct{ corefile, want string }{
		{"a.example.:1053 {\nnodelocal 169.254.20.10 {\nredirect none\n}\n}\nb.example.:1053 {\nnodelocal 169.254.20.11 {\nredirect none\n}\n}",
			"plugin/nodelocal: Corefile:7 - Error during parsing: nodelocal: Corefile:2 has other addresses or options; want the same in every server block"},
		{"a.example.:1053 {\nnodelocal 169.254.20.10 {\nredirect none\n}\n}\nb.example.:1054 {\nnodelocal 169.254.20.10 {\nredirect none\n}\n}",
			"plugin/nodelocal: Corefile:7 - Error during parsing: nodelocal: port 1054; want that of Corefile:2, which is 1053"},
		{"tls://a.example. {\nnodelocal 169.254.20.10\n}",
			"plugin/nodelocal: Corefile:2 - Error during parsing: nodelocal: the server block speaks tls; want plain DNS"},
	} {
		_, err := caddy.Start(caddy.CaddyfileInput{Filepath: "Corefile", Contents: []byte(tc.corefile), ServerTypeName: "dns"})
		if err == nil || err.Error() != tc.want {
			t.Errorf("%s\n got %v\nwant %s", tc.corefile, err, tc.want)
		}
	}
}

func TestHealthPorts(t *testing.T) {
	addresses := []netip.Addr{netip.MustParseAddr("169.254.20.10"), netip.MustParseAddr("fd00::10")}
	for _, tc := range []struct {
		corefile string
		want     []uint16
	}{
		{". {\n}", nil},
		{". {\nhealth\nready\n}", []uint16{8080, 8181}},
		{". {\nhealth {\nlameduck 5s\n}\n}", []uint16{8080}},
		{". {\nhealth 169.254.20.10:8081\nready 127.0.0.1:8181\n}", []uint16{8081}},
		{". {\nhealth [fd00::10]:8082\n}\na.example. {\nhealth 0.0.0.0:8083\n}", []uint16{8082, 8083}},
	} {
		got := healthPorts(caddy.CaddyfileInput{Filepath: "Corefile", Contents: []byte(tc.corefile)}, addresses)
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s\nhas ports %v; want %v", tc.corefile, got, tc.want)
		}
	}
}

func TestPlans(t *testing.T) {
	cfg, _, err := parse(caddy.NewTestController("dns", "nodelocal 169.254.20.10 10.96.0.10 fd00::10 fd00:10:96::a"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		proxy   proxy
		want    redirect
		listens string
	}{
		{proxyNone, redirectNotrack, "169.254.20.10 10.96.0.10 fd00::10 fd00:10:96::a"},
		{proxyIPTables, redirectNotrack, "169.254.20.10 10.96.0.10 fd00::10 fd00:10:96::a"},
		{proxyNFTables, redirectNotrack, "169.254.20.10 10.96.0.10 fd00::10 fd00:10:96::a"},
		{proxyIPVS, redirectNotrack, "169.254.20.10 fd00::10"},
		{proxyCilium, redirectNone, "169.254.20.10 10.96.0.10 fd00::10 fd00:10:96::a"},
		{proxyCalico, redirectNone, "169.254.20.10 10.96.0.10 fd00::10 fd00:10:96::a"},
	} {
		how, effective := tc.proxy.decide(cfg)
		p := newPlan(effective, how, dnsPort, nil)
		var listens []string
		for _, a := range p.listen {
			listens = append(listens, a.String())
		}
		if p.redirect != tc.want || strings.Join(listens, " ") != tc.listens {
			t.Errorf("%s: %s, listens on %v; want %s, %s", tc.proxy, p.redirect, listens, tc.want, tc.listens)
		}
		if (p.redirect == redirectNone) != (advice[tc.proxy] != "") {
			t.Errorf("%s: advice %q; want some where nothing is redirected", tc.proxy, advice[tc.proxy])
		}
	}
	lead := newPlan(cfg, redirectDNAT, dnsPort, nil)
	for from, to := range map[string]string{"169.254.20.10": "169.254.20.10", "10.96.0.10": "169.254.20.10", "fd00::10": "fd00::10", "fd00:10:96::a": "fd00::10"} {
		if got := lead.leads[netip.MustParseAddr(from)]; got != netip.MustParseAddr(to) {
			t.Errorf("dnat leads %s to %s; want %s", from, got, to)
		}
	}
}

// Every metric is in the README, and every metric in the README is there.
func TestReadmeListsTheMetrics(t *testing.T) {
	switched.WithLabelValues("192.0.2.1")
	selfQueries.WithLabelValues("192.0.2.1", answeredByUs.String())
	repairs.WithLabelValues("address")
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var exported, listed []string
	for _, family := range families {
		if strings.HasPrefix(family.GetName(), "coredns_nodelocal_") {
			exported = append(exported, family.GetName())
		}
	}
	for _, name := range regexp.MustCompile("(?m)^\\* `(coredns_nodelocal_[a-z_]+)").FindAllStringSubmatch(readme(t), -1) {
		listed = append(listed, name[1])
	}
	slices.Sort(listed)
	if !slices.Equal(listed, exported) {
		t.Errorf("the README lists\n%q; exported are\n%q", listed, exported)
	}
}
