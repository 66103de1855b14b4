package kubezone

import (
	"net/netip"
	"strings"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

// Servers are the ready endpoints of the Service that has a ClusterIP, with its
// port of DNS over TCP. The plugin nodelocal asks for those of the cluster's DNS,
// as it sends queries there when this server is gone.
func (k *Kubezone) Servers(clusterIP netip.Addr) []netip.AddrPort {
	var servers []netip.AddrPort
	for _, owner := range k.store.Index().Owners(clusterIP) {
		if !owner.ClusterIP {
			break // those come first
		}
		st := k.store.Index().Service(owner.Key)
		if st == nil {
			continue
		}
		for _, f := range []index.Family{index.IPv4, index.IPv6} {
			st.Endpoints(f, "", 0, func(s *index.Slice, from, to int) bool {
				for i := from; i < to; i++ {
					servers = append(servers, netip.AddrPortFrom(s.Addr(i), dnsPort(s.Ports)))
				}
				return true
			})
		}
	}
	return servers
}

// dnsPort is the port whose name begins with dns, as kubeadm and others name it,
// or else the usual one.
func dnsPort(ports []index.Port) uint16 {
	const usual = 53
	for _, p := range ports {
		if p.Protocol == "tcp" && strings.HasPrefix(p.Name, "dns") {
			return p.Number
		}
	}
	return usual
}
