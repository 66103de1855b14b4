package nodelocal

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/google/nftables/xt"
)

// What is not tracked is no "established" either, so that firewalls drop it. A
// drop anywhere is final: an accept counts only in the chain that drops.

// acceptComment marks our rules in other people's chains; the name of the
// instance's table follows.
const acceptComment = "kubezone: node's DNS of "

// nodeCacheComment is in the rules of upstream's node-cache.
const nodeCacheComment = "NodeLocal DNS Cache:"

// A foreign holds what there is in other people's tables.
type foreign struct {
	conn   *nftables.Conn
	tables []*nftables.Table
	chains []*nftables.Chain
}

func listForeign() (*foreign, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	f := &foreign{conn: conn}
	if f.tables, err = conn.ListTables(); err != nil {
		return nil, fmt.Errorf("list nftables tables: %w", err)
	}
	if f.chains, err = conn.ListChains(); err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	return f, nil
}

// filters are the chains in which packets to and from this node are dropped.
func (f *foreign) filters() []*nftables.Chain {
	return slices.DeleteFunc(slices.Clone(f.chains), func(c *nftables.Chain) bool {
		if c.Hooknum == nil || c.Type != nftables.ChainTypeFilter || strings.HasPrefix(c.Table.Name, tablePrefix) {
			return true
		}
		if *c.Hooknum != *nftables.ChainHookInput && *c.Hooknum != *nftables.ChainHookOutput {
			return true
		}
		return !f.drops(c)
	})
}

// drops tells whether a chain drops by its policy or by a rule of its own.
func (f *foreign) drops(c *nftables.Chain) bool {
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		return true
	}
	rules, err := f.conn.GetRules(c.Table, c)
	if err != nil {
		return false // gone meanwhile
	}
	return slices.ContainsFunc(rules, func(r *nftables.Rule) bool {
		return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
			switch e := e.(type) {
			case *expr.Verdict:
				return e.Kind == expr.VerdictDrop
			case *expr.Reject:
				return true
			}
			return false
		})
	})
}

// accept makes every chain that drops accept DNS at the addresses first, and
// tells how many chains did not yet.
func (f *foreign) accept(instance string, p plan) (added int, err error) {
	comment := userdata.AppendString(nil, userdata.TypeComment, acceptComment+instance)
	for _, c := range f.filters() {
		rules, err := f.conn.GetRules(c.Table, c)
		if err != nil {
			continue // gone meanwhile
		}
		f.sweep(rules)
		if slices.ContainsFunc(rules, func(r *nftables.Rule) bool { return bytes.Equal(r.UserData, comment) }) {
			continue
		}
		wanted := acceptRules(c, p)
		for _, exprs := range wanted {
			f.conn.InsertRule(&nftables.Rule{Table: c.Table, Chain: c, Exprs: exprs, UserData: comment})
		}
		if len(wanted) > 0 {
			added++
		}
		if err := f.conn.Flush(); err != nil {
			return added, fmt.Errorf("accept DNS in chain %s of table %s: %w", c.Name, c.Table.Name, err)
		}
	}
	return added, nil
}

// acceptRules are what accepts queries and replies in a chain, whichever way
// they pass: those of the node itself go both ways in each.
func acceptRules(c *nftables.Chain, p plan) [][]expr.Any {
	var rules [][]expr.Any
	for _, a := range p.listen {
		f := familyOf(a)
		var match []expr.Any
		switch c.Table.Family {
		case nftables.TableFamilyINet:
			match = isFamily(f)
		case f.table:
		default:
			continue
		}
		for _, e := range []end{source, destination} {
			add := func(protocol byte, port uint16) {
				rules = append(rules, all(match, isAddress(a, e), isPort(protocol, e, port), accept))
			}
			for _, protocol := range protocols {
				add(protocol, p.port)
			}
			for _, port := range p.extra {
				add(protocols[1], port)
			}
		}
	}
	return rules
}

// sweep takes out rules of instances that are no more.
func (f *foreign) sweep(rules []*nftables.Rule) {
	for _, r := range rules {
		comment, _ := userdata.GetString(r.UserData, userdata.TypeComment)
		instance, ours := strings.CutPrefix(comment, acceptComment)
		if ours && !slices.ContainsFunc(f.tables, func(t *nftables.Table) bool { return t.Name == instance }) {
			_ = f.conn.DelRule(r) // fails for a rule without a handle only
		}
	}
}

// withdraw takes out the rules of an instance.
func (f *foreign) withdraw(instance string) error {
	f.tables = slices.DeleteFunc(f.tables, func(t *nftables.Table) bool { return t.Name == instance })
	for _, c := range f.filters() {
		rules, err := f.conn.GetRules(c.Table, c)
		if err != nil {
			continue // gone meanwhile
		}
		f.sweep(rules)
	}
	return f.conn.Flush()
}

// removeNodeCache takes out what a node-cache that was killed left behind for
// the addresses, and returns how many rules that were. They keep leading queries
// to an address where nobody may be.
func (f *foreign) removeNodeCache(addresses []netip.Addr) (removed int, err error) {
	for _, c := range f.chains {
		if c.Table.Name != "raw" && c.Table.Name != "filter" {
			continue
		}
		rules, err := f.conn.GetRules(c.Table, c)
		if err != nil {
			continue // gone meanwhile
		}
		for _, r := range rules {
			if isNodeCache(r) && slices.ContainsFunc(addresses, func(a netip.Addr) bool { return names(r, a) }) {
				if err := f.conn.DelRule(r); err != nil {
					return removed, err
				}
				removed++
			}
		}
	}
	return removed, f.conn.Flush()
}

// isNodeCache tells whether node-cache made a rule: iptables keeps the comment in
// a match or, in newer versions, beside the rule.
func isNodeCache(r *nftables.Rule) bool {
	if bytes.Contains(r.UserData, []byte(nodeCacheComment)) {
		return true
	}
	return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
		m, ok := e.(*expr.Match)
		if !ok {
			return false
		}
		switch info := m.Info.(type) {
		case *xt.Comment:
			return strings.Contains(string(*info), nodeCacheComment)
		case *xt.Unknown:
			return bytes.Contains(*info, []byte(nodeCacheComment))
		}
		return false
	})
}

// names tells whether a rule looks for an address.
func names(r *nftables.Rule, a netip.Addr) bool {
	return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
		c, ok := e.(*expr.Cmp)
		return ok && bytes.Equal(c.Data, a.AsSlice())
	})
}

// hasTable tells whether there is a table of that name.
func (f *foreign) hasTable(name string) bool {
	return slices.ContainsFunc(f.tables, func(t *nftables.Table) bool { return t.Name == name })
}
