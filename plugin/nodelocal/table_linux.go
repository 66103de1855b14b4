package nodelocal

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/kubezone/kubezone/plugin/internal/selfmark"
)

// tablePrefix begins the name of each instance's table. Two of them at a time, as
// in an upgrade, do not get in each other's way.
const tablePrefix = "kubezone-nodelocal-"

// switchTimeout is how long queries come here after the last self-query that was
// answered: two that fail in a row are forgiven, a third is not.
const switchTimeout = 3 * time.Second

// interceptPriority is before that of kube-proxy's chains (dstnat, -100) and of
// the fallback.
const interceptPriority = -110

// A plan is what the rules of an instance are about.
type plan struct {
	listen   []netip.Addr // where this server listens
	port     uint16       // of DNS
	extra    []uint16     // TCP ports of health checks
	redirect redirect     // not auto
	leads    map[netip.Addr]netip.Addr
}

// newPlan says what is to be done with a redirect.
func newPlan(cfg config, how redirect, port uint16, extra []uint16) plan {
	p := plan{listen: cfg.addresses, port: port, extra: extra, redirect: how}
	if how != redirectDNAT {
		return p
	}
	p.listen = cfg.ownAddresses()
	p.leads = map[netip.Addr]netip.Addr{}
	for _, a := range cfg.addresses {
		for _, own := range p.listen {
			if own.Is4() == a.Is4() && (own == a || !cfg.own(a)) {
				p.leads[a] = own
				break
			}
		}
	}
	return p
}

// switched are the addresses whose queries come here if all is well at one that
// is listened on.
func (p plan) switched(listen netip.Addr) []netip.Addr {
	if p.redirect != redirectDNAT {
		return []netip.Addr{listen}
	}
	var all []netip.Addr
	for a, to := range p.leads {
		if to == listen {
			all = append(all, a)
		}
	}
	return all
}

// A table holds the rules that bring queries here. The kernel removes it when
// this process ends, however it ends.
type table struct {
	plan  plan
	conn  *nftables.Conn // the table is its own
	table *nftables.Table
	// active holds the addresses whose queries come here, each for switchTimeout.
	active map[*family]*nftables.Set
	// flows holds the TCP connections that began here, by both addresses and the
	// client's port. They stay here, whatever is switched, and others stay elsewhere.
	flows map[*family]*nftables.Set
}

const (
	// flowTimeout is how long a connection without a packet is known. CoreDNS
	// closes one after 10 s.
	flowTimeout = time.Minute
	// mostFlows is more than a node's pods have at a time. When there are more,
	// new ones take the ordinary path.
	mostFlows = 1 << 16
)

// newTable installs the rules, with nothing switched yet.
func newTable(name string, p plan) (*table, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, err
	}
	t := &table{
		plan: p, conn: conn,
		table:  &nftables.Table{Name: name, Family: nftables.TableFamilyINet, Flags: nftables.TableFlagOwner},
		active: map[*family]*nftables.Set{},
		flows:  map[*family]*nftables.Set{},
	}
	err = t.install()
	if err == nil {
		err = conn.Flush()
	}
	if err != nil {
		_ = conn.CloseLasting()
		return nil, fmt.Errorf("nftables table %s, which needs NET_ADMIN and Linux 5.12: %w", name, err)
	}
	return t, nil
}

// install adds table, chains, sets and rules to the batch.
func (t *table) install() error {
	t.conn.AddTable(t.table)
	prerouting := t.chain("prerouting", nftables.ChainHookPrerouting, nftables.ChainTypeFilter, *nftables.ChainPriorityRaw)
	output := t.chain("output", nftables.ChainHookOutput, nftables.ChainTypeFilter, *nftables.ChainPriorityRaw)
	for _, f := range families {
		local := f.of(t.plan.listen)
		if len(local) == 0 {
			continue
		}
		own := &nftables.Set{Table: t.table, Name: "own" + f.suffix, KeyType: f.key}
		t.active[f] = &nftables.Set{Table: t.table, Name: "active" + f.suffix, KeyType: f.key, HasTimeout: true}
		t.flows[f] = &nftables.Set{
			Table: t.table, Name: "flows" + f.suffix, KeyType: nftables.MustConcatSetType(f.key, f.key, nftables.TypeInetService),
			HasTimeout: true, Timeout: flowTimeout, Dynamic: true, Size: mostFlows,
		}
		for set, addresses := range map[*nftables.Set][]netip.Addr{own: local, t.active[f]: nil, t.flows[f]: nil} {
			if err := t.conn.AddSet(set, elements(addresses...)); err != nil {
				return err
			}
		}
		// Self-queries, and udpbatch's probes, reach this server and nobody else,
		// whatever is switched.
		t.rule(output, isMarked(selfmark.Mark), isFamily(f), inSet(f, destination, own), notrack)
		if t.plan.redirect == redirectDNAT {
			continue
		}
		for _, c := range []*nftables.Chain{prerouting, output} {
			t.notrackQueries(c, f, own)
		}
		t.notrackReplies(output, f, own)
	}
	if t.plan.redirect == redirectDNAT {
		t.lead()
	}
	return nil
}

// notrackQueries makes NAT pass over queries. The ClusterIP then is an address
// like any other, and local.
func (t *table) notrackQueries(c *nftables.Chain, f *family, own *nftables.Set) {
	port := t.plan.port
	t.rule(c, isFamily(f), inSet(f, destination, t.active[f]), isPort(unix.IPPROTO_UDP, destination, port), notrack)
	t.rule(c, isFamily(f), inSet(f, destination, own), isPort(unix.IPPROTO_TCP, destination, port), opens(), forget(f, t.flows[f]))
	t.rule(c, isFamily(f), inSet(f, destination, t.active[f]), isPort(unix.IPPROTO_TCP, destination, port), opens(), remember(f, t.flows[f]), notrack)
	t.rule(c, isFamily(f), inSet(f, destination, own), isPort(unix.IPPROTO_TCP, destination, port), other(), isKnown(f, t.flows[f]), notrack)
	for _, port := range t.plan.extra {
		t.rule(c, isFamily(f), inSet(f, destination, own), isPort(unix.IPPROTO_TCP, destination, port), notrack)
	}
}

// notrackReplies makes NAT pass over replies: a rule for masquerading would
// otherwise give them another source.
func (t *table) notrackReplies(c *nftables.Chain, f *family, own *nftables.Set) {
	for _, protocol := range protocols {
		t.rule(c, isFamily(f), inSet(f, source, own), isPort(protocol, source, t.plan.port), notrack)
	}
	for _, port := range t.plan.extra {
		t.rule(c, isFamily(f), inSet(f, source, own), isPort(unix.IPPROTO_TCP, source, port), notrack)
	}
}

// lead sends queries to the address that is listened on, and conntrack sees them.
func (t *table) lead() {
	for _, c := range []*nftables.Chain{
		t.chain("lead-prerouting", nftables.ChainHookPrerouting, nftables.ChainTypeNAT, interceptPriority),
		t.chain("lead-output", nftables.ChainHookOutput, nftables.ChainTypeNAT, interceptPriority),
	} {
		for a, to := range t.plan.leads {
			f := familyOf(a)
			for _, protocol := range protocols {
				t.rule(c, isFamily(f), inSet(f, destination, t.active[f]), isAddress(a, destination),
					isPort(protocol, destination, t.plan.port), dnat(netip.AddrPortFrom(to, t.plan.port)))
			}
		}
	}
}

func (t *table) chain(name string, hook *nftables.ChainHook, kind nftables.ChainType, priority nftables.ChainPriority) *nftables.Chain {
	return t.conn.AddChain(&nftables.Chain{Name: name, Table: t.table, Hooknum: hook, Type: kind, Priority: &priority})
}

func (t *table) rule(c *nftables.Chain, parts ...[]expr.Any) {
	t.conn.AddRule(&nftables.Rule{Table: t.table, Chain: c, Exprs: all(parts...)})
}

// switchOn makes the queries for addresses come here for another switchTimeout.
func (t *table) switchOn(addresses []netip.Addr) error {
	for _, a := range addresses {
		f := familyOf(a)
		lease := elements(a)
		lease[0].Timeout = switchTimeout
		if err := renew(t.conn, t.active[f], lease); err != nil {
			return err
		}
	}
	return t.conn.Flush()
}

// switchOff makes no more queries come here. What was sent before still does,
// and so do replies leave as before.
func (t *table) switchOff() error {
	for _, s := range t.active {
		t.conn.FlushSet(s)
	}
	return t.conn.Flush()
}

// close removes the table.
func (t *table) close() error { return t.conn.CloseLasting() }

// renew makes elements last anew. Adding one that is there changes nothing in
// some kernels, and removing one that has just gone is an error, so it is added
// first; all is one transaction.
func renew(conn *nftables.Conn, s *nftables.Set, leases []nftables.SetElement) error {
	for _, change := range []func(*nftables.Set, []nftables.SetElement) error{
		conn.SetAddElements, conn.SetDeleteElements, conn.SetAddElements,
	} {
		if err := change(s, leases); err != nil {
			return err
		}
	}
	return nil
}

// othersActive tells whether another instance has an address switched to it.
func othersActive(own string, a netip.Addr) (bool, error) {
	conn, err := nftables.New()
	if err != nil {
		return false, err
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, err
	}
	for _, t := range tables {
		if t.Name == own || !strings.HasPrefix(t.Name, tablePrefix) {
			continue
		}
		s, err := conn.GetSetByName(t, "active"+familyOf(a).suffix)
		if err != nil {
			continue // gone meanwhile, or without that family
		}
		held, err := conn.GetSetElements(s)
		if err != nil {
			continue
		}
		for _, e := range held {
			if have, ok := netip.AddrFromSlice(e.Key); ok && have == a {
				return true, nil
			}
		}
	}
	return false, nil
}
