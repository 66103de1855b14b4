package kubezone

import (
	"net/netip"

	"github.com/coredns/caddy"
	"github.com/kubezone/kubezone/plugin/internal/corefile"
	"github.com/kubezone/kubezone/plugin/internal/index"
	"github.com/kubezone/kubezone/plugin/internal/kube"
	"github.com/kubezone/kubezone/plugin/internal/respond"
)

// A Description is what a directive of a Corefile asks for. It is for those who
// look at a Corefile without serving it.
type Description struct {
	At       corefile.Place
	Warnings []string
	Zones    []string // fully qualified, in lower case
	Source   kube.Config
	Denied   index.Denial
	Insecure bool           // pods insecure
	Pods     []netip.Prefix // pod_ranges
	Own      []netip.Prefix // reverse_ranges
	Uncached []string       // the zones that the cache plugin leaves alone

	config config
}

// Describe reads the directive that c stands at, as setup does. It starts nothing.
func Describe(c *caddy.Controller) (Description, error) {
	cfg, err := parse(c)
	if err != nil {
		return Description{}, err
	}
	d := Description{
		At: cfg.at, Warnings: cfg.warnings, Zones: cfg.zones, Source: cfg.kube(), Denied: cfg.denied,
		Insecure: cfg.pods == podsInsecure, Pods: cfg.podRanges, Own: cfg.reverseRanges, config: cfg,
	}
	var zones respond.Zones
	for _, name := range cfg.zones {
		zones = append(zones, respond.NewZone(name, nil, cfg.fall))
	}
	d.Uncached = (&respond.Responder{Zones: zones}).CacheBypassZones()
	return d, nil
}

// FallsThrough tells whether a name that does not exist goes on to the next
// plugin.
func (d Description) FallsThrough(name string) bool { return d.config.fall.Through(name) }
