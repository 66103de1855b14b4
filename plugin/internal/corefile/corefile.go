// Package corefile parses a directive of a Corefile strictly: what is unknown,
// repeated, missing, surplus or out of range is refused with the file, the line
// and what is accepted.
package corefile

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
	pkgparse "github.com/coredns/coredns/plugin/pkg/parse"
	"github.com/kubezone/kubezone/plugin/internal/schema"

	"github.com/miekg/dns"
)

// A Parser holds a directive that was read. Its Config is what the options of
// the block made of it.
type Parser[C any] struct {
	*caddy.Controller
	Config   C
	Start    Place    // of the directive
	Zones    []string // of the directive or else of the server block; fully qualified, in lower case
	Warnings []string // what has no effect; each names its file and line

	options []Option[C]
	given   map[string]Place // options seen so far
}

// An Option is a property of the block. Set gets as many arguments as Min and
// Max allow, none of them empty.
type Option[C any] struct {
	Name     string
	Usage    string // its arguments, as a README shows them
	Min, Max int
	Set      func(p *Parser[C], args []string) error
}

// Many as an Option's Max is no limit.
const Many = math.MaxInt

// Synopsis is how the option is written.
func (o Option[C]) Synopsis() string { return strings.TrimRight(o.Name+" "+o.Usage, " ") }

// Parse reads the directive that c stands at: zones, and a block of options,
// which begin as cfg has them. The directive may be there once. What depends on
// several options is for the caller to check.
func Parse[C any](c *caddy.Controller, cfg C, options []Option[C]) (*Parser[C], error) {
	return parse(c, cfg, (*Parser[C]).setZones, options)
}

// ParsePlain is Parse for a directive with arguments of its own in the place of
// zones.
func ParsePlain[C any](c *caddy.Controller, cfg C, arguments Option[C], options []Option[C]) (*Parser[C], error) {
	return parse(c, cfg, arguments.apply, options)
}

func parse[C any](c *caddy.Controller, cfg C, arguments func(*Parser[C], []string) error, options []Option[C]) (*Parser[C], error) {
	p := &Parser[C]{Controller: c, Config: cfg, options: options, given: make(map[string]Place)}
	c.Next()
	directive := c.Val()
	p.Start = p.place()
	if err := arguments(p, p.RemainingArgs()); err != nil {
		return nil, p.Start.Errorf("%w", err)
	}
	for p.NextBlock() {
		if err := p.option(); err != nil {
			return nil, err
		}
	}
	if c.Next() {
		if c.Val() == directive {
			return nil, p.place().Errorf("%s: given twice in this server block, first at %s", directive, p.Start)
		}
		return nil, p.place().Errorf("unexpected %q after %s", c.Val(), directive)
	}
	return p, nil
}

func (p *Parser[C]) setZones(args []string) error {
	if _, err := ZoneNames(args); err != nil {
		return err
	}
	// Arguments of the form 10.0.0.0/17 become reverse zones, one or several.
	p.Zones = plugin.OriginsFromArgsOrServerBlock(args, p.ServerBlockKeys)
	return nil
}

// option reads one property of the block.
func (p *Parser[C]) option() error {
	at, name := p.place(), p.Val()
	i := slices.IndexFunc(p.options, func(o Option[C]) bool { return o.Name == name })
	if i < 0 {
		return at.Errorf("%w", p.unknown(name))
	}
	o := p.options[i]
	if first, ok := p.given[name]; ok {
		return at.Errorf("%s: given twice, first at %s; want it once, as %q", name, first, o.Synopsis())
	}
	p.given[name] = at

	args := p.RemainingArgs()
	if p.NextArg() { // RemainingArgs stops before a brace only
		return at.Errorf("%s: unexpected %q; want %q and no block", name, p.Val(), o.Synopsis())
	}
	if err := o.apply(p, args); err != nil {
		return at.Errorf("%w", err)
	}
	return nil
}

// apply sets the option, if there are as many arguments as it has.
func (o Option[C]) apply(p *Parser[C], args []string) error {
	if err := o.count(args); err != nil {
		return err
	}
	if err := o.Set(p, args); err != nil {
		return fmt.Errorf("%s %w", o.Name, err)
	}
	return nil
}

// count checks the number of arguments, and that none is empty, as one from an
// environment variable that is not set would be.
func (o Option[C]) count(args []string) error {
	switch {
	case len(args) < o.Min:
		return fmt.Errorf("%s: missing argument after %q; want %q", o.Name, strings.Join(append([]string{o.Name}, args...), " "), o.Synopsis())
	case len(args) > o.Max:
		return fmt.Errorf("%s: surplus argument %q; want %q", o.Name, args[o.Max], o.Synopsis())
	case slices.Contains(args, ""):
		return fmt.Errorf("%s: empty argument %q; want %q", o.Name, "", o.Synopsis())
	}
	return nil
}

// ZoneNames normalises names of zones. CoreDNS's own functions leave out what
// they do not understand; this one refuses it.
func ZoneNames(args []string) ([]string, error) {
	var zones []string
	for _, arg := range args {
		_, host := pkgparse.Transport(arg)
		_, _, err := plugin.SplitHostPort(host)
		if err != nil || host == "" || strings.ContainsAny(host, "{}") {
			return nil, fmt.Errorf("%q: want a zone: a domain name, or a network such as 10.0.0.0/16", arg)
		}
		zones = append(zones, plugin.Host(arg).NormalizeExact()...)
	}
	return zones, nil
}

// Primary is the first zone that is no reverse zone, of which there must be one.
func (p *Parser[C]) Primary() (string, error) {
	i := slices.IndexFunc(p.Zones, func(zone string) bool { return !schema.IsReverse(zone) })
	if i < 0 {
		return "", p.Start.Errorf("zones %v: want at least one that is not below in-addr.arpa or ip6.arpa", p.Zones)
	}
	return p.Zones[i], nil
}

// CheckFall warns of zones to fall through that no zone of the directive meets.
func (p *Parser[C]) CheckFall(zones []string) {
	for _, through := range zones {
		overlaps := func(zone string) bool { return dns.IsSubDomain(zone, through) || dns.IsSubDomain(through, zone) }
		if !slices.ContainsFunc(p.Zones, overlaps) {
			p.Warn("fallthrough", "%q has no name in common with the zones %v", through, p.Zones)
		}
	}
}

// Has tells whether an option is given.
func (p *Parser[C]) Has(name string) bool {
	_, ok := p.given[name]
	return ok
}

// At is where an option is given.
func (p *Parser[C]) At(name string) Place { return p.given[name] }

// Warn adds a warning about an option that is given.
func (p *Parser[C]) Warn(name, format string, args ...any) {
	p.Warnings = append(p.Warnings, fmt.Sprintf("%s - %s: %s", p.given[name], name, fmt.Sprintf(format, args...)))
}

// A Place is where a word stands in a Corefile or in a file it imports.
type Place struct {
	File string
	Line int
}

func (p *Parser[C]) place() Place { return Place{p.File(), p.Line()} }

func (at Place) String() string { return fmt.Sprintf("%s:%d", at.File, at.Line) }

// Errorf is caddy's Errf for an earlier place than the current word, and %w.
func (at Place) Errorf(format string, args ...any) error {
	return fmt.Errorf("%s - Error during parsing: %w", at, fmt.Errorf(format, args...))
}
