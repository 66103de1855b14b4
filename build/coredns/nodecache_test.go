package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy/caddyfile"
)

// template is a shorter Corefile.base than that of the official manifest, with each of its variables.
const template = `__PILLAR__DNS__DOMAIN__:53 {
    errors
    cache {
            success 9984 30
            denial 9984 5
    }
    reload
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__CLUSTER__DNS__ {
            force_tcp
    }
    prometheus :9253
    health 169.254.20.10:8080
    }
.:53 {
    errors
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__UPSTREAM__SERVERS__ {
            force_tcp
    }
    prometheus __PROMETHEUS__ENDPOINT__
    }
`

func TestIsNodeCache(t *testing.T) {
	for _, tc := range []struct {
		args string
		want bool
	}{
		{"-localip 169.254.20.10,10.96.0.10 -conf /etc/Corefile -upstreamsvc kube-dns-upstream", true},
		{"--localip=169.254.20.10", true},
		{"-conf /etc/coredns/Corefile", false},
		{"-conf localip", false},
		{"", false},
	} {
		if got := isNodeCache(strings.Fields(tc.args)); got != tc.want {
			t.Errorf("%q: %v; want %v", tc.args, got, tc.want)
		}
	}
}

// The arguments of the official DaemonSet, and each flag that node-cache has.
func TestNodeCacheFlags(t *testing.T) {
	cfg, err := parseNodeCache(strings.Fields("-localip 169.254.20.10,10.96.0.10 -conf /etc/Corefile -upstreamsvc kube-dns-upstream -pidfile /tmp/node-cache.pid " +
		"-syncinterval 60ns -setupinterface=false -setupiptables=false -skipteardown -interfacename dns0 -metrics-listen-address 0.0.0.0:9353 " +
		"-prometheus-listen-address :9254 -basecorefile /base -corefile /other -kubednscm /cm -health-port 8081 -reloadwithsignal -dns.port=53 -quiet"))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.corefile != "/etc/Corefile" || cfg.template != "/base" || cfg.device != "dns0" || cfg.redirect || !cfg.signal || cfg.kubeDNS != "/cm" ||
		cfg.upstream != "kube-dns-upstream" || cfg.prometheus != ":9254" || join(cfg.localIPs) != "169.254.20.10 10.96.0.10" {
		t.Errorf("got %+v", cfg)
	}
	if want := []string{"-pidfile", "/tmp/node-cache.pid", "-dns.port=53", "-quiet"}; !slices.Equal(cfg.rest, want) {
		t.Errorf("CoreDNS gets %q; want %q", cfg.rest, want)
	}
	if _, err := parseNodeCache([]string{"-localip", "169.254.20.10,dns"}); err == nil || !strings.Contains(err.Error(), `-localip "169.254.20.10,dns": want IP addresses with commas between`) {
		t.Errorf("error %v; want one about -localip", err)
	}
}

func TestNodeCacheTemplate(t *testing.T) {
	for _, tc := range []struct {
		name            string
		kubeDNS         map[string]string
		service         string
		want, unwanted  []string
		wantErr         string
		args            string
		serverBlocks    int
		forceTCP        int
		nodelocalBlocks int
	}{
		{name: "official", service: "10.96.0.99", serverBlocks: 2, forceTCP: 2, nodelocalBlocks: 1,
			want: []string{"cluster.local:53 {", "forward . 10.96.0.99 {", "forward . /etc/resolv.conf {", "prometheus :9253",
				"    nodelocal 169.254.20.10 10.96.0.10 {\n        interface nodelocaldns\n        redirect auto\n    }\n    bind 169.254.20.10 10.96.0.10"},
			unwanted: []string{"__"}},
		{name: "with the ConfigMap kube-dns", service: "10.96.0.99", serverBlocks: 4, forceTCP: 1, nodelocalBlocks: 1,
			kubeDNS:  map[string]string{"stubDomains": `{"corp.example": ["192.0.2.53"], "acme.example": ["192.0.2.54:5353", "192.0.2.55"]}`, "upstreamNameservers": `["198.51.100.53"]`},
			want:     []string{"acme.example:53 {", "forward . 192.0.2.54:5353 192.0.2.55", "corp.example:53 {", "forward . 198.51.100.53 {"},
			unwanted: []string{"__", "/etc/resolv.conf"}},
		{name: "no rules", service: "10.96.0.99", args: "-setupiptables=false", serverBlocks: 2, forceTCP: 2, nodelocalBlocks: 1, want: []string{"redirect none"}},
		{name: "no Service", wantErr: "no address of the Service kube-dns-upstream is in the environment"},
		{name: "broken ConfigMap", service: "10.96.0.99", kubeDNS: map[string]string{"stubDomains": "{"}, wantErr: "stubDomains: unexpected end of JSON input"},
		{name: "other addresses", service: "10.96.0.99", args: "-localip 169.254.20.11", serverBlocks: 2, forceTCP: 2, nodelocalBlocks: 1, want: []string{"nodelocal 169.254.20.11 {"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			folder := t.TempDir()
			write(t, filepath.Join(folder, "Corefile.base"), template)
			for key, value := range tc.kubeDNS {
				write(t, filepath.Join(folder, key), value)
			}
			t.Setenv("KUBE_DNS_UPSTREAM_SERVICE_HOST", tc.service)
			corefile := filepath.Join(folder, "Corefile")
			args, err := nodeCache(append(strings.Fields("-localip 169.254.20.10,10.96.0.10 -upstreamsvc kube-dns-upstream -pidfile /p "+tc.args),
				"-basecorefile", filepath.Join(folder, "Corefile.base"), "-conf", corefile, "-kubednscm", folder))
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Errorf("error %v; want %s", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := []string{"-conf", corefile, "-pidfile", "/p"}; !slices.Equal(args, want) {
				t.Errorf("CoreDNS gets %q; want %q", args, want)
			}
			text, err := os.ReadFile(corefile)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range tc.want {
				if !strings.Contains(string(text), want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
			for _, unwanted := range tc.unwanted {
				if strings.Contains(string(text), unwanted) {
					t.Errorf("%q is in\n%s", unwanted, text)
				}
			}
			blocks, err := caddyfile.Parse(corefile, bytes.NewReader(text), directives)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			with := 0
			for _, b := range blocks {
				if len(b.Tokens["nodelocal"]) > 0 {
					with++
				}
			}
			if len(blocks) != tc.serverBlocks || with != tc.nodelocalBlocks || strings.Count(string(text), "force_tcp") != tc.forceTCP {
				t.Errorf("%d server blocks, %d with nodelocal, and force_tcp %d times; want %d, %d and %d\n%s",
					len(blocks), with, strings.Count(string(text), "force_tcp"), tc.serverBlocks, tc.nodelocalBlocks, tc.forceTCP, text)
			}
		})
	}
}
