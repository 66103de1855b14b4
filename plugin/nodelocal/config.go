package nodelocal

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/coredns/caddy"

	"github.com/kubezone/kubezone/plugin/internal/corefile"
)

const directive = "nodelocal"

// defaultInterface is the name that node-cache gives its own, so that this
// plugin takes over the one that is there.
const defaultInterface = "nodelocaldns"

// maxInterfaceName is IFNAMSIZ less the zero octet at the end.
const maxInterfaceName = 15

// A redirect is how queries are kept from kube-proxy.
type redirect int

const (
	redirectAuto    redirect = iota // what fits the proxy that is found here
	redirectNotrack                 // neither conntrack nor NAT sees them
	redirectDNAT                    // they are led to the node's own address, and conntrack sees them
	redirectNone                    // not at all
)

func (r redirect) String() string {
	return [...]string{"auto", "notrack", "dnat", "none"}[r]
}

// A config is one directive of a Corefile with its block, checked. The zero
// value is of no use; parse makes one.
type config struct {
	addresses []netip.Addr
	device    string // interface that holds the addresses
	redirect  redirect
	// fallback is where queries for the node's own addresses are sent while
	// nobody answers there.
	fallback []netip.AddrPort
}

// equal tells whether two directives ask for the same.
func (c config) equal(o config) bool {
	return slices.Equal(c.addresses, o.addresses) && c.device == o.device && c.redirect == o.redirect &&
		slices.Equal(c.fallback, o.fallback)
}

var arguments = corefile.Option[config]{Name: directive, Usage: "ADDRESS...", Min: 1, Max: corefile.Many, Set: setAddresses}

// options are all properties, in the order of README.md.
var options = []corefile.Option[config]{
	{Name: "interface", Usage: "NAME", Min: 1, Max: 1, Set: setInterface},
	{Name: "redirect", Usage: "auto|notrack|dnat|none", Min: 1, Max: 1, Set: corefile.OneOf(
		func(c *config) *redirect { return &c.redirect },
		corefile.Word("auto", redirectAuto), corefile.Word("notrack", redirectNotrack),
		corefile.Word("dnat", redirectDNAT), corefile.Word("none", redirectNone))},
	{Name: "fallback", Usage: "ADDRESS[:PORT]...", Min: 1, Max: corefile.Many, Set: setFallback},
}

// parse reads the directive that c stands at. It starts nothing. An error names
// the file, the line, the text that is wrong and what is wanted.
func parse(c *caddy.Controller) (config, corefile.Place, error) {
	p, err := corefile.ParsePlain(c, config{device: defaultInterface}, arguments, options)
	if err != nil {
		return config{}, corefile.Place{}, err
	}
	cfg := p.Config
	if cfg.redirect == redirectDNAT {
		for _, a := range cfg.addresses {
			if !cfg.own(a) && !slices.ContainsFunc(cfg.addresses, func(to netip.Addr) bool { return cfg.own(to) && to.Is4() == a.Is4() }) {
				return config{}, corefile.Place{}, p.At("redirect").Errorf(
					"redirect dnat: %s has no address of the node to lead to; want one of its family before it, such as 169.254.20.10", a)
			}
		}
	}
	return cfg, p.Start, nil
}

func setAddresses(p *corefile.Parser[config], args []string) error {
	for _, arg := range args {
		a, err := netip.ParseAddr(arg)
		switch {
		case err != nil || a.Zone() != "" || a.Is4In6():
			return fmt.Errorf("%q: want an IP address, such as 169.254.20.10", arg)
		case a.IsUnspecified() || a.IsLoopback() || a.IsMulticast():
			return fmt.Errorf("%q: want an address of this node alone or a ClusterIP; for others there is bind", arg)
		case slices.Contains(p.Config.addresses, a):
			return fmt.Errorf("%q: given twice", arg)
		}
		p.Config.addresses = append(p.Config.addresses, a)
	}
	return nil
}

func setInterface(p *corefile.Parser[config], args []string) error {
	name := args[0]
	if len(name) > maxInterfaceName || slices.ContainsFunc([]byte(name), func(b byte) bool { return b <= ' ' || b == '/' }) {
		return fmt.Errorf("%q: want the name of a network interface, of at most %d octets", name, maxInterfaceName)
	}
	p.Config.device = name
	return nil
}

func setFallback(p *corefile.Parser[config], args []string) error {
	for _, arg := range args {
		to, err := corefile.AddrPort(arg, dnsPort)
		if err != nil {
			return err
		}
		if slices.Contains(p.Config.addresses, to.Addr()) {
			return fmt.Errorf("%q: is an address of this directive; want one of a cluster DNS server", arg)
		}
		p.Config.fallback = append(p.Config.fallback, to)
	}
	return nil
}

// own tells whether an address belongs to the node: a link-local one, or the
// first of its family where there are several. Others are ClusterIPs, which
// kube-proxy knows a way to.
func (c config) own(a netip.Addr) bool {
	if a.IsLinkLocalUnicast() {
		return true
	}
	family := slices.DeleteFunc(slices.Clone(c.addresses), func(o netip.Addr) bool { return o.Is4() != a.Is4() })
	return len(family) > 1 && family[0] == a
}

// ownAddresses are those that belong to the node.
func (c config) ownAddresses() []netip.Addr {
	return slices.DeleteFunc(slices.Clone(c.addresses), func(a netip.Addr) bool { return !c.own(a) })
}
