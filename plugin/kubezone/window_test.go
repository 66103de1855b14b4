package kubezone

import (
	"context"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/kubezone/kubezone/plugin/internal/respond"
	"github.com/kubezone/kubezone/plugin/internal/schema"

	"github.com/miekg/dns"
)

// sent is the reply as the server's writer sends it, and its size on the wire.
func sent(t *testing.T, k *Kubezone, r *dns.Msg, network string) (*dns.Msg, int) {
	t.Helper()
	recorder := dnstest.NewRecorder(&test.ResponseWriter{TCP: network == "tcp"})
	g := respond.Gate{Next: k, Zones: k.Zones}
	if _, err := g.ServeDNS(context.Background(), request.NewScrubWriter(r, recorder), r); err != nil {
		t.Fatal(err)
	}
	wire, err := recorder.Msg.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return recorder.Msg, len(wire)
}

func TestRepliesFit(t *testing.T) {
	small, large := startWith(t, headlessManifest(t, 20)), startWith(t, headlessManifest(t, 5000))
	for _, c := range []struct {
		name      string
		k         *Kubezone
		qtype     uint16
		edns      uint16 // 0 for none
		network   string
		limit     int
		records   int // at least
		extra     int // exactly, but for OPT
		truncated bool
	}{
		{"20 A", small, dns.TypeA, 0, "udp", 512, 20, 0, false},
		{"20 A, EDNS", small, dns.TypeA, 4096, "udp", 1232, 20, 0, false},
		{"20 SRV, the addresses as far as they fit", small, dns.TypeSRV, 4096, "udp", 1232, 20, 8, false},
		{"20 SRV, a small client", small, dns.TypeSRV, 0, "udp", 512, 8, 0, true},
		{"20 SRV over TCP", small, dns.TypeSRV, 0, "tcp", dns.MaxMsgSize, 20, 20, false},
		{"5,000 A", large, dns.TypeA, 0, "udp", 512, 28, 0, true},
		{"5,000 A, EDNS", large, dns.TypeA, 4096, "udp", 1232, 72, 0, true},
		{"5,000 A, a client that takes less", large, dns.TypeA, 700, "udp", 700, 39, 0, true},
		{"5,000 A over TCP", large, dns.TypeA, 0, "tcp", dns.MaxMsgSize, 4090, 0, true},
		{"5,000 SRV, EDNS", large, dns.TypeSRV, 4096, "udp", 1232, 20, 0, true},
		{"5,000 SRV over TCP", large, dns.TypeSRV, 0, "tcp", dns.MaxMsgSize, 1100, 0, true},
	} {
		r := new(dns.Msg).SetQuestion("db.prod.svc.cluster.local.", c.qtype)
		if c.edns > 0 {
			r.SetEdns0(c.edns, false)
		}
		m, size := sent(t, c.k, r, c.network)
		extra := len(m.Extra)
		if m.IsEdns0() != nil {
			extra--
		}
		if size > c.limit || len(m.Answer) < c.records || extra != c.extra || m.Truncated != c.truncated {
			t.Errorf("%s: %d octets, %d records, %d more, TC %t; want at most %d, at least %d, %d, %t",
				c.name, size, len(m.Answer), extra, m.Truncated, c.limit, c.records, c.extra, c.truncated)
		}
	}
}

// Over many queries each endpoint of a huge service comes equally often, for
// each type, whatever else is asked in between.
func TestEveryEndpointGetsItsTurn(t *testing.T) {
	const endpoints = 720 // ten replies of 72
	k := startWith(t, headlessManifest(t, endpoints))
	a, srv := map[string]int{}, map[string]int{}
	for range 10 * endpoints / 72 {
		m, _ := sent(t, k, edns("db.prod.svc.cluster.local.", dns.TypeA), "udp")
		for _, rr := range m.Answer {
			a[rr.(*dns.A).A.String()]++
		}
		sent(t, k, edns("db.prod.svc.cluster.local.", dns.TypeAAAA), "udp")
		m, _ = sent(t, k, edns("db.prod.svc.cluster.local.", dns.TypeSRV), "udp")
		for _, rr := range m.Answer {
			srv[rr.(*dns.SRV).Target]++
		}
	}
	for name, counts := range map[string]map[string]int{"A": a, "SRV": srv} {
		if len(counts) != endpoints {
			t.Errorf("%s: %d endpoints came; want %d", name, len(counts), endpoints)
		}
		least, most := 1<<30, 0
		for _, n := range counts {
			least, most = min(least, n), max(most, n)
		}
		if most-least > 1 {
			t.Errorf("%s: an endpoint came %d times, another %d times", name, least, most)
		}
	}
}

func edns(name string, qtype uint16) *dns.Msg {
	r := new(dns.Msg).SetQuestion(name, qtype)
	r.SetEdns0(1232, false)
	return r
}

// TC is for the answer alone: records that are left out of the additional
// section are not missed (RFC 2181 section 9).
func TestAdditionalSectionSetsNoTC(t *testing.T) {
	k := startWith(t, headlessManifest(t, 20))
	r := new(dns.Msg).SetQuestion("_pg._tcp.db.prod.svc.cluster.local.", dns.TypeSRV)
	for size := uint16(512); size <= 1232; size += 16 {
		r.Extra = nil
		r.SetEdns0(size, false)
		m, octets := sent(t, k, r, "udp")
		if octets > int(size) {
			t.Errorf("%d octets for a client that takes %d", octets, size)
		}
		if complete := len(m.Answer) == 20; m.Truncated == complete {
			t.Errorf("size %d: %d of 20 records, TC %t", size, len(m.Answer), m.Truncated)
		}
	}
}

// A generated name that is too long for the DNS is left out, and counted.
func TestNamesTooLong(t *testing.T) {
	k := start(t, "")
	label := strings.Repeat("x", 60) + "."
	name := strings.Repeat(label, 3) + strings.Repeat("y", 31) + ".cluster.local." // twin.shared.prod.svc fits before it, 10-244-3-12.shared.prod.svc does not
	k.Zones = append(k.Zones, respond.Zone{Name: name, Schema: k.Zones[0].Schema})
	before := schema.TooLongNames()
	m, _ := sent(t, k, new(dns.Msg).SetQuestion("shared.prod.svc."+name, dns.TypeSRV), "tcp")
	if len(m.Answer) != 1 || m.Answer[0].(*dns.SRV).Target != "twin.shared.prod.svc."+name {
		t.Errorf("got %v; want the SRV of twin alone", m.Answer)
	}
	if schema.TooLongNames() == before {
		t.Error("the record left out is not counted")
	}
}
