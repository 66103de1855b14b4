package k8sexternal

import (
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
)

const follow = "cluster.local {\nmanifests testdata/cluster.yaml\n}\n"

func TestSetupFindsTheOtherDirective(t *testing.T) {
	for name, directives := range map[string]string{
		"kubernetes":            "kubernetes " + follow,
		"kubezone":              "kubezone " + follow,
		"either":                "kubezone " + follow + "kubernetes " + follow,
		"order in the Corefile": "kubernetes " + follow + "k8s_external example.org",
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(directives, directive) {
				directives = "k8s_external example.org\n" + directives
			}
			s := startCorefile(t, ".:0 {\nbind 127.0.0.1\n"+directives+"\n}")
			compare(t, s, "web.prod.example.org. A = 192.0.2.10, 192.0.2.11")
			compare(t, s, "web.prod.svc.cluster.local. A = 10.96.0.10")
		})
	}
}

// Each server block has its own directive, and they share what they follow.
func TestSetupOfSeveralServerBlocks(t *testing.T) {
	s := startCorefile(t, ".:0 {\nbind 127.0.0.1\nkubernetes "+follow+"k8s_external example.org\n}\n"+
		"example.net:0 {\nbind 127.0.0.1\nkubernetes "+follow+"k8s_external {\napex other\n}\n}")
	compare(t, s, `
		web.prod.example.org. A = 192.0.2.10, 192.0.2.11
		ns1.dns.example.org. A = 192.0.2.53
		web.prod.example.net. A = 192.0.2.10, 192.0.2.11
		ns1.other.example.net. A = 192.0.2.53
		ns1.dns.example.net. A = NXDOMAIN`)
}

func TestSetupRefuses(t *testing.T) {
	for text, want := range map[string]string{
		".:0 {\nbind 127.0.0.1\nk8s_external example.org\n}":                                      "plugin/k8s_external: Corefile:3: want the kubernetes or kubezone directive of this project in the same server block",
		".:0 {\nbind 127.0.0.1\nk8s_external example.org {\nttl x\n}\nkubernetes " + follow + "}": `plugin/k8s_external: Corefile:4 - Error during parsing: ttl "x": want a whole number from 0 to 3600`,
	} {
		refuses(t, text, want)
	}
}

// In a build that sets the other directive up first, this one would find no
// external addresses.
func TestSetupRefusesTheWrongOrder(t *testing.T) {
	order := dnsserver.Directives
	defer func() { dnsserver.Directives = order }()
	dnsserver.Directives = []string{"bind", "kubezone", directive}
	refuses(t, ".:0 {\nbind 127.0.0.1\nk8s_external example.org\nkubezone "+follow+"}",
		"plugin/k8s_external: Corefile:3: kubezone was set up first and keeps no external addresses: k8s_external must come before it in plugin.cfg")
}

func refuses(t *testing.T, corefile, want string) {
	t.Helper()
	instance, err := caddy.Start(caddy.CaddyfileInput{Contents: []byte(corefile), Filepath: "Corefile", ServerTypeName: "dns"})
	if err == nil {
		_ = instance.Stop()
		t.Errorf("%q: no error", corefile)
	} else if !strings.Contains(err.Error(), want) {
		t.Errorf("%q: error %v\nwant %s", corefile, err, want)
	}
}
