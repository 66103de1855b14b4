// Package nodelocal puts a DNS server on addresses of its node: a link-local one
// and the ClusterIP of the cluster's DNS, and leads the queries of the node's
// pods there for as long as it answers.
package nodelocal

import (
	"context"
	"crypto/rand"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

// dnsPort is where clients ask (RFC 1035 section 4.2).
const dnsPort = 53

// selfLabel, in front of a zone of the server block, is the name that the plugin
// asks itself for. An underscore is no part of a host name.
const selfLabel = "_nodelocal."

// identity tells this process from another one that listens on the same
// addresses, as in an upgrade.
var identity = rand.Text()

// A Nodelocal counts the queries that are at work and answers those that the
// plugin sends to itself.
type Nodelocal struct {
	Next plugin.Handler

	addresses []netip.Addr // self-queries come from one of these
	selfName  string
	inFlight  *atomic.Int64
	serving   func() bool // whether queries reach a server that answers
}

// Name implements plugin.Handler.
func (n *Nodelocal) Name() string { return directive }

// ServeDNS implements plugin.Handler.
func (n *Nodelocal) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if len(r.Question) == 1 && r.Question[0].Name == n.selfName && n.fromSelf(w) {
		return n.answerSelf(w, r)
	}
	n.inFlight.Add(1)
	defer n.inFlight.Add(-1)
	return plugin.NextOrFailure(n.Name(), n.Next, ctx, w, r)
}

// fromSelf tells whether a query comes from the node itself.
func (n *Nodelocal) fromSelf(w dns.ResponseWriter) bool {
	from, err := netip.ParseAddrPort(w.RemoteAddr().String())
	return err == nil && slices.Contains(n.addresses, from.Addr().Unmap())
}

// answerSelf says who answers.
func (n *Nodelocal) answerSelf(w dns.ResponseWriter, r *dns.Msg) (int, error) {
	m := new(dns.Msg).SetReply(r)
	m.Authoritative = true
	m.Answer = []dns.RR{&dns.TXT{
		Hdr: dns.RR_Header{Name: n.selfName, Rrtype: dns.TypeTXT, Class: dns.ClassINET},
		Txt: []string{identity},
	}}
	if err := w.WriteMsg(m); err != nil {
		return dns.RcodeServerFailure, plugin.Error(directive, err)
	}
	return dns.RcodeSuccess, nil
}

// Ready implements ready.Readiness: the addresses are served.
func (n *Nodelocal) Ready() bool { return n.serving() }
