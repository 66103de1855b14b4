package kubezone

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/pkg/fall"
	"github.com/kubezone/kubezone/plugin/internal/corefile"
	"github.com/kubezone/kubezone/plugin/internal/index"
	"github.com/kubezone/kubezone/plugin/internal/kube"
	"github.com/kubezone/kubezone/plugin/internal/respond"
	"github.com/kubezone/kubezone/plugin/internal/schema"
)

// defaults returns what parse makes of "kubezone cluster.local", changed. An option
// that names the source is the first of the block.
func defaults(change func(*config)) config {
	cfg := config{
		selfCheck:      5 * time.Minute,
		at:             corefile.Place{File: "Testfile", Line: 1},
		zones:          []string{"cluster.local."},
		primary:        "cluster.local.",
		ttl:            5,
		negativeTTL:    5,
		fall:           fall.Zero,
		startupTimeout: 5 * time.Second,
	}
	change(&cfg)
	cfg.sourceAt = cfg.at
	if cfg.manifests != nil || cfg.kubeconfig != "" || cfg.endpoint != "" {
		cfg.sourceAt.Line++
	}
	return cfg
}

// An optionCase is one way to write an option, in the block of
// "kubezone cluster.local". The error is that for the given line of the text,
// of which the block's first is 2.
type optionCase struct {
	option string
	kind   string // good, missing, surplus, repeated, bad
	block  string
	want   func(*config) // for kind good
	err    string        // for the others
}

var optionCases = []optionCase{
	{option: "manifests", kind: "good", block: "manifests /etc/dns/a.yaml /etc/dns/b", want: func(c *config) { c.manifests = []string{"/etc/dns/a.yaml", "/etc/dns/b"} }},
	{option: "manifests", kind: "missing", block: "manifests", err: `2: manifests: missing argument after "manifests"; want "manifests PATH..."`},
	{option: "manifests", kind: "repeated", block: "manifests a\nmanifests b", err: `3: manifests: given twice, first at Testfile:2; want it once, as "manifests PATH..."`},
	{option: "manifests", kind: "bad", block: `manifests ""`, err: `2: manifests: empty argument ""; want "manifests PATH..."`},

	{option: "endpoint", kind: "good", block: "endpoint https://10.0.0.1:6443", want: func(c *config) { c.endpoint = "https://10.0.0.1:6443" }},
	{option: "endpoint", kind: "good", block: "endpoint localhost:8080", want: func(c *config) { c.endpoint = "localhost:8080" }},
	{option: "endpoint", kind: "good", block: "endpoint http://a:8080 http://b:8080", want: func(c *config) {
		c.endpoint = "http://a:8080"
		c.warnings = []string{"Testfile:2 - endpoint: only the first of 2 API servers is used: http://a:8080"}
	}},
	{option: "endpoint", kind: "missing", block: "endpoint", err: `2: endpoint: missing argument after "endpoint"; want "endpoint URL"`},
	{option: "endpoint", kind: "repeated", block: "endpoint http://a\nendpoint http://b", err: `3: endpoint: given twice, first at Testfile:2; want it once, as "endpoint URL"`},
	{option: "endpoint", kind: "bad", block: "endpoint ftp://a", err: `2: endpoint "ftp://a": want a URL or HOST:PORT`},
	{option: "endpoint", kind: "bad", block: "endpoint http://", err: `2: endpoint "http://": want a URL or HOST:PORT`},
	{option: "endpoint", kind: "bad", block: "endpoint a:8080/path", err: `2: endpoint "a:8080/path": want a URL or HOST:PORT`},

	{option: "tls", kind: "good", block: "endpoint https://a\ntls cert.pem key.pem ca.pem", want: func(c *config) {
		c.endpoint, c.cert, c.key, c.ca = "https://a", "cert.pem", "key.pem", "ca.pem"
	}},
	{option: "tls", kind: "good", block: "tls cert.pem key.pem ca.pem", want: func(c *config) {
		c.warnings = []string{"Testfile:2 - tls: ignored, since endpoint is not set"}
	}},
	{option: "tls", kind: "missing", block: "tls cert.pem key.pem", err: `2: tls: missing argument after "tls cert.pem key.pem"; want "tls CERT KEY CACERT"`},
	{option: "tls", kind: "surplus", block: "tls cert.pem key.pem ca.pem more.pem", err: `2: tls: surplus argument "more.pem"; want "tls CERT KEY CACERT"`},
	{option: "tls", kind: "repeated", block: "tls a b c\ntls a b c", err: `3: tls: given twice, first at Testfile:2; want it once, as "tls CERT KEY CACERT"`},
	{option: "tls", kind: "bad", block: `tls cert.pem "" ca.pem`, err: `2: tls: empty argument ""; want "tls CERT KEY CACERT"`},

	{option: "kubeconfig", kind: "good", block: "kubeconfig admin.conf", want: func(c *config) { c.kubeconfig = "admin.conf" }},
	{option: "kubeconfig", kind: "good", block: "kubeconfig admin.conf prod", want: func(c *config) { c.kubeconfig, c.context = "admin.conf", "prod" }},
	{option: "kubeconfig", kind: "good", block: "kubeconfig admin.conf\nendpoint https://a\ntls cert.pem key.pem ca.pem", want: func(c *config) {
		c.kubeconfig = "admin.conf"
		c.warnings = []string{
			"Testfile:3 - endpoint: ignored, since kubeconfig is set",
			"Testfile:4 - tls: ignored, since kubeconfig is set",
		}
	}},
	{option: "kubeconfig", kind: "missing", block: "kubeconfig", err: `2: kubeconfig: missing argument after "kubeconfig"; want "kubeconfig FILE [CONTEXT]"`},
	{option: "kubeconfig", kind: "surplus", block: "kubeconfig admin.conf prod more", err: `2: kubeconfig: surplus argument "more"; want "kubeconfig FILE [CONTEXT]"`},
	{option: "kubeconfig", kind: "repeated", block: "kubeconfig a\nkubeconfig a", err: `3: kubeconfig: given twice, first at Testfile:2; want it once, as "kubeconfig FILE [CONTEXT]"`},
	{option: "kubeconfig", kind: "bad", block: `kubeconfig ""`, err: `2: kubeconfig: empty argument ""; want "kubeconfig FILE [CONTEXT]"`},

	{option: "apiserver_qps", kind: "good", block: "apiserver_qps 12.5", want: func(c *config) { c.qps = 12.5 }},
	{option: "apiserver_qps", kind: "missing", block: "apiserver_qps", err: `2: apiserver_qps: missing argument after "apiserver_qps"; want "apiserver_qps QPS"`},
	{option: "apiserver_qps", kind: "surplus", block: "apiserver_qps 1 2", err: `2: apiserver_qps: surplus argument "2"; want "apiserver_qps QPS"`},
	{option: "apiserver_qps", kind: "repeated", block: "apiserver_qps 1\napiserver_qps 1", err: `3: apiserver_qps: given twice, first at Testfile:2; want it once, as "apiserver_qps QPS"`},
	{option: "apiserver_qps", kind: "bad", block: "apiserver_qps many", err: `2: apiserver_qps "many": want a number of requests a second, 0 or more`},
	{option: "apiserver_qps", kind: "bad", block: "apiserver_qps -1", err: `2: apiserver_qps "-1": want a number of requests a second, 0 or more`},
	{option: "apiserver_qps", kind: "bad", block: "apiserver_qps NaN", err: `2: apiserver_qps "NaN": want a number of requests a second, 0 or more`},
	{option: "apiserver_qps", kind: "bad", block: "apiserver_qps 1e39", err: `2: apiserver_qps "1e39": want a number of requests a second, 0 or more`},

	{option: "apiserver_burst", kind: "good", block: "apiserver_burst 20", want: func(c *config) { c.burst = 20 }},
	{option: "apiserver_burst", kind: "missing", block: "apiserver_burst", err: `2: apiserver_burst: missing argument after "apiserver_burst"; want "apiserver_burst BURST"`},
	{option: "apiserver_burst", kind: "surplus", block: "apiserver_burst 1 2", err: `2: apiserver_burst: surplus argument "2"; want "apiserver_burst BURST"`},
	{option: "apiserver_burst", kind: "repeated", block: "apiserver_burst 1\napiserver_burst 1", err: `3: apiserver_burst: given twice, first at Testfile:2; want it once, as "apiserver_burst BURST"`},
	{option: "apiserver_burst", kind: "bad", block: "apiserver_burst 1.5", err: `2: apiserver_burst "1.5": want a whole number from 0 to 2147483647`},

	{option: "apiserver_max_inflight", kind: "good", block: "apiserver_max_inflight 4", want: func(c *config) { c.maxInflight = 4 }},
	{option: "apiserver_max_inflight", kind: "missing", block: "apiserver_max_inflight", err: `2: apiserver_max_inflight: missing argument after "apiserver_max_inflight"; want "apiserver_max_inflight MAX"`},
	{option: "apiserver_max_inflight", kind: "surplus", block: "apiserver_max_inflight 1 2", err: `2: apiserver_max_inflight: surplus argument "2"; want "apiserver_max_inflight MAX"`},
	{option: "apiserver_max_inflight", kind: "repeated", block: "apiserver_max_inflight 1\napiserver_max_inflight 1", err: `3: apiserver_max_inflight: given twice, first at Testfile:2; want it once, as "apiserver_max_inflight MAX"`},
	{option: "apiserver_max_inflight", kind: "bad", block: "apiserver_max_inflight -1", err: `2: apiserver_max_inflight "-1": want a whole number from 0 to 2147483647`},

	{option: "namespaces", kind: "good", block: "namespaces prod Default prod", want: func(c *config) { c.namespaces = []string{"default", "prod"} }},
	{option: "namespaces", kind: "missing", block: "namespaces", err: `2: namespaces: missing argument after "namespaces"; want "namespaces NAMESPACE..."`},
	{option: "namespaces", kind: "repeated", block: "namespaces a\nnamespaces b", err: `3: namespaces: given twice, first at Testfile:2; want it once, as "namespaces NAMESPACE..."`},
	{option: "namespaces", kind: "bad", block: "namespaces a,b", err: `2: namespaces "a,b": want names of namespaces, separated by spaces`},

	{option: "deny_namespaces", kind: "good", block: "deny_namespaces svc Com", want: func(c *config) { c.denied.Names = []string{"svc", "com"} }},
	{option: "deny_namespaces", kind: "good", block: "deny_namespaces public_suffixes svc !dev !Prod", want: func(c *config) {
		c.denied = index.Denial{Names: []string{"svc"}, PublicSuffixes: true, Except: []string{"dev", "prod"}}
	}},
	{option: "deny_namespaces", kind: "missing", block: "deny_namespaces", err: `2: deny_namespaces: missing argument after "deny_namespaces"; want "deny_namespaces public_suffixes|[!]NAMESPACE..."`},
	{option: "deny_namespaces", kind: "repeated", block: "deny_namespaces a\ndeny_namespaces b", err: `3: deny_namespaces: given twice, first at Testfile:2; want it once, as "deny_namespaces public_suffixes|[!]NAMESPACE..."`},
	{option: "deny_namespaces", kind: "bad", block: "deny_namespaces co.uk", err: `2: deny_namespaces "co.uk": want names of namespaces, public_suffixes, or ! and the name of a namespace`},
	{option: "deny_namespaces", kind: "bad", block: "deny_namespaces public_suffixes !staging", err: `2: deny_namespaces "!staging": not a public suffix, so it is not denied`},
	{option: "deny_namespaces", kind: "bad", block: "deny_namespaces svc !dev", err: `2: deny_namespaces "!dev": only together with public_suffixes, from which it is taken out`},
	{option: "deny_namespaces", kind: "bad", block: "namespaces default dev\ndeny_namespaces public_suffixes", err: `2: namespaces "dev": denied by deny_namespaces at Testfile:3; want it in one of them`},

	{option: "namespace_labels", kind: "good", block: "namespace_labels istio-injection=enabled", want: func(c *config) { c.namespaceLabels = "istio-injection=enabled" }},
	{option: "namespace_labels", kind: "missing", block: "namespace_labels", err: `2: namespace_labels: missing argument after "namespace_labels"; want "namespace_labels EXPRESSION"`},
	{option: "namespace_labels", kind: "repeated", block: "namespace_labels a\nnamespace_labels b", err: `3: namespace_labels: given twice, first at Testfile:2; want it once, as "namespace_labels EXPRESSION"`},
	{option: "namespace_labels", kind: "bad", block: "namespace_labels a in b", err: `2: namespace_labels "a in b": want a label selector: couldn't parse the selector string "a in b": unable to parse requirement: found 'b' expected: '('`},

	{option: "labels", kind: "good", block: "labels environment in (staging, qa),application=nginx", want: func(c *config) { c.labels = "application=nginx,environment in (qa,staging)" }},
	{option: "labels", kind: "missing", block: "labels", err: `2: labels: missing argument after "labels"; want "labels EXPRESSION"`},
	{option: "labels", kind: "repeated", block: "labels a\nlabels b", err: `3: labels: given twice, first at Testfile:2; want it once, as "labels EXPRESSION"`},
	{option: "labels", kind: "bad", block: "labels a>1", err: `2: labels "a>1": want a label selector: "gt" isn't supported in label selectors`},

	{option: "pods", kind: "good", block: "pods disabled", want: func(c *config) { c.pods = podsDisabled }},
	{option: "pods", kind: "good", block: "pods insecure", want: func(c *config) { c.pods = podsInsecure }},
	{option: "pods", kind: "good", block: "pods verified", want: func(c *config) { c.pods = podsVerified }},
	{option: "pods", kind: "missing", block: "pods", err: `2: pods: missing argument after "pods"; want "pods disabled|insecure|verified"`},
	{option: "pods", kind: "surplus", block: "pods insecure verified", err: `2: pods: surplus argument "verified"; want "pods disabled|insecure|verified"`},
	{option: "pods", kind: "repeated", block: "pods insecure\npods insecure", err: `3: pods: given twice, first at Testfile:2; want it once, as "pods disabled|insecure|verified"`},
	{option: "pods", kind: "bad", block: "pods insecur", err: `2: pods "insecur": want disabled or insecure or verified`},

	{option: "pod_ranges", kind: "good", block: "pods insecure\npod_ranges 10.244.0.0/16 fd00:244::/56", want: func(c *config) {
		withPodRanges(c, netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/56"))
	}},
	{option: "pod_ranges", kind: "good", block: "pods insecure\npod_ranges private 203.0.113.0/24", want: func(c *config) {
		withPodRanges(c, append(slices.Clone(schema.PrivateSpace), netip.MustParsePrefix("203.0.113.0/24"))...)
	}},
	{option: "pod_ranges", kind: "good", block: "pod_ranges private", want: func(c *config) {
		c.podRanges = schema.PrivateSpace
		c.warnings = []string{"Testfile:2 - pod_ranges: ignored, since pods is disabled"}
	}},
	{option: "pod_ranges", kind: "missing", block: "pod_ranges", err: `2: pod_ranges: missing argument after "pod_ranges"; want "pod_ranges private|CIDR..."`},
	{option: "pod_ranges", kind: "repeated", block: "pod_ranges private\npod_ranges private", err: `3: pod_ranges: given twice, first at Testfile:2; want it once, as "pod_ranges private|CIDR..."`},
	{option: "pod_ranges", kind: "bad", block: "pod_ranges 10.244.0.0", err: `2: pod_ranges "10.244.0.0": want networks such as 10.244.0.0/16, without bits behind the prefix, or private`},
	{option: "pod_ranges", kind: "bad", block: "pod_ranges 10.244.1.0/16", err: `2: pod_ranges "10.244.1.0/16": want networks such as 10.244.0.0/16, without bits behind the prefix, or private`},
	{option: "pod_ranges", kind: "bad", block: "pod_ranges ::ffff:10.0.0.0/104", err: `2: pod_ranges "::ffff:10.0.0.0/104": want networks such as 10.244.0.0/16, without bits behind the prefix, or private`},

	{option: "endpoint_pod_names", kind: "good", block: "endpoint_pod_names", want: func(c *config) { c.endpointPodNames = true }},
	{option: "endpoint_pod_names", kind: "good", block: "endpoint_pod_names\nnoendpoints", want: func(c *config) {
		c.endpointPodNames, c.noendpoints = true, true
		c.warnings = []string{"Testfile:2 - endpoint_pod_names: ignored, since noendpoints is set"}
	}},
	{option: "endpoint_pod_names", kind: "surplus", block: "endpoint_pod_names on", err: `2: endpoint_pod_names: surplus argument "on"; want "endpoint_pod_names"`},
	{option: "endpoint_pod_names", kind: "repeated", block: "endpoint_pod_names\nendpoint_pod_names", err: `3: endpoint_pod_names: given twice, first at Testfile:2; want it once, as "endpoint_pod_names"`},

	{option: "endpoints", kind: "good", block: "endpoints all", want: func(c *config) { c.endpoints = endpointsAll }},
	{option: "endpoints", kind: "good", block: "endpoints headless", want: func(c *config) { c.endpoints = endpointsHeadless }},
	{option: "endpoints", kind: "good", block: "endpoints headless\nzonal", want: func(c *config) { c.endpoints, c.zonal = endpointsHeadless, true }},
	{option: "endpoints", kind: "good", block: "endpoints all\nendpoint_pod_names", want: func(c *config) { c.endpointPodNames = true }},
	{option: "endpoints", kind: "missing", block: "endpoints", err: `2: endpoints: missing argument after "endpoints"; want "endpoints all|headless"`},
	{option: "endpoints", kind: "surplus", block: "endpoints all headless", err: `2: endpoints: surplus argument "headless"; want "endpoints all|headless"`},
	{option: "endpoints", kind: "repeated", block: "endpoints all\nendpoints all", err: `3: endpoints: given twice, first at Testfile:2; want it once, as "endpoints all|headless"`},
	{option: "endpoints", kind: "bad", block: "endpoints none", err: `2: endpoints "none": want all or headless`},
	{option: "endpoints", kind: "bad", block: "endpoint_pod_names\nendpoints headless", err: `3: endpoints headless: not together with endpoint_pod_names at Testfile:2, which names endpoints of all services`},
	{option: "endpoints", kind: "bad", block: "endpoints headless\nnoendpoints", err: `2: endpoints headless: not together with noendpoints at Testfile:3, which watches no endpoints at all`},
	{option: "endpoints", kind: "bad", block: "endpoints headless\nignore empty_service", err: `2: endpoints headless: not together with ignore at Testfile:3, which needs the endpoints of all services`},
	{option: "endpoints", kind: "bad", block: "manifests m\nendpoints headless", err: `3: endpoints: not together with manifests at Testfile:2, which needs no API server`},

	{option: "noendpoints", kind: "good", block: "noendpoints", want: func(c *config) { c.noendpoints = true }},
	{option: "noendpoints", kind: "surplus", block: "noendpoints on", err: `2: noendpoints: surplus argument "on"; want "noendpoints"`},
	{option: "noendpoints", kind: "repeated", block: "noendpoints\nnoendpoints", err: `3: noendpoints: given twice, first at Testfile:2; want it once, as "noendpoints"`},

	{option: "zonal", kind: "good", block: "zonal", want: func(c *config) { c.zonal = true }},
	{option: "zonal", kind: "surplus", block: "zonal on", err: `2: zonal: surplus argument "on"; want "zonal"`},
	{option: "zonal", kind: "repeated", block: "zonal\nzonal", err: `3: zonal: given twice, first at Testfile:2; want it once, as "zonal"`},

	{option: "multicluster", kind: "good", block: "multicluster Cluster.Local", want: func(c *config) { c.multicluster = []string{"cluster.local."} }},
	{option: "multicluster", kind: "good", block: "multicluster", want: func(c *config) {
		c.warnings = []string{"Testfile:2 - multicluster: no zone is given, so none is a multicluster zone"}
	}},
	{option: "multicluster", kind: "repeated", block: "multicluster\nmulticluster", err: `3: multicluster: given twice, first at Testfile:2; want it once, as "multicluster [ZONES...]"`},
	{option: "multicluster", kind: "bad", block: "multicluster clusterset.local", err: `2: multicluster "clusterset.local.": want one of the directive's own zones, [cluster.local.]`},
	{option: "multicluster", kind: "bad", block: "multicluster cluster..local", err: `2: multicluster "cluster..local": want a zone: a domain name, or a network such as 10.0.0.0/16`},

	{option: "ttl", kind: "good", block: "ttl 30", want: func(c *config) { c.ttl = 30 }},
	{option: "ttl", kind: "good", block: "ttl 0", want: func(c *config) { c.ttl, c.negativeTTL = 0, 0 }},
	{option: "ttl", kind: "good", block: "ttl 3600", want: func(c *config) { c.ttl = 3600 }},
	{option: "ttl", kind: "missing", block: "ttl", err: `2: ttl: missing argument after "ttl"; want "ttl SECONDS"`},
	{option: "ttl", kind: "surplus", block: "ttl 30 60", err: `2: ttl: surplus argument "60"; want "ttl SECONDS"`},
	{option: "ttl", kind: "repeated", block: "ttl 30\nttl 30", err: `3: ttl: given twice, first at Testfile:2; want it once, as "ttl SECONDS"`},
	{option: "ttl", kind: "bad", block: "ttl 30s", err: `2: ttl "30s": want a whole number from 0 to 3600`},
	{option: "ttl", kind: "bad", block: "ttl 3601", err: `2: ttl "3601": want a whole number from 0 to 3600`},
	{option: "ttl", kind: "bad", block: "ttl -1", err: `2: ttl "-1": want a whole number from 0 to 3600`},

	{option: "negative_ttl", kind: "good", block: "negative_ttl 1", want: func(c *config) { c.negativeTTL = 1 }},
	{option: "negative_ttl", kind: "good", block: "negative_ttl 0", want: func(c *config) { c.negativeTTL = 0 }},
	{option: "negative_ttl", kind: "good", block: "ttl 2\nnegative_ttl 60", want: func(c *config) { c.ttl, c.negativeTTL = 2, 60 }},
	{option: "negative_ttl", kind: "missing", block: "negative_ttl", err: `2: negative_ttl: missing argument after "negative_ttl"; want "negative_ttl SECONDS"`},
	{option: "negative_ttl", kind: "surplus", block: "negative_ttl 1 2", err: `2: negative_ttl: surplus argument "2"; want "negative_ttl SECONDS"`},
	{option: "negative_ttl", kind: "repeated", block: "negative_ttl 1\nnegative_ttl 1", err: `3: negative_ttl: given twice, first at Testfile:2; want it once, as "negative_ttl SECONDS"`},
	{option: "negative_ttl", kind: "bad", block: "negative_ttl 3601", err: `2: negative_ttl "3601": want a whole number from 0 to 3600`},

	{option: "fallthrough", kind: "good", block: "fallthrough", want: func(c *config) { c.fall = fall.Root }},
	{option: "fallthrough", kind: "good", block: "fallthrough Cluster.Local in-addr.arpa", want: func(c *config) {
		c.fall = fall.F{Zones: []string{"cluster.local.", "in-addr.arpa."}}
		c.warnings = []string{`Testfile:2 - fallthrough: "in-addr.arpa." has no name in common with the zones [cluster.local.]`}
	}},
	{option: "fallthrough", kind: "repeated", block: "fallthrough\nfallthrough", err: `3: fallthrough: given twice, first at Testfile:2; want it once, as "fallthrough [ZONES...]"`},
	{option: "fallthrough", kind: "bad", block: "fallthrough .local", err: `2: fallthrough ".local": want a zone: a domain name, or a network such as 10.0.0.0/16`},

	{option: "reverse_ranges", kind: "good", block: "fallthrough\nreverse_ranges 10.244.0.0/16 fd00:244::/56", want: func(c *config) {
		withReverseRanges(c, netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/56"))
	}},
	{option: "reverse_ranges", kind: "good", block: "fallthrough\nreverse_ranges private 203.0.113.0/24", want: func(c *config) {
		withReverseRanges(c, append(slices.Clone(respond.ClusterSpace), netip.MustParsePrefix("203.0.113.0/24"))...)
	}},
	{option: "reverse_ranges", kind: "good", block: "reverse_ranges private", want: func(c *config) {
		c.reverseRanges = respond.ClusterSpace
		c.warnings = []string{"Testfile:2 - reverse_ranges: ignored, since nothing falls through"}
	}},
	{option: "reverse_ranges", kind: "missing", block: "reverse_ranges", err: `2: reverse_ranges: missing argument after "reverse_ranges"; want "reverse_ranges private|CIDR..."`},
	{option: "reverse_ranges", kind: "repeated", block: "reverse_ranges private\nreverse_ranges private", err: `3: reverse_ranges: given twice, first at Testfile:2; want it once, as "reverse_ranges private|CIDR..."`},
	{option: "reverse_ranges", kind: "bad", block: "reverse_ranges 10.244.0.0", err: `2: reverse_ranges "10.244.0.0": want networks such as 10.244.0.0/16, without bits behind the prefix, or private`},
	{option: "reverse_ranges", kind: "bad", block: "reverse_ranges 10.244.1.0/16", err: `2: reverse_ranges "10.244.1.0/16": want networks such as 10.244.0.0/16, without bits behind the prefix, or private`},
	{option: "reverse_ranges", kind: "bad", block: "reverse_ranges ::ffff:10.0.0.0/104", err: `2: reverse_ranges "::ffff:10.0.0.0/104": want networks such as 10.244.0.0/16, without bits behind the prefix, or private`},

	{option: "ignore", kind: "good", block: "ignore empty_service", want: func(c *config) { c.ignoreEmpty = true }},
	{option: "ignore", kind: "missing", block: "ignore", err: `2: ignore: missing argument after "ignore"; want "ignore empty_service"`},
	{option: "ignore", kind: "surplus", block: "ignore empty_service more", err: `2: ignore: surplus argument "more"; want "ignore empty_service"`},
	{option: "ignore", kind: "repeated", block: "ignore empty_service\nignore empty_service", err: `3: ignore: given twice, first at Testfile:2; want it once, as "ignore empty_service"`},
	{option: "ignore", kind: "bad", block: "ignore empty_services", err: `2: ignore "empty_services": want empty_service`},

	{option: "ptr", kind: "good", block: "ptr all", want: func(c *config) { c.ptr = ptrAll }},
	{option: "ptr", kind: "good", block: "ptr first", want: func(c *config) { c.ptr = ptrFirst }},
	{option: "ptr", kind: "missing", block: "ptr", err: `2: ptr: missing argument after "ptr"; want "ptr all|first"`},
	{option: "ptr", kind: "surplus", block: "ptr all first", err: `2: ptr: surplus argument "first"; want "ptr all|first"`},
	{option: "ptr", kind: "repeated", block: "ptr all\nptr all", err: `3: ptr: given twice, first at Testfile:2; want it once, as "ptr all|first"`},
	{option: "ptr", kind: "bad", block: "ptr last", err: `2: ptr "last": want all or first`},

	{option: "externalname_rcode", kind: "good", block: "externalname_rcode target", want: func(c *config) { c.externalNameRcode = respond.TargetCode }},
	{option: "externalname_rcode", kind: "good", block: "externalname_rcode noerror", want: func(c *config) { c.externalNameRcode = respond.NoErrorCode }},
	{option: "externalname_rcode", kind: "missing", block: "externalname_rcode", err: `2: externalname_rcode: missing argument after "externalname_rcode"; want "externalname_rcode target|noerror"`},
	{option: "externalname_rcode", kind: "surplus", block: "externalname_rcode target noerror", err: `2: externalname_rcode: surplus argument "noerror"; want "externalname_rcode target|noerror"`},
	{option: "externalname_rcode", kind: "repeated", block: "externalname_rcode target\nexternalname_rcode target", err: `3: externalname_rcode: given twice, first at Testfile:2; want it once, as "externalname_rcode target|noerror"`},
	{option: "externalname_rcode", kind: "bad", block: "externalname_rcode nxdomain", err: `2: externalname_rcode "nxdomain": want target or noerror`},

	{option: "explain", kind: "good", block: "explain reason", want: func(c *config) { c.explain = respond.ExplainReason }},
	{option: "explain", kind: "good", block: "explain off", want: func(c *config) { c.explain = respond.ExplainOff }},
	{option: "explain", kind: "missing", block: "explain", err: `2: explain: missing argument after "explain"; want "explain reason|off"`},
	{option: "explain", kind: "surplus", block: "explain reason off", err: `2: explain: surplus argument "off"; want "explain reason|off"`},
	{option: "explain", kind: "repeated", block: "explain off\nexplain off", err: `3: explain: given twice, first at Testfile:2; want it once, as "explain reason|off"`},
	{option: "explain", kind: "bad", block: "explain on", err: `2: explain "on": want reason or off`},

	{option: "snapshot", kind: "good", block: "snapshot /var/dns", want: func(c *config) {
		c.snapshot = kube.Snapshot{File: "/var/dns", Interval: 30 * time.Second, MaxStale: 24 * time.Hour}
	}},
	{option: "snapshot", kind: "good", block: "snapshot /var/dns 5s", want: func(c *config) {
		c.snapshot = kube.Snapshot{File: "/var/dns", Interval: 5 * time.Second, MaxStale: 24 * time.Hour}
	}},
	{option: "snapshot", kind: "missing", block: "snapshot", err: `2: snapshot: missing argument after "snapshot"; want "snapshot FILE [INTERVAL]"`},
	{option: "snapshot", kind: "surplus", block: "snapshot /var/dns 5s 6s", err: `2: snapshot: surplus argument "6s"; want "snapshot FILE [INTERVAL]"`},
	{option: "snapshot", kind: "repeated", block: "snapshot a\nsnapshot b", err: `3: snapshot: given twice, first at Testfile:2; want it once, as "snapshot FILE [INTERVAL]"`},
	{option: "snapshot", kind: "bad", block: "snapshot /var/dns 5", err: `2: snapshot "5": want a duration, 1s or more, such as 30s`},
	{option: "snapshot", kind: "bad", block: "snapshot /var/dns 5ms", err: `2: snapshot "5ms": want a duration, 1s or more, such as 30s`},
	{option: "snapshot", kind: "bad", block: "manifests m\nsnapshot /var/dns", err: `3: snapshot: not together with manifests at Testfile:2, which needs no API server`},

	{option: "max_stale", kind: "good", block: "snapshot /var/dns\nmax_stale 1h", want: func(c *config) {
		c.snapshot = kube.Snapshot{File: "/var/dns", Interval: 30 * time.Second, MaxStale: time.Hour}
	}},
	{option: "max_stale", kind: "missing", block: "snapshot /var/dns\nmax_stale", err: `3: max_stale: missing argument after "max_stale"; want "max_stale DURATION"`},
	{option: "max_stale", kind: "surplus", block: "snapshot /var/dns\nmax_stale 1h 2h", err: `3: max_stale: surplus argument "2h"; want "max_stale DURATION"`},
	{option: "max_stale", kind: "repeated", block: "max_stale 1h\nmax_stale 1h", err: `3: max_stale: given twice, first at Testfile:2; want it once, as "max_stale DURATION"`},
	{option: "max_stale", kind: "bad", block: "snapshot /var/dns\nmax_stale 0s", err: `3: max_stale "0s": want a duration of more than 0, such as 24h`},
	{option: "max_stale", kind: "bad", block: "max_stale 1h", err: `2: max_stale: only together with snapshot, whose age it limits`},

	{option: "brake", kind: "good", block: "brake on", want: func(c *config) { c.noBrake = false }},
	{option: "brake", kind: "good", block: "brake off", want: func(c *config) { c.noBrake = true }},
	{option: "brake", kind: "missing", block: "brake", err: `2: brake: missing argument after "brake"; want "brake on|off"`},
	{option: "brake", kind: "surplus", block: "brake on off", err: `2: brake: surplus argument "off"; want "brake on|off"`},
	{option: "brake", kind: "repeated", block: "brake on\nbrake on", err: `3: brake: given twice, first at Testfile:2; want it once, as "brake on|off"`},
	{option: "brake", kind: "bad", block: "brake 60s", err: `2: brake "60s": want on or off`},
	{option: "brake", kind: "bad", block: "manifests m\nbrake on", err: `3: brake: not together with manifests at Testfile:2, which needs no API server`},

	{option: "selfcheck", kind: "good", block: "selfcheck 10m", want: func(c *config) { c.selfCheck = 10 * time.Minute }},
	{option: "selfcheck", kind: "good", block: "selfcheck off", want: func(c *config) { c.selfCheck = 0 }},
	{option: "selfcheck", kind: "missing", block: "selfcheck", err: `2: selfcheck: missing argument after "selfcheck"; want "selfcheck INTERVAL|off"`},
	{option: "selfcheck", kind: "surplus", block: "selfcheck 5m 6m", err: `2: selfcheck: surplus argument "6m"; want "selfcheck INTERVAL|off"`},
	{option: "selfcheck", kind: "repeated", block: "selfcheck off\nselfcheck off", err: `3: selfcheck: given twice, first at Testfile:2; want it once, as "selfcheck INTERVAL|off"`},
	{option: "selfcheck", kind: "bad", block: "selfcheck 5ms", err: `2: selfcheck "5ms": want a duration, 1s or more, such as 5m, or off`},
	{option: "selfcheck", kind: "bad", block: "selfcheck on", err: `2: selfcheck "on": want a duration, 1s or more, such as 5m, or off`},
	{option: "selfcheck", kind: "bad", block: "manifests m\nselfcheck off", err: `3: selfcheck: not together with manifests at Testfile:2, which needs no API server`},

	{option: "startup_timeout", kind: "good", block: "startup_timeout 1m30s", want: func(c *config) { c.startupTimeout = 90 * time.Second }},
	{option: "startup_timeout", kind: "good", block: "startup_timeout 0", want: func(c *config) { c.startupTimeout = 0 }},
	{option: "startup_timeout", kind: "missing", block: "startup_timeout", err: `2: startup_timeout: missing argument after "startup_timeout"; want "startup_timeout DURATION"`},
	{option: "startup_timeout", kind: "surplus", block: "startup_timeout 5s 6s", err: `2: startup_timeout: surplus argument "6s"; want "startup_timeout DURATION"`},
	{option: "startup_timeout", kind: "repeated", block: "startup_timeout 5s\nstartup_timeout 5s", err: `3: startup_timeout: given twice, first at Testfile:2; want it once, as "startup_timeout DURATION"`},
	{option: "startup_timeout", kind: "bad", block: "startup_timeout 5", err: `2: startup_timeout "5": want a duration, 0 or more, such as 5s`},
	{option: "startup_timeout", kind: "bad", block: "startup_timeout -5s", err: `2: startup_timeout "-5s": want a duration, 0 or more, such as 5s`},
}

func withPodRanges(c *config, ranges ...netip.Prefix) { c.pods, c.podRanges = podsInsecure, ranges }

func withReverseRanges(c *config, ranges ...netip.Prefix) {
	c.reverseRanges = ranges
	c.fall.SetZonesFromArgs(nil)
}

// What is wrong with the source is said of the line that names it.
func TestUnreadableSourceIsPlaced(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "") // not in a pod
	missing := filepath.Join(t.TempDir(), "missing")
	for _, tc := range []struct{ block, want string }{
		{"ttl 5\nmanifests " + missing, "Testfile:3: manifests \"" + missing + "\": want a file or a folder"},
		{"ttl 5\nkubeconfig " + missing, "Testfile:3: kubeconfig \"" + missing + "\": stat"},
		{"tls a b c\nendpoint https://192.0.2.1", "Testfile:3: "},
		{"ttl 5", "Testfile:1: "},
	} {
		err := setup(caddy.NewTestController("dns", "kubezone cluster.local {\n"+tc.block+"\n}"), "kubezone")
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s: %v; want %s", tc.block, err, tc.want)
		}
	}
}

func TestParseOptions(t *testing.T) {
	for _, tc := range optionCases {
		t.Run(strings.ReplaceAll(tc.block, "\n", "; "), func(t *testing.T) {
			got, err := parse(caddy.NewTestController("dns", "kubezone cluster.local {\n"+tc.block+"\n}"))
			if tc.kind == "good" {
				if err != nil {
					t.Fatal(err)
				}
				if want := defaults(tc.want); !reflect.DeepEqual(got, want) {
					t.Errorf("got %+v\nwant %+v", got, want)
				}
				return
			}
			line, text, _ := strings.Cut(tc.err, ": ")
			wantError(t, err, "Testfile:"+line+" - Error during parsing: "+text)
		})
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want %s", want)
	}
	if err.Error() != want {
		t.Errorf("got error %s\nwant       %s", err, want)
	}
}

// TestParseCountsCases checks that every option has a case of each kind that
// makes sense for it.
func TestParseCountsCases(t *testing.T) {
	type pair struct{ option, kind string }
	cases := make(map[pair]int)
	for _, tc := range optionCases {
		cases[pair{tc.option, tc.kind}]++
	}
	for _, o := range options {
		want := []string{"good", "repeated"}
		if o.Min > 0 {
			want = append(want, "missing")
		}
		if o.Max < corefile.Many {
			want = append(want, "surplus")
		}
		if o.Max > 0 {
			want = append(want, "bad")
		}
		for _, kind := range want {
			if cases[pair{o.Name, kind}] == 0 {
				t.Errorf("option %s has no case of kind %s", o.Name, kind)
			}
		}
	}
}

const allOptions = "apiserver_burst, apiserver_max_inflight, apiserver_qps, brake, deny_namespaces, endpoint, endpoint_pod_names, endpoints, explain, " +
	"externalname_rcode, fallthrough, ignore, kubeconfig, labels, manifests, max_stale, multicluster, namespace_labels, namespaces, " +
	"negative_ttl, noendpoints, pod_ranges, pods, ptr, reverse_ranges, selfcheck, snapshot, startup_timeout, tls, ttl, zonal"

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ name, text, err string }{
		{"unknown option", "kubezone cluster.local {\ncolour blue\n}", `2: unknown option "colour"; want one of ` + allOptions},
		{"unknown option, near", "kubezone cluster.local {\nttl 5\nnamespace a\n}", `3: unknown option "namespace", did you mean "namespaces"?; want one of ` + allOptions},
		{"options are in lower case", "kubezone cluster.local {\nPods verified\n}", `2: unknown option "Pods", did you mean "pods"?; want one of ` + allOptions},
		{"block of an option", "kubezone cluster.local {\nttl 5 {\nmin 1\n}\n}", `2: ttl: unexpected "{"; want "ttl SECONDS" and no block`},
		{"block of no option", "kubezone cluster.local {\nttl 5\n{\n}\n}", `3: unexpected "{" after kubezone`},
		{"directive twice", "kubezone cluster.local {\nttl 5\n}\nkubezone cluster.local", `4: kubezone: given twice in this server block, first at Testfile:1`},
		{"the other directive twice", "kubernetes cluster.local\nkubernetes cluster.local", `2: kubernetes: given twice in this server block, first at Testfile:1`},
		{"empty zone", `kubezone ""`, `1: "": want a zone: a domain name, or a network such as 10.0.0.0/16`},
		{"bad zone", "kubezone cluster..local", `1: "cluster..local": want a zone: a domain name, or a network such as 10.0.0.0/16`},
		{"zone without a space before the brace", "kubezone cluster.local{ }", `1: "cluster.local{": want a zone: a domain name, or a network such as 10.0.0.0/16`},
		{"no zone", "kubezone", `1: zones []: want at least one that is not below in-addr.arpa or ip6.arpa`},
		{"reverse zones only", "kubezone in-addr.arpa 10.0.0.0/16 ip6.arpa", `1: zones [in-addr.arpa. 0.10.in-addr.arpa. ip6.arpa.]: want at least one that is not below in-addr.arpa or ip6.arpa`},
		{"namespaces and namespace_labels", "kubezone cluster.local {\nnamespaces a\nnamespace_labels a=b\n}", `3: namespace_labels: not together with namespaces at Testfile:2; want one of them`},
		{"zonal without endpoints", "kubezone cluster.local {\nzonal\nnoendpoints\n}", `2: zonal: not together with noendpoints at Testfile:3, since zonal names are names of endpoints`},
		{"manifests and kubeconfig", "kubezone cluster.local {\nmanifests a\nkubeconfig a\n}", `3: kubeconfig: not together with manifests at Testfile:2, which needs no API server`},
		{"manifests and endpoint", "kubezone cluster.local {\nendpoint http://a\nmanifests a\n}", `2: endpoint: not together with manifests at Testfile:3, which needs no API server`},
		{"manifests and tls", "kubezone cluster.local {\nmanifests a\ntls a b c\n}", `3: tls: not together with manifests at Testfile:2, which needs no API server`},
		{"manifests and apiserver_qps", "kubezone cluster.local {\nmanifests a\napiserver_qps 1\n}", `3: apiserver_qps: not together with manifests at Testfile:2, which needs no API server`},
		{"manifests and apiserver_burst", "kubezone cluster.local {\nmanifests a\napiserver_burst 1\n}", `3: apiserver_burst: not together with manifests at Testfile:2, which needs no API server`},
		{"manifests and apiserver_max_inflight", "kubezone cluster.local {\nmanifests a\napiserver_max_inflight 1\n}", `3: apiserver_max_inflight: not together with manifests at Testfile:2, which needs no API server`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := parse(caddy.NewTestController("dns", tc.text))
			line, text, _ := strings.Cut(tc.err, ": ")
			wantError(t, err, "Testfile:"+line+" - Error during parsing: "+text)
		})
	}
}

func TestParseZones(t *testing.T) {
	for _, tc := range []struct {
		name, directive string
		keys, zones     []string
		primary         string
	}{
		{"arguments", "kubezone Cluster.Local in-addr.arpa ip6.arpa", []string{"dns://.:53"},
			[]string{"cluster.local.", "in-addr.arpa.", "ip6.arpa."}, "cluster.local."},
		{"server block", "kubezone", []string{"dns://in-addr.arpa.:53", "dns://cluster.local.:53"},
			[]string{"in-addr.arpa.", "cluster.local."}, "cluster.local."},
		{"network on an octet", "kubezone 10.96.0.0/16 cluster.local", nil,
			[]string{"96.10.in-addr.arpa.", "cluster.local."}, "cluster.local."},
		{"network between octets", "kubezone 10.0.0.0/15 cluster.local", nil,
			[]string{"0.10.in-addr.arpa.", "1.10.in-addr.arpa.", "cluster.local."}, "cluster.local."},
		{"IPv6 network", "kubezone cluster.local fd00:10:96::/48", nil,
			[]string{"cluster.local.", "6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa."}, "cluster.local."},
		{"root", "kubezone .", nil, []string{"."}, "."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := caddy.NewTestController("dns", tc.directive)
			c.ServerBlockKeys = tc.keys
			cfg, err := parse(c)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(cfg.zones, tc.zones) || cfg.primary != tc.primary {
				t.Errorf("zones %v, primary %s; want %v, %s", cfg.zones, cfg.primary, tc.zones, tc.primary)
			}
		})
	}
}

// TestParseKubeadm holds the block of kubeadm's default Corefile.
func TestParseKubeadm(t *testing.T) {
	got, err := parse(caddy.NewTestController("dns", `kubernetes cluster.local in-addr.arpa ip6.arpa {
   pods insecure
   fallthrough in-addr.arpa ip6.arpa
   ttl 30
}`))
	if err != nil {
		t.Fatal(err)
	}
	want := defaults(func(c *config) {
		c.zones = []string{"cluster.local.", "in-addr.arpa.", "ip6.arpa."}
		c.pods = podsInsecure
		c.fall = fall.F{Zones: []string{"in-addr.arpa.", "ip6.arpa."}}
		c.ttl = 30
	})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// TestParseRoot checks that only manifests follow the root plugin: the stock
// plugin takes a kubeconfig and certificates from the working directory.
func TestParseRoot(t *testing.T) {
	for _, tc := range []struct {
		block string
		want  func(*config)
	}{
		{"manifests demo /etc/dns/a.yaml", func(c *config) { c.manifests = []string{"/srv/demo", "/etc/dns/a.yaml"} }},
		{"kubeconfig admin.conf", func(c *config) { c.kubeconfig = "admin.conf" }},
	} {
		t.Run(tc.block, func(t *testing.T) {
			c := caddy.NewTestController("dns", "kubezone cluster.local {\n"+tc.block+"\n}")
			dnsserver.GetConfig(c).Root = "/srv"
			got, err := parse(c)
			if err != nil {
				t.Fatal(err)
			}
			if want := defaults(tc.want); !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestParseNamesImportedFile(t *testing.T) {
	c := caddy.NewTestController("dns", "")
	c.Dispenser = caddyfile.NewDispenserTokens("Corefile", []caddyfile.Token{
		{File: "Corefile", Line: 3, Text: "kubezone"}, {File: "Corefile", Line: 3, Text: "cluster.local"}, {File: "Corefile", Line: 3, Text: "{"},
		{File: "options.conf", Line: 1, Text: "ttl"}, {File: "options.conf", Line: 1, Text: "x"},
		{File: "Corefile", Line: 5, Text: "}"},
	})
	_, err := parse(c)
	wantError(t, err, `options.conf:1 - Error during parsing: ttl "x": want a whole number from 0 to 3600`)
}

// TestReadmeCorefiles parses the directive in every Corefile of the README.
func TestReadmeCorefiles(t *testing.T) {
	found := 0
	for i, text := range readmeBlocks(t, "~~~ corefile\n") {
		blocks, err := caddyfile.Parse("README.md", strings.NewReader(text), nil)
		if err != nil {
			t.Errorf("Corefile %d: %v\n%s", i, err, text)
		}
		for _, block := range blocks {
			for _, directive := range []string{"kubezone", "kubernetes"} {
				tokens, ok := block.Tokens[directive]
				if !ok {
					continue
				}
				found++
				c := caddy.NewTestController("dns", "")
				c.Dispenser = caddyfile.NewDispenserTokens("README.md", tokens)
				c.ServerBlockKeys = block.Keys
				if cfg, err := parse(c); err != nil || cfg.warnings != nil {
					t.Errorf("Corefile %d: error %v, warnings %v\n%s", i, err, cfg.warnings, text)
				}
			}
		}
	}
	if found == 0 {
		t.Error("README.md holds no Corefile with the directive")
	}
}

// TestReadmeSyntax compares the README's list of options with the table.
func TestReadmeSyntax(t *testing.T) {
	var want strings.Builder
	want.WriteString("kubezone [ZONES...] {\n")
	for _, o := range options {
		want.WriteString("    " + o.Synopsis() + "\n")
	}
	want.WriteString("}\n")
	if got := readmeBlocks(t, "~~~ txt\n"); len(got) == 0 || got[0] != want.String() {
		t.Errorf("got %q\nwant %q", got, want.String())
	}
}

// readmeBlocks returns the fenced blocks of README.md that begin with fence.
func readmeBlocks(t *testing.T, fence string) []string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, rest := range strings.Split(string(text), fence)[1:] {
		block, _, _ := strings.Cut(rest, "~~~\n")
		blocks = append(blocks, block)
	}
	return blocks
}
