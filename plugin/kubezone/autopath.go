package kubezone

import (
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/request"

	"github.com/miekg/dns"
)

// AutoPath implements autopath.AutoPather: the search path of the pod that asks,
// as the kubelet gives it, then that of the server's own resolver. It is nil if
// the client is no known pod.
func (k *Kubezone) AutoPath(state request.Request) []string {
	z := k.Zones.Find(state.Name())
	if z == nil {
		return nil
	}
	pods := k.podsAt(state.IP())
	if len(pods) == 0 {
		return nil
	}
	svc := "svc." + z.Name
	if z.Name == "." {
		svc = "svc."
	}
	path := append([]string{pods[0].Namespace + "." + svc, svc, z.Name}, k.search...)
	return append(path, "") // autopath wants the name itself as the last try
}

// searchPath is that of the server's own resolver.
func searchPath(resolvConf string) []string {
	cfg, err := dns.ClientConfigFromFile(resolvConf)
	if err != nil {
		return nil // none, as autopath itself has it
	}
	plugin.Zones(cfg.Search).Normalize()
	return cfg.Search
}
