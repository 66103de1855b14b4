//go:build linux

package udpbatch

import (
	"bytes"
	"cmp"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/pkg/transport"
)

// excluded are directives that want the same socket for something else, and why
// they and this one do not go together.
var excluded = map[string]string{
	"multisocket": directive + " opens as many sockets as it is told to",
	"proxyproto":  "the sockets of " + directive + " do not read PROXY protocol headers",
	"shed":        directive + " bounds the queries at work itself",
}

// blocks are the server blocks of a Corefile.
type blocks struct {
	controller caddy.Controller // of any of them
	parsed     []caddyfile.ServerBlock
}

// blocksOf reads the Corefile that c belongs to.
func blocksOf(c *caddy.Controller) (*blocks, error) {
	corefile := starting().Caddyfile()
	parsed, err := caddyfile.Parse(corefile.Path(), bytes.NewReader(corefile.Body()), nil)
	if err != nil {
		return nil, err
	}
	return &blocks{controller: *c, parsed: parsed}, nil
}

// config returns CoreDNS's configuration of a key of a block.
func (b *blocks) config(block, key int) *dnsserver.Config {
	c := b.controller
	c.ServerBlockIndex, c.ServerBlockKeyIndex = block, key
	return dnsserver.GetConfig(&c)
}

// key is where the instance of a block is kept while the Corefile is set up.
type key int

// own returns the directive of a block, or nil.
func (b *blocks) own(block int) *instance {
	in, _ := b.controller.Get(key(block)).(*instance)
	return in
}

// check checks what else in's block has, before the directive takes effect.
func (b *blocks) check(in *instance, block int) error {
	if name, at, ok := b.excluded(block); ok {
		return in.at.errorf("%s: not together with %s at %s, since %s", directive, name, at, excluded[name])
	}
	if b.config(block, 0).UDPDecorateWriterFunc != nil {
		return in.at.errorf("%s: not together with another plugin that wants to see UDP replies as they are sent", directive)
	}
	plain := false
	for k := range b.parsed[block].Keys {
		plain = plain || b.config(block, k).Transport == transport.DNS
	}
	if !plain {
		return in.at.errorf("%s: server block %q has no plain DNS, and so no UDP socket to serve; want at least one address without a scheme or with %s://",
			directive, b.parsed[block].Keys, transport.DNS)
	}
	return nil
}

// excluded returns the first directive of a block that does not go together with
// this one, and where it stands.
func (b *blocks) excluded(block int) (name string, at place, ok bool) {
	for _, name := range slices.Sorted(maps.Keys(excluded)) {
		if tokens, ok := b.parsed[block].Tokens[name]; ok {
			return name, place{cmp.Or(tokens[0].File, b.controller.File()), tokens[0].Line}, true
		}
	}
	return "", place{}, false
}

// addresses returns what in's block listens on, as dnsserver.Server.Addr. It
// fails if a block that listens there too does not go together with in.
func (b *blocks) addresses(in *instance, block int) ([]string, error) {
	own, err := b.listens(block)
	if err != nil {
		return nil, in.at.errorf("%s: %w", directive, err)
	}
	for _, address := range own {
		if strings.HasSuffix(address, ":0") {
			return nil, in.at.errorf("%s: %s: want a port; 0 is another one for each socket", directive, address)
		}
	}
	for other := range b.parsed {
		if other == block {
			continue
		}
		theirs, err := b.listens(other)
		if err != nil {
			return nil, in.at.errorf("%s: %w", directive, err)
		}
		i := slices.IndexFunc(theirs, func(address string) bool { return slices.Contains(own, address) })
		if i < 0 {
			continue
		}
		switch twin := b.own(other); {
		case twin != nil && twin.cfg != in.cfg:
			return nil, in.at.errorf("%s: %s is also served as %s says, with other options; want the same for one address", directive, theirs[i], twin.at)
		case twin != nil:
		default:
			if name, at, ok := b.excluded(other); ok {
				return nil, in.at.errorf("%s: %s is also served with %s at %s, and %s", directive, theirs[i], name, at, excluded[name])
			}
			if b.config(other, 0).UDPDecorateWriterFunc != nil {
				return nil, in.at.errorf("%s: %s is also served with another plugin that wants to see UDP replies as they are sent", directive, theirs[i])
			}
		}
	}
	return own, nil
}

// listens returns the addresses of plain DNS that a block listens on. It is of
// use once all directives have been set up.
func (b *blocks) listens(block int) ([]string, error) {
	var addresses []string
	for k := range b.parsed[block].Keys {
		cfg := b.config(block, k)
		if cfg.Transport != transport.DNS {
			continue
		}
		for _, host := range cfg.ListenHosts {
			address, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(host, cfg.Port)) // as CoreDNS does
			if err != nil {
				return nil, err
			}
			if name := transport.DNS + "://" + address.String(); !slices.Contains(addresses, name) {
				addresses = append(addresses, name)
			}
		}
	}
	return addresses, nil
}
