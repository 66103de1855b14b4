package k8sexternal

import (
	"fmt"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin/pkg/fall"
	"github.com/kubezone/kubezone/plugin/internal/corefile"
	"github.com/kubezone/kubezone/plugin/internal/schema"

	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	defaultTTL = 5    // seconds; the stock plugin's
	maxTTL     = 3600 // seconds; the stock plugin's
)

// A config is one directive of a Corefile with its block, checked. Names in it
// are in lower case, zones are fully qualified, and what the Corefile leaves
// out has its default. The zero value is of no use; parse makes one.
type config struct {
	zones    []string
	primary  string // that names in PTR records are in
	apex     string // the label that the name servers' names are below
	ttl      uint32 // seconds
	headless bool
	fall     fall.F

	at       corefile.Place // where the directive stands
	warnings []string       // what has no effect, with file and line
}

// parse reads the directive that c stands at, with its block.
func parse(c *caddy.Controller) (config, error) {
	p, err := corefile.Parse(c, config{apex: schema.DefaultApexLabel, ttl: defaultTTL, fall: fall.Zero}, options)
	if err != nil {
		return config{}, err
	}
	cfg := p.Config
	if cfg.primary, err = p.Primary(); err != nil {
		return config{}, err
	}
	p.CheckFall(cfg.fall.Zones)
	cfg.zones, cfg.at, cfg.warnings = p.Zones, p.Start, p.Warnings
	return cfg, nil
}

// options are all properties, in the order of README.md.
var options = []corefile.Option[config]{
	{Name: "apex", Usage: "APEX", Min: 1, Max: 1, Set: setApex},
	{Name: "ttl", Usage: "TTL", Min: 1, Max: 1, Set: corefile.Whole(func(c *config) *uint32 { return &c.ttl }, 0, maxTTL)},
	{Name: "headless", Set: corefile.Flag(func(c *config) *bool { return &c.headless })},
	{Name: "fallthrough", Usage: "[ZONES...]", Max: corefile.Many, Set: corefile.Fall(func(c *config) *fall.F { return &c.fall })},
}

func setApex(p *corefile.Parser[config], args []string) error {
	label := strings.ToLower(args[0])
	if validation.IsDNS1123Label(label) != nil {
		return fmt.Errorf("%q: want one DNS label, of letters, digits and hyphens", args[0])
	}
	p.Config.apex = label
	return nil
}
