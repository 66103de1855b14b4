package nodelocal

import (
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
)

// A proxy is what gives ClusterIPs a meaning on a node.
type proxy string

const (
	proxyNone     proxy = "no kube-proxy yet"
	proxyIPTables proxy = "kube-proxy in iptables mode"
	proxyNFTables proxy = "kube-proxy in nftables mode"
	proxyIPVS     proxy = "kube-proxy in IPVS mode"
	proxyCilium   proxy = "Cilium without kube-proxy"
	proxyCalico   proxy = "Calico's eBPF dataplane"
)

// Interfaces that tell of a proxy.
const (
	ipvsDevice   = "kube-ipvs0"
	ciliumDevice = "cilium_host"
	calicoDevice = "bpfin.cali"
)

// advice is what an administrator has to do where nothing can be redirected.
var advice = map[proxy]string{
	proxyCilium: "add a CiliumLocalRedirectPolicy that leads the Service of the cluster's DNS to this server's pods, " +
		"or have the kubelet name this server's own address with --cluster-dns",
	proxyCalico: "annotate the Service of the cluster's DNS with projectcalico.org/natExcludeService, or set " +
		"BPFExcludeCIDRsFromNAT to its ClusterIP",
}

// findProxy finds out what is at work here.
func findProxy() proxy {
	if exists(ipvsDevice) {
		return proxyIPVS
	}
	if conn, err := nftables.New(); err == nil {
		chains, _ := conn.ListChains() // without them the guess is none found
		for _, c := range chains {
			switch {
			case c.Table.Name == "kube-proxy":
				return proxyNFTables
			case c.Table.Name == "nat" && c.Name == "KUBE-SERVICES":
				return proxyIPTables
			}
		}
	}
	switch {
	case exists(calicoDevice):
		return proxyCalico
	case exists(ciliumDevice):
		return proxyCilium
	}
	return proxyNone
}

func exists(device string) bool {
	_, err := net.InterfaceByName(device)
	return err == nil
}

// decide makes what redirect auto stands for out of what was found.
func (p proxy) decide(cfg config) (redirect, config) {
	switch p {
	case proxyIPVS:
		// IPVS holds the ClusterIPs on an interface of its own and takes
		// their packets before any socket sees them.
		cfg.addresses = cfg.ownAddresses()
		return redirectNotrack, cfg
	case proxyCilium, proxyCalico:
		return redirectNone, cfg
	}
	return redirectNotrack, cfg
}

// without returns addresses but for some.
func without(addresses, some []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addresses), func(a netip.Addr) bool { return slices.Contains(some, a) })
}
