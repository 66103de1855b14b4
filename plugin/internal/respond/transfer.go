package respond

import (
	"errors"

	"github.com/coredns/coredns/plugin/transfer"

	"github.com/miekg/dns"
)

var errNotSynced = errors.New("the cluster's objects are not all known yet")

// Transfer implements transfer.Transferer (RFC 5936): an SOA, every RRset of the
// zone, and the SOA again. If the client has the serial already, the SOA alone
// (RFC 1995 section 2).
func (r *Responder) Transfer(name string, serial uint32) (<-chan []dns.RR, error) {
	z := r.Zones.Find(lower(name))
	if z == nil || z.Name != lower(name) {
		return nil, transfer.ErrNotAuthoritative
	}
	if !r.complete(z) {
		return nil, errNotSynced
	}
	ch := make(chan []dns.RR)
	go func() {
		defer close(ch)
		soa := z.Schema.SOA(z.Name)
		ch <- []dns.RR{&soa}
		if serial != 0 && serial == soa.Serial {
			return
		}
		z.Schema.Transfer(z.Name, func(rrset []dns.RR) { ch <- rrset })
		ch <- []dns.RR{&soa}
	}()
	return ch, nil
}

// complete tells whether all that is in the zone is known. What other clusters
// share may not be, in a store that is synced.
func (r *Responder) complete(z *Zone) bool { return r.Objects.Complete() && z.Schema.Complete() }

// refuseTransfer answers what the transfer plugin did not: it is not there, or
// its permission is missing, or the name is no zone of ours (RFC 5936 section
// 2.2.1).
func (r *Responder) refuseTransfer(q *query) (int, error) {
	switch {
	case q.name != q.zone.Name:
		return notZone(q)
	case !r.complete(q.zone):
		return dns.RcodeServerFailure, nil
	}
	return dns.RcodeRefused, nil
}

func notZone(q *query) (int, error) {
	m := newReply(q.state.Req)
	m.Rcode = dns.RcodeNotAuth
	return send(q, m)
}
