package respond

import (
	"context"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

// A Gate stands at the front of the plugin chain, because the plugins between
// work on a copy of the request, while the server's writer goes by the original.
type Gate struct {
	Next  plugin.Handler
	Zones Zones
}

// Name is that of no directive, so that a Gate hides no plugin from those that
// look others up.
func (Gate) Name() string { return "gate" }

// ServeDNS limits the size of replies in the zones, keeps what means nothing out
// of their OPT records, and refuses a second one (RFC 6891 section 6.1.1). Where
// the server's writer is the next, replies are packed here.
func (g Gate) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if g.Zones.Find(lower(r.Question[0].Name)) == nil {
		return g.Next.ServeDNS(ctx, w, r)
	}
	w = newWriter(w, r)
	if len(r.Extra) == 0 {
		return g.Next.ServeDNS(ctx, w, r)
	}
	opts := 0
	for _, rr := range r.Extra {
		if opt, ok := rr.(*dns.OPT); ok {
			opts++
			clearZ(opt)
		}
	}
	if opts > 1 {
		return dns.RcodeFormatError, nil
	}
	limitSize(r)
	return g.Next.ServeDNS(ctx, w, r)
}

// clearZ clears the bits of an OPT record that mean nothing, as a sender must
// (RFC 6891 section 6.1.4): the server's writer puts the client's OPT record
// into a reply that has none, and leaves them set.
func clearZ(opt *dns.OPT) {
	opt.SetZ(0)
	opt.SetCo(false) // one of them, to all but this library
}
