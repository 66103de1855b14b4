package kubezone

import (
	"errors"

	"github.com/coredns/coredns/plugin/transfer"

	"github.com/miekg/dns"
)

var errNotSynced = errors.New("the cluster's objects are not all known yet")

// Transfer implements transfer.Transferer (RFC 5936): an SOA, every RRset of the
// zone, and the SOA again. If the client has the serial already, the SOA alone
// (RFC 1995 section 2).
func (k *Kubezone) Transfer(name string, serial uint32) (<-chan []dns.RR, error) {
	z := k.zoneOf(lower(name))
	if z == nil || z.name != lower(name) {
		return nil, transfer.ErrNotAuthoritative
	}
	if !k.store.Synced() {
		return nil, errNotSynced
	}
	ch := make(chan []dns.RR)
	go func() {
		defer close(ch)
		soa := z.schema.SOA(z.name)
		ch <- []dns.RR{&soa}
		if serial != 0 && serial == soa.Serial {
			return
		}
		z.schema.Transfer(z.name, func(rrset []dns.RR) { ch <- rrset })
		ch <- []dns.RR{&soa}
	}()
	return ch, nil
}
