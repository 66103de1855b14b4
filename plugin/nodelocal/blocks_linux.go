package nodelocal

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/pkg/transport"
)

// plainPort returns the port on which a server block has plain DNS, by its first
// key.
func plainPort(block *dnsserver.Config) (uint16, error) {
	if block.Transport != transport.DNS && block.Transport != "" {
		return 0, fmt.Errorf("the server block speaks %s; want plain DNS", block.Transport)
	}
	if block.Port == "" { // only where there is no Corefile around the directive
		return dnsPort, nil
	}
	port, err := strconv.ParseUint(block.Port, 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("port %q: want a number from 1 to 65535", block.Port)
	}
	return uint16(port), nil
}

// probePorts are the directives that answer probes, and the port each has if it
// is given no address.
var probePorts = map[string]string{"health": ":8080", "ready": ":8181"}

// healthPorts returns the ports of a Corefile's health checks that are open at
// the addresses.
func healthPorts(corefile caddy.Input, addresses []netip.Addr) []uint16 {
	parsed, err := caddyfile.Parse(corefile.Path(), bytes.NewReader(corefile.Body()), nil)
	if err != nil {
		return nil // the Corefile is refused elsewhere
	}
	var ports []uint16
	for _, block := range parsed {
		for name, address := range probePorts {
			tokens, ok := block.Tokens[name]
			if !ok {
				continue
			}
			if len(tokens) > 1 && tokens[1].Line == tokens[0].Line && tokens[1].Text != "{" {
				address = tokens[1].Text
			}
			if port, ok := openAt(address, addresses); ok && !slices.Contains(ports, port) {
				ports = append(ports, port)
			}
		}
	}
	slices.Sort(ports)
	return ports
}

// openAt returns the port of a listener if one of the addresses reaches it.
func openAt(listener string, addresses []netip.Addr) (uint16, bool) {
	host, text, err := net.SplitHostPort(listener)
	if err != nil {
		return 0, false
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, false
	}
	if host == "" {
		return uint16(port), true
	}
	a, err := netip.ParseAddr(host)
	return uint16(port), err == nil && (a.IsUnspecified() || slices.Contains(addresses, a))
}
