package doctor

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/plugin"
	"github.com/kubezone/kubezone/plugin/internal/kube"
	"github.com/kubezone/kubezone/plugin/internal/schema"
	"github.com/kubezone/kubezone/plugin/kubezone"
)

// A block is a server block of the Corefile.
type block struct {
	caddyfile.ServerBlock
	cluster *kubezone.Description // nil if it does not serve a cluster
}

// has tells whether the block has a directive.
func (b block) has(directive string) bool { return b.Tokens[directive] != nil }

// name is how the block is told from others.
func (b block) name() string { return "the server block of " + strings.Join(b.Keys, ", ") }

// zones are the block's, fully qualified.
func (b block) zones() []string { return plugin.OriginsFromArgsOrServerBlock(nil, b.Keys) }

// lines are the lines of a directive in the block, each as its words.
func (b block) lines(directive string) [][]string {
	var lines [][]string
	at := 0
	for _, t := range b.Tokens[directive] {
		if t.Line != at {
			lines, at = append(lines, nil), t.Line
		}
		if t.Text != "{" && t.Text != "}" {
			lines[len(lines)-1] = append(lines[len(lines)-1], t.Text)
		}
	}
	return slices.DeleteFunc(lines, func(words []string) bool { return len(words) == 0 })
}

// readCorefile reports whether there is something to look at.
func (d *diagnosis) readCorefile() bool {
	text, err := os.ReadFile(d.options.corefile)
	if err != nil {
		d.find(failure, "corefile", "give the path of the Corefile with -conf", "%v", err)
		return false
	}
	blocks, err := caddyfile.Parse(d.options.corefile, bytes.NewReader(text), d.build.Directives)
	if err != nil {
		d.find(failure, "corefile", "mend the line; the server does not start with it, and a reload keeps the Corefile before", "%v", err)
		return false
	}
	for _, b := range blocks {
		d.blocks = append(d.blocks, d.readBlock(b))
	}
	if !slices.ContainsFunc(d.blocks, func(b block) bool { return b.has("kubezone") || b.has("kubernetes") }) {
		d.find(failure, "cluster-zone", "add kubezone cluster.local in-addr.arpa ip6.arpa to a server block", "no server block has a kubezone or kubernetes directive, so no name of the cluster is served")
	}
	return true
}

func (d *diagnosis) readBlock(parsed caddyfile.ServerBlock) block {
	b := block{ServerBlock: parsed}
	for directive, instead := range d.build.LeftOut {
		if b.has(directive) {
			d.find(failure, "corefile", instead, "line %d: the directive %s is not in this build, so the server does not start", b.Tokens[directive][0].Line, directive)
		}
	}
	for _, directive := range []string{"kubezone", "kubernetes"} {
		if !b.has(directive) {
			continue
		}
		c := caddy.NewTestController("dns", "") // the only way to one that parses alone
		c.Dispenser = caddyfile.NewDispenserTokens(d.options.corefile, b.Tokens[directive])
		c.ServerBlockKeys = b.Keys
		described, err := kubezone.Describe(c)
		if err != nil {
			d.find(failure, "options", "mend the line; plugin/kubezone/README.md lists the options", "%v", err)
			continue
		}
		for _, w := range described.Warnings {
			d.find(warning, "options", "take the option out, or what keeps it from having an effect", "%s", w)
		}
		b.cluster = &described
	}
	return b
}

// source is where the cluster's objects come from, or nil if no API server is to
// be asked.
func (d *diagnosis) source() *kube.Config {
	for _, b := range d.blocks {
		if b.cluster == nil || len(b.cluster.Source.Manifests) > 0 || d.options.offline {
			continue
		}
		c := b.cluster.Source
		if d.options.kubeconfig != "" {
			c.Kubeconfig, c.Context, c.Endpoint = d.options.kubeconfig, "", ""
		}
		return &c
	}
	return nil
}

// expected are plugins that a server in a cluster wants.
var expected = []struct {
	directive string
	severity  severity
	why       string
	fix       string
}{
	{"ready", warning, "a rollout cannot tell when the server knows the cluster, and replaces all replicas by ones that do not", "add ready, and a readinessProbe for :8181/ready"},
	{"health", warning, "the kubelet cannot tell that the server hangs, and a pod that ends drops queries at once", "add health { lameduck 5s }, and a livenessProbe for :8080/health"},
	{"errors", warning, "errors of forward and others are not logged", "add errors"},
	{"reload", note, "a change of the Corefile needs a restart", "add reload"},
	{"prometheus", note, "there are no metrics", "add prometheus :9153"},
}

func (d *diagnosis) examinePlugins(b block) {
	if b.cluster == nil {
		return
	}
	for _, e := range expected {
		if !b.has(e.directive) {
			d.find(e.severity, "plugins", e.fix, "%s has no %s: %s", b.name(), e.directive, e.why)
		}
	}
	if b.has("health") && !slices.ContainsFunc(b.lines("health"), func(words []string) bool { return words[0] == "lameduck" }) {
		d.find(note, "plugins", "add lameduck 5s to health", "health has no lameduck: a pod that ends stops to answer before all nodes know")
	}
	if slices.Contains(b.zones(), ".") && !b.has("forward") {
		d.find(note, "plugins", "add forward . /etc/resolv.conf", "%s has no forward: names outside of the cluster are not resolved", b.name())
	}
	if b.has("forward") && !b.has("loop") {
		d.find(note, "plugins", "add loop", "%s has forward without loop: queries that come back are not noticed", b.name())
	}
}

// examineProfiling looks for pprof where others than this pod reach it.
func (d *diagnosis) examineProfiling(b block) {
	for _, words := range b.lines("pprof") {
		if words[0] != "pprof" || len(words) < 2 { // its default is localhost
			continue
		}
		host, _, err := net.SplitHostPort(words[1])
		if addr, bad := netip.ParseAddr(host); err == nil && (host == "localhost" || (bad == nil && addr.IsLoopback())) {
			continue
		}
		d.find(warning, "pprof", "take pprof out, or leave its address away", "pprof listens on %s: whoever reaches the pod reads its memory and takes its time", words[1])
	}
}

func (d *diagnosis) examineGuards(b block) {
	c := b.cluster
	if len(c.Denied.Names) == 0 && !c.Denied.PublicSuffixes {
		d.find(note, "guards", "add deny_namespaces svc pod com net org, or public_suffixes", "deny_namespaces is not set: whoever may make a namespace com or svc answers for names of others")
	}
	if c.Insecure && len(c.Pods) == 0 {
		d.find(note, "guards", "add pod_ranges with the networks of your pods, or private", "pods insecure without pod_ranges: every address has a name in the cluster, 169-254-169-254.default.pod too")
	}
	for _, zone := range c.Zones {
		switch {
		case !b.has("forward") || !c.FallsThrough(zone):
		case !schema.IsReverse(zone):
			d.find(warning, "fallthrough", "name the zones behind fallthrough: fallthrough in-addr.arpa ip6.arpa", "%s: names in %s that do not exist are asked upstream, and upstream's answers are kept by cache", c.At, zone)
		case len(c.Own) == 0:
			d.find(note, "guards", "add reverse_ranges with the networks of pods and services, or private", "%s: reverse names of the cluster's own addresses in %s are asked upstream if nothing has them", c.At, zone)
		}
	}
}

// examineCache looks for a cache that keeps what is in memory anyway.
func (d *diagnosis) examineCache(b block) {
	if !b.has("cache") {
		return
	}
	var disabled []string
	for _, words := range b.lines("cache") {
		if len(words) >= 2 && words[0] == "disable" && words[1] == "denial" {
			if disabled = append(disabled, plugin.OriginsFromArgsOrServerBlock(words[2:], b.Keys)...); len(words) == 2 {
				return
			}
		}
	}
	for _, zone := range b.cluster.Zones {
		if schema.IsReverse(zone) || slices.Contains(b.cluster.Uncached, zone) || plugin.Zones(disabled).Matches(zone) != "" {
			continue
		}
		d.find(warning, "cache", "take "+zone+" out of fallthrough, or add to cache: disable denial "+strings.TrimSuffix(zone, "."),
			"%s: as %s falls through, cache keeps the news that a name in it does not exist, and a Service made just after stays unknown", b.cluster.At, zone)
	}
}
