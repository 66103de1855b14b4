// Package kubezone is a CoreDNS plugin that serves the services, endpoints and
// pods of a Kubernetes cluster (kubernetes/dns, docs/specification.md, version
// 1.1.0).
package kubezone

import (
	"net/netip"
	"slices"

	"github.com/kubezone/kubezone/plugin/internal/index"
	"github.com/kubezone/kubezone/plugin/internal/kube"
	"github.com/kubezone/kubezone/plugin/internal/respond"
)

// Kubezone answers for its zones from a store that follows the cluster. It is
// safe for concurrent use.
type Kubezone struct {
	config
	respond.Responder
	store  *kube.Store
	local  []netip.Addr // set before the servers start
	search []string     // of the server's own resolver, for autopath
}

// Ready implements ready.Readiness: once every configured kind of object is in,
// from the API server or from a snapshot, and from then on. It is the readiness
// of the process: of all instances, as the ready plugin knows one by its name
// only, and during a reload of those that serve until it is over.
func (k *Kubezone) Ready() bool {
	return !slices.ContainsFunc(serving(k), func(o *Kubezone) bool { return !o.store.Complete() })
}

// podsAt are the pods that a client's address belongs to.
func (k *Kubezone) podsAt(client string) []*index.Pod {
	if k.pods != podsVerified {
		return nil
	}
	addr, err := netip.ParseAddr(client)
	if err != nil {
		return nil
	}
	return k.store.Index().PodsAt(addr.Unmap().WithZone(""))
}
