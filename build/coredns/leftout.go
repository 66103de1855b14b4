package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
)

// leftOut holds every directive of stock CoreDNS that this build refuses, and
// what to do instead.
var leftOut = map[string]string{
	"auto":        "name each zone file with the file plugin, or transfer the zones with secondary",
	"azure":       "it needs a cloud SDK; forward the zone to a server that has it",
	"clouddns":    "it needs a cloud SDK; forward the zone to a server that has it",
	"dnssec":      "it needs a cloud SDK for its key store; sign the zone elsewhere and serve it with file or secondary",
	"dnstap":      "use log for single queries and prometheus for numbers",
	"dynupdate":   "let another server take the updates and transfer the zone with secondary",
	"erratic":     "it is a plugin for tests; use template for a fixed answer",
	"etcd":        "forward the zone to a server that has it",
	"geoip":       "choose answers by the client's address with view and its incidr function",
	"grpc":        "use forward with tls:// for an encrypted upstream",
	"grpc_server": "remove it: grpc:// listeners then have the default limits",
	"https":       "remove it: https:// listeners then have the default limits",
	"https3":      "remove it: https3:// listeners then have the default limits",
	"nomad":       "forward the zone to a server that has it",
	"proxyproto":  "let the load balancer keep the client's address",
	"quic":        "remove it: quic:// listeners then have the default limits",
	"route53":     "it needs a cloud SDK; forward the zone to a server that has it",
	"sign":        "sign the zone elsewhere and serve it with file or secondary",
	"siit":        "forward the names it translates to a stock CoreDNS; dns64 is here for the other direction",
	"trace":       "use prometheus for latencies and log for single queries",
}

// refuseLeftOut makes every start and every reload fail if a directive of
// leftOut is in the Corefile. Caddy calls back after the setup of directives[0],
// that is before any other plugin has done anything.
//
// Registering a setup function under each name would be the plain way, but
// -plugins would then list plugins that are not there, and dnstap's own is
// registered by forward, which links it.
func refuseLeftOut() {
	caddy.RegisterParsingCallback("dns", directives[0], func(caddy.Context) error {
		instances := caddy.Instances()
		starting := instances[len(instances)-1] // caddy appends an instance before it sets it up
		return checkLeftOut(starting.Caddyfile())
	})
}

// checkLeftOut returns an error that lists the directives in corefile that this
// build leaves out, each with its file, its line and what to do instead.
func checkLeftOut(corefile caddy.Input) error {
	blocks, err := caddyfile.Parse(corefile.Path(), bytes.NewReader(corefile.Body()), directives)
	if err != nil {
		return err
	}
	var refused []error
	for _, block := range blocks {
		for _, name := range directives {
			tokens, used := block.Tokens[name]
			instead, out := leftOut[name]
			if !used || !out {
				continue
			}
			file := cmp.Or(tokens[0].File, corefile.Path()) // a token has a file of its own only if it was imported
			refused = append(refused, fmt.Errorf("%s:%d: directive %q is not in this build: %s", file, tokens[0].Line, name, instead))
		}
	}
	return errors.Join(refused...)
}
