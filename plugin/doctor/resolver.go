package doctor

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/coredns/coredns/plugin/pkg/parse"

	"github.com/miekg/dns"
)

const resolvConf = "/etc/resolv.conf"

// mostServers is how many name servers of resolv.conf a resolver uses
// (resolv.conf(5)).
const mostServers = 3

// examineForward looks for queries that come back to where they come from.
func (d *diagnosis) examineForward(b block, c *cluster) {
	for _, words := range b.lines("forward") {
		if words[0] != "forward" || len(words) < 3 {
			continue
		}
		for _, to := range words[2:] {
			d.examineUpstream(b, c, to)
		}
	}
}

// examineUpstream looks at one of forward's servers, or at those of a file.
func (d *diagnosis) examineUpstream(b block, c *cluster, to string) {
	if _, err := os.Stat(to); err == nil || strings.HasPrefix(to, "/") {
		file := to
		if to == resolvConf && d.options.resolvConf != "" {
			file = d.options.resolvConf
		}
		config, err := dns.ClientConfigFromFile(file)
		if err != nil || len(config.Servers) == 0 {
			d.find(failure, "upstream", "name servers instead of the file, or give the pod dnsPolicy: Default", "forward to %s: no name server in %s (%v)", to, file, err)
			return
		}
		for _, server := range config.Servers {
			d.examineServer(b, c, server, "53")
		}
		return
	}
	servers, err := parse.HostPortOrFile(to)
	if err != nil {
		return // a host name, or for another transport: forward itself says what is wrong
	}
	for _, server := range servers {
		if host, port, err := net.SplitHostPort(server); err == nil {
			d.examineServer(b, c, host, port)
		}
	}
}

// examineServer looks at a server upstream.
func (d *diagnosis) examineServer(b block, c *cluster, host, port string) {
	addr, err := netip.ParseAddr(host)
	switch {
	case err != nil:
	case addr.IsLoopback() && slices.Contains(b.ports(), port) && !b.has("bind"):
		d.find(failure, "forward-loop", "forward to the servers themselves: with systemd-resolved to those of /run/systemd/resolve/resolv.conf, by the kubelet's resolvConf",
			"forward goes to %s port %s, which in the server's pod is the server itself", host, port)
	case c.isFront(addr) && port == "53":
		d.find(failure, "forward-loop", "give the server's pod dnsPolicy: Default, so that it has the node's resolv.conf",
			"forward goes to %s, the Service %s in front of this server", host, d.options.service)
	}
}

// ports are those that the block listens on.
func (b block) ports() []string {
	var ports []string
	for _, key := range b.Keys {
		_, host := parse.Transport(key)
		if _, port, err := net.SplitHostPort(host); err == nil {
			ports = append(ports, port)
		} else {
			ports = append(ports, "53")
		}
	}
	return ports
}

// examinePodResolver looks at the resolv.conf of an ordinary pod: the one that is
// given, or this pod's own, if the kubelet wrote it for a pod that asks the
// cluster.
func (d *diagnosis) examinePodResolver(c *cluster) {
	file := d.options.podResolvConf
	if file == "" {
		file = resolvConf
	}
	config, err := dns.ClientConfigFromFile(file)
	if err != nil {
		if d.options.podResolvConf != "" {
			d.find(failure, "pod-resolver", "give a file that can be read", "-pod-resolv-conf: %v", err)
		}
		return
	}
	if !slices.ContainsFunc(d.blocks, func(b block) bool { return b.cluster != nil }) {
		return // nothing to compare with
	}
	ofPod := slices.ContainsFunc(config.Search, func(s string) bool { return strings.HasPrefix(s, "svc.") })
	if !ofPod {
		if d.options.podResolvConf != "" {
			d.find(failure, "pod-resolver", "give the pod dnsPolicy: ClusterFirst, and the kubelet clusterDomain", "%s: search %q has no svc. and the cluster's domain", file, config.Search)
		}
		return
	}
	d.examineSearch(file, config)
	d.examineNameServers(file, config, c)
}

func (d *diagnosis) examineSearch(file string, config *dns.ClientConfig) {
	for _, suffix := range config.Search {
		zone, isServices := strings.CutPrefix(dns.CanonicalName(suffix), "svc.")
		if isServices && !slices.ContainsFunc(d.blocks, func(b block) bool { return b.cluster != nil && slices.Contains(b.cluster.Zones, zone) }) {
			d.find(failure, "cluster-domain", "make the kubelet's clusterDomain and the zone of kubezone the same", "%s: the search path has %q, but no kubezone directive has the zone %s", file, suffix, zone)
		}
	}
	switch {
	case config.Ndots < 2:
		d.find(warning, "ndots", "set ndots to 5, as the kubelet does, or write names out", "%s: with ndots:%d a name such as SERVICE.NAMESPACE is asked as it is first, and musl does not search any further", file, config.Ndots)
	case config.Ndots > 5:
		d.find(note, "ndots", "set ndots to 5, as the kubelet does", "%s: with ndots:%d every name, however long, is asked in the search path first", file, config.Ndots)
	}
}

func (d *diagnosis) examineNameServers(file string, config *dns.ClientConfig, c *cluster) {
	if len(config.Servers) > mostServers {
		d.find(warning, "pod-resolver", "leave the surplus ones away", "%s: of %d name servers, resolvers use %d", file, len(config.Servers), mostServers)
	}
	if c == nil || len(c.fronts) == 0 {
		return
	}
	for _, server := range config.Servers[:min(len(config.Servers), mostServers)] {
		addr, err := netip.ParseAddr(server)
		switch {
		case err != nil || c.isFront(addr):
		case addr.IsLinkLocalUnicast():
			d.find(note, "pod-resolver", "nothing, if a node-local cache has that address", "%s: pods ask %s, an address of the node, and not the Service %s", file, server, d.options.service)
		default:
			d.find(failure, "pod-resolver", "set the kubelet's clusterDNS to an address of the Service, or the Service's clusterIP to that of the kubelets", "%s: pods ask %s, but the Service %s has %v", file, server, d.options.service, c.fronts)
		}
	}
}
