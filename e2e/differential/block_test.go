package differential

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/kubezone/kubezone/e2e/harness"
)

// A podMode is what the option pods says.
type podMode int

const (
	podsDisabled podMode = iota
	podsInsecure
	podsVerified
)

// A block is a server block: an option set, and what of it the table of differences needs to know.
type block struct {
	name    string
	address string // an address on loopback that the block is bound to; "" for all addresses
	port    string // the variable that holds the port
	zones   []string
	options []string

	pods             podMode
	ttl              uint32
	labels           labels.Selector // of Services and pods; nil for all
	namespaceLabels  labels.Selector
	namespaces       []string
	endpointPodNames bool
	noEndpoints      bool
	ignoreEmpty      bool
	zonal            bool
	through          []string // zones that fallthrough names
}

var bothReverse = []string{"in-addr.arpa.", "ip6.arpa."}

// clusterZones are those of nearly every cluster.
var clusterZones = append([]string{harness.Domain + "."}, bothReverse...)

// importZones are those of a cluster that shows what others share with it.
var importZones = append([]string{harness.Domain + ".", importZone}, bothReverse...)

// blocks are the option sets. Three listen on all addresses of the machine, as in a cluster; the others are bound to an
// address each.
var blocks = []*block{
	{name: "defaults", port: "HEALTH", zones: clusterZones, ttl: 5},
	{name: "kubeadm", port: "READY", zones: clusterZones, ttl: 30, pods: podsInsecure, through: bothReverse,
		options: []string{"pods insecure", "ttl 30", "fallthrough in-addr.arpa ip6.arpa"}},
	{name: "verified pods", port: "METRICS", zones: clusterZones, pods: podsVerified, endpointPodNames: true,
		options: []string{"pods verified", "endpoint_pod_names", "ttl 0"}},
	{name: "labels", address: "127.0.0.11", zones: clusterZones, ttl: 5, pods: podsVerified, labels: selector("tier=front"),
		options: []string{"pods verified", "labels tier=front"}},
	{name: "namespace labels", address: "127.0.0.12", zones: clusterZones, ttl: 5, pods: podsInsecure, namespaceLabels: selector("team in (a)"),
		options: []string{"pods insecure", "namespace_labels team in (a)"}},
	{name: "namespaces", address: "127.0.0.13", zones: clusterZones, ttl: 3600, pods: podsVerified,
		namespaces: []string{"blue", "svc", markNamespace, markNamespace + "-0", markNamespace + "-1"},
		options:    []string{"pods verified", "namespaces blue svc mark mark-0 mark-1", "ttl 3600"}},
	{name: "empty services", address: "127.0.0.14", zones: clusterZones, ttl: 5, ignoreEmpty: true, through: []string{"."},
		options: []string{"ignore empty_service", "fallthrough"}},
	{name: "no endpoints", address: "127.0.0.15", zones: clusterZones, ttl: 5, noEndpoints: true, pods: podsInsecure,
		options: []string{"noendpoints", "pods insecure"}},
	{name: "topology zones", address: "127.0.0.16", zones: clusterZones, ttl: 5, zonal: true, endpointPodNames: true,
		options: []string{"zonal", "endpoint_pod_names"}},
	{name: "topology zones and more", address: "127.0.0.17", zones: clusterZones, ttl: 5, zonal: true, ignoreEmpty: true,
		labels: selector("tier=front"), namespaceLabels: selector("team=a"), pods: podsVerified, through: []string{"blue.svc." + harness.Domain + "."},
		options: []string{"zonal", "ignore empty_service", "labels tier=front", "namespace_labels team=a", "pods verified",
			"fallthrough blue.svc.cluster.local"}},
	{name: "several zones", address: "127.0.0.18", ttl: 5, pods: podsInsecure, zones: []string{
		"k8s.example.", harness.Domain + ".", "red.svc." + harness.Domain + ".", "96.10.in-addr.arpa.", "244.10.in-addr.arpa.", "d.f.ip6.arpa."},
		options: []string{"pods insecure"}},
	{name: "multicluster", address: "127.0.0.19", zones: importZones, ttl: 5, pods: podsInsecure, endpointPodNames: true,
		options: []string{"multicluster clusterset.local", "pods insecure", "endpoint_pod_names"}},
	{name: "multicluster and more", address: "127.0.0.20", zones: importZones, ttl: 30, zonal: true, ignoreEmpty: true, through: []string{importZone},
		labels: selector("tier=front"), namespaceLabels: selector("team=a"), pods: podsVerified,
		options: []string{"multicluster clusterset.local", "zonal", "ignore empty_service", "labels tier=front", "namespace_labels team=a",
			"pods verified", "ttl 30", "fallthrough clusterset.local"}},
}

func selector(text string) labels.Selector {
	s, err := labels.Parse(text)
	if err != nil {
		panic(err) // the text is a constant here
	}
	return s
}

// files are what the Corefile names: the world outside, and what answers where something falls through.
var files = map[string]string{
	"example.org.zone": `$ORIGIN example.org.
$TTL 60
@ SOA ns hostmaster 1 7200 1800 86400 60
@ NS ns
ns A 198.51.100.53
www A 198.51.100.80
www A 198.51.100.81
www AAAA 2001:db8::80
www MX 10 mail
www TXT "www"
alias CNAME www
lost CNAME missing
away CNAME www.example.invalid.
_sip._tcp SRV 1 2 5060 www
big TXT "` + strings.Repeat("x", 250) + `"
` + manyAddresses,
	"next.zone": `$TTL 77
@ SOA next. next. 1 7200 1800 86400 77
@ NS next.
* TXT "next"
`,
}

// manyAddresses do not fit into any UDP reply.
var manyAddresses = func() string {
	var text strings.Builder
	for i := range 100 {
		fmt.Fprintf(&text, "big A 198.51.100.%d\n", i)
	}
	return text.String()
}()

// corefile is the same for both servers.
func corefile() string {
	var text strings.Builder
	for _, b := range blocks {
		port, bind := b.port, ""
		if b.address != "" {
			port, bind = "DNS", "\n\tbind "+b.address
		}
		fmt.Fprintf(&text, `.:{$%s} {%s
	template ANY ANY fail.test {
		rcode SERVFAIL
	}
	kubernetes %s {
		kubeconfig {$KUBECONFIG}
		%s
	}
	file {$FILES}/example.org.zone example.org
	file {$FILES}/next.zone %s
}
`, port, bind, strings.Join(b.zones, " "), strings.Join(b.options, "\n\t\t"), strings.Join(importZones, " "))
	}
	fmt.Fprintf(&text, ".:{$DNS} {\n\tbind %s\n\tfile {$FILES}/next.zone %s\n}\n", next.address, strings.Join(importZones, " "))
	return text.String()
}

// next is where a name that falls through ends up, on its own.
var next = &block{name: "next", address: "127.0.0.10"}

// at is where a server answers for the block.
func (b *block) at(s *harness.Server) string {
	host, port, err := net.SplitHostPort(s.DNS)
	switch b.port {
	case "HEALTH":
		return strings.TrimPrefix(s.Health, "http://")
	case "READY":
		return strings.TrimPrefix(s.Ready, "http://")
	case "METRICS":
		return strings.TrimPrefix(s.Metrics, "http://")
	}
	if err != nil {
		return host // no address; dialing it fails
	}
	return net.JoinHostPort(b.address, port)
}

// zoneOf is the zone of the block that a name is in, or "".
func (b *block) zoneOf(name string) string {
	best := ""
	for _, zone := range b.zones {
		if dns.IsSubDomain(zone, name) && len(zone) > len(best) {
			best = zone
		}
	}
	return best
}

// primary is the zone that PTR records lead to.
func (b *block) primary() string { return b.zones[0] }

// fallsThrough tells whether a name that does not exist is the next plugin's.
func (b *block) fallsThrough(name string) bool {
	return slices.ContainsFunc(b.through, func(zone string) bool { return dns.IsSubDomain(zone, name) })
}

// negativeTTL is what the records of a negative answer may be kept for.
func (b *block) negativeTTL() uint32 {
	const atMost = 5 // seconds, the default of negative_ttl
	return min(b.ttl, atMost)
}

// locals are the addresses that the server is reached at in the block.
func (b *block) locals() []netip.Addr {
	if b.address != "" {
		return []netip.Addr{netip.MustParseAddr(b.address)}
	}
	return machine()
}

// machine are the addresses of this machine that others could use.
var machine = sync.OnceValue(func() []netip.Addr {
	nets, _ := net.InterfaceAddrs() // none at all is a machine too
	var all []netip.Addr
	for _, n := range nets {
		if p, err := netip.ParsePrefix(n.String()); err == nil && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			all = append(all, p.Addr().Unmap())
		}
	}
	return all
})
