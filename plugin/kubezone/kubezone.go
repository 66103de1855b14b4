// Package kubezone is a CoreDNS plugin that serves the services, endpoints and
// pods of a Kubernetes cluster (kubernetes/dns, docs/specification.md, version
// 1.1.0).
package kubezone

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/request"
	"github.com/kubezone/kubezone/plugin/internal/index"
	"github.com/kubezone/kubezone/plugin/internal/kube"
	"github.com/kubezone/kubezone/plugin/internal/schema"

	"github.com/miekg/dns"
)

// Kubezone answers for its zones from a store that follows the cluster. It is
// safe for concurrent use.
type Kubezone struct {
	Next plugin.Handler

	config
	directive string // that set it up
	schema    *schema.Schema
	store     *kube.Store
	grammar   schema.Grammar
	zones     []zone
	local     []netip.Addr // set before the servers start
	search    []string     // of the server's own resolver, for autopath
	lookup    lookup
	inFlight  chases
}

// A lookup resolves a name through the server's own chain of plugins.
type lookup interface {
	Lookup(ctx context.Context, state request.Request, name string, qtype uint16) (*dns.Msg, error)
}

// A zone is one that the plugin is authoritative for.
type zone struct {
	name    string // in lower case
	reverse bool
	cached  bool // names in it may fall through, so other plugins treat it like any zone
	schema  *schema.Schema
}

// Name is the directive that set the plugin up.
func (k *Kubezone) Name() string { return k.directive }

// ServeDNS implements plugin.Handler.
func (k *Kubezone) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	q := query{ctx: ctx, state: request.Request{W: w, Req: r}, qname: r.Question[0].Name, qtype: r.Question[0].Qtype}
	q.name = lower(q.qname)
	if q.zone = k.zoneOf(q.name); q.zone == nil {
		return plugin.NextOrFailure(k.Name(), k.Next, ctx, w, r)
	}
	q.apex = q.qname[len(q.qname)-len(q.zone.name):]
	limitSize(r)
	switch {
	case r.Question[0].Qclass != dns.ClassINET:
		return dns.RcodeRefused, nil
	case r.Opcode != dns.OpcodeQuery:
		return dns.RcodeNotImplemented, nil
	case q.qtype == dns.TypeAXFR || q.qtype == dns.TypeIXFR:
		return k.refuseTransfer(&q)
	case q.zone.reverse:
		return k.serveReverse(&q)
	}
	return k.serveForward(&q)
}

// A query is one that is being served.
type query struct {
	ctx   context.Context
	state request.Request
	qname string // as asked
	name  string // in lower case
	zone  *zone
	apex  string // the end of qname that is the zone, in the client's spelling
	qtype uint16
}

// zoneOf is the most specific zone that the name is in, or nil.
func (k *Kubezone) zoneOf(name string) *zone {
	var best *zone
	for i := range k.zones {
		z := &k.zones[i]
		if within(name, z.name) && (best == nil || len(z.name) > len(best.name)) {
			best = z
		}
	}
	return best
}

// within tells whether a name is in a zone; both are in lower case.
func within(name, zone string) bool {
	if zone == "." {
		return true
	}
	if !strings.HasSuffix(name, zone) {
		return false
	}
	at := len(name) - len(zone)
	return at == 0 || (name[at-1] == '.' && !escapedDot(name, at-1))
}

func escapedDot(name string, at int) bool {
	n := 0
	for n < at && name[at-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

// lower is the name in lower case. ASCII letters alone have a case in the DNS
// (RFC 4343 section 3). It allocates only if there are capital letters.
func lower(name string) string {
	for i := range len(name) {
		if 'A' <= name[i] && name[i] <= 'Z' {
			return asciiLower(name)
		}
	}
	return name
}

func asciiLower(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// relative is the part of a name left of its zone.
func relative(name, zone string) string {
	if zone == "." {
		return strings.TrimSuffix(name, ".")
	}
	return strings.TrimSuffix(name[:len(name)-len(zone)], ".")
}

func (k *Kubezone) serveForward(q *query) (int, error) {
	question := schema.Question{
		Name:  q.zone.parse(q.name),
		QName: q.qname,
		Zone:  q.apex,
		QType: q.qtype,
		Room:  room(&q.state),
	}
	a := q.zone.schema.Answer(&question)
	countOutcome(a.Outcome, a.Reason)
	switch a.Outcome {
	case schema.Alias:
		return k.serveAlias(q, a)
	case schema.NameError:
		if k.fall.Through(q.name) {
			return plugin.NextOrFailure(k.Name(), k.Next, q.ctx, q.state.W, q.state.Req)
		}
	case schema.NotSynced:
		if q.zone.cached {
			return dns.RcodeServerFailure, nil // a cache would keep one that is written
		}
	}
	return k.write(q, a)
}

func (k *Kubezone) serveReverse(q *query) (int, error) {
	var a schema.Answer
	atApex := q.name == q.zone.name
	if atApex {
		a = q.zone.schema.AnswerApex(q.qname, q.qtype)
	} else {
		a = q.zone.schema.AnswerReverse(&schema.ReverseQuestion{Name: q.name, QName: q.qname, QType: q.qtype, Room: room(&q.state)})
	}
	countOutcome(a.Outcome, a.Reason)
	branch := a.Reason == schema.OnlyBranch && !atApex
	if a.Outcome == schema.NotSynced && (isClusterSpace(q.name) || !k.fall.Through(q.name)) {
		return dns.RcodeServerFailure, nil // a cache would keep one that is written
	}
	if (branch || a.Outcome == schema.NameError || a.Outcome == schema.NotSynced) && k.fall.Through(q.name) {
		return plugin.NextOrFailure(k.Name(), k.Next, q.ctx, q.state.W, q.state.Req)
	}
	return k.write(q, a)
}

// clusterSpace is where a cluster's addresses usually are: private (RFC 1918),
// shared (RFC 6598), unique local (RFC 4193) and link-local space.
var clusterSpace = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("fc00::/7"),
	netip.MustParsePrefix("fe80::/10"),
}

// isClusterSpace tells whether a reverse name is one of an address that may
// well be the cluster's. Its names are nobody else's business.
func isClusterSpace(name string) bool {
	p, ok := schema.ParseReverse(name)
	return ok && slices.ContainsFunc(clusterSpace, func(c netip.Prefix) bool { return c.Overlaps(p) && p.Bits() >= c.Bits() })
}

// refuseTransfer answers what the transfer plugin did not: it is not there, or
// its permission is missing, or the name is no zone of ours (RFC 5936 section
// 2.2.1).
func (k *Kubezone) refuseTransfer(q *query) (int, error) {
	switch {
	case q.name != q.zone.name:
		m := newReply(q.state.Req)
		m.Rcode = dns.RcodeNotAuth
		return k.send(q, m)
	case !k.store.Synced():
		return dns.RcodeServerFailure, nil
	}
	return dns.RcodeRefused, nil
}

// CacheBypassZones implements cache.ZoneBypasser: answers in forward zones
// without fallthrough are always fresh, and keep their Extended DNS Errors,
// which the cache plugin strips.
func (k *Kubezone) CacheBypassZones() []string {
	var names []string
	for _, z := range k.zones {
		if !z.reverse && !z.cached {
			names = append(names, z.name)
		}
	}
	return names
}

// Ready implements ready.Readiness: once every configured kind of object is in,
// and from then on.
func (k *Kubezone) Ready() bool { return k.store.Synced() }

// parse reads the meaning of a name in the zone.
func (z *zone) parse(name string) schema.Name {
	return schema.Parse(relative(name, z.name), z.schema.Grammar)
}

// podsAt are the pods that a client's address belongs to.
func (k *Kubezone) podsAt(client string) []*index.Pod {
	if k.pods != podsVerified {
		return nil
	}
	addr, err := netip.ParseAddr(client)
	if err != nil {
		return nil
	}
	return k.store.Index().PodsAt(addr.Unmap().WithZone(""))
}
