package kubezone

import (
	"net/netip"

	"github.com/coredns/caddy"
	"github.com/kubezone/kubezone/plugin/internal/index"
	"github.com/kubezone/kubezone/plugin/internal/respond"
)

// externalKey finds, in what an instance of the server stores, whether external
// addresses are wanted.
type externalKey struct{}

// WantExternal makes all directives of this plugin in the Corefile keep the
// external addresses of Services. All, so that server blocks go on sharing what
// they hold. It must be called before the first of them is set up.
func WantExternal(c *caddy.Controller) { c.Set(externalKey{}, true) }

func wantsExternal(c *caddy.Controller) bool { return c.Get(externalKey{}) != nil }

// An External is what the k8s_external plugin shares with this one.
type External struct {
	Kept      bool // the external addresses of Services; false if WantExternal came too late
	Endpoints bool // are watched
	Headless  bool // only endpoints of headless Services are
	Index     *index.Index
	Objects   respond.Objects
	Explain   respond.Explain
	Local     func() []netip.Addr // the addresses that the server is reached at
}

// External is for the k8s_external plugin. It may be called once the plugin is
// set up.
func (k *Kubezone) External() External {
	return External{
		Kept:      k.external,
		Endpoints: !k.noendpoints,
		Headless:  k.endpoints == endpointsHeadless,
		Index:     k.store.Index(),
		Objects:   k.Objects,
		Explain:   k.explain,
		Local:     func() []netip.Addr { return k.local },
	}
}
