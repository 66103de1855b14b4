package nodelocal

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// fallbackTable is shared by all instances and stays when they end.
const fallbackTable = "kubezone-nodelocal"

const (
	// fallbackTimeout is how long the last known servers are asked. It bridges
	// a restart and an upgrade that went wrong once; pods of the cluster's DNS
	// seldom move within it.
	fallbackTimeout = 5 * time.Minute
	// fallbackRenewal is several times more often, so that what is left of the
	// timeout when a server dies is nearly all of it.
	fallbackRenewal = 20 * time.Second
	// fallbackServers bounds the rules. More servers do not make it safer.
	fallbackServers = 8
	// fallbackPriority is before kube-proxy's and after that of the rules that
	// bring queries here.
	fallbackPriority = -105
)

// installFallback sends queries for addresses that nobody answers at to servers
// for as long as fallbackTimeout. While this server answers, its queries are
// not tracked, or are led elsewhere before, so that these rules are not reached.
// Replies to the node itself come from afar, so that such queries need a source
// of the node's that others can reach.
func installFallback(addresses []netip.Addr, port uint16, servers []netip.AddrPort) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	t := conn.AddTable(&nftables.Table{Name: fallbackTable, Family: nftables.TableFamilyINet})
	chain := func(name string, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
		c := conn.AddChain(&nftables.Chain{Name: name, Table: t, Hooknum: hook, Type: nftables.ChainTypeNAT, Priority: &priority})
		conn.FlushChain(c)
		return c
	}
	rule := func(c *nftables.Chain, parts ...[]expr.Any) {
		conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: all(parts...)})
	}
	prerouting := chain("prerouting", nftables.ChainHookPrerouting, fallbackPriority)
	output := chain("output", nftables.ChainHookOutput, fallbackPriority)
	postrouting := chain("postrouting", nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource)
	for _, f := range families {
		set := &nftables.Set{Table: t, Name: "unanswered" + f.suffix, KeyType: f.key, HasTimeout: true}
		if err := conn.AddSet(set, nil); err != nil {
			return err
		}
		leases := elements(f.of(addresses)...)
		to := someOf(servers, f)
		if len(to) == 0 || len(leases) == 0 {
			continue
		}
		for i := range leases {
			leases[i].Timeout = fallbackTimeout
		}
		if err := renew(conn, set, leases); err != nil {
			return err
		}
		for _, c := range []*nftables.Chain{prerouting, output} {
			for _, protocol := range protocols {
				for i, server := range to {
					rule(c, isFamily(f), inSet(f, destination, set), isPort(protocol, destination, port), oneIn(len(to)-i), dnat(server))
				}
			}
		}
		for _, a := range f.of(addresses) {
			rule(postrouting, isFamily(f), isAddress(a, source), leaves(), []expr.Any{&expr.Masq{}})
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables table %s: %w", fallbackTable, err)
	}
	return nil
}

// leaves matches what does not stay on this node.
func leaves() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: register},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: []byte("lo\x00")},
	}
}

// someOf returns at most fallbackServers of a family, in an order that changes
// only with what they are.
func someOf(servers []netip.AddrPort, f *family) []netip.AddrPort {
	var of []netip.AddrPort
	for _, s := range servers {
		if f.contains(s.Addr()) {
			of = append(of, s)
		}
	}
	slices.SortFunc(of, netip.AddrPort.Compare)
	of = slices.Compact(of)
	if len(of) > fallbackServers {
		rand.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
		of = of[:fallbackServers]
	}
	return of
}
