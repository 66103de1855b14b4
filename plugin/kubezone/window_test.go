package kubezone

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
// each type and transport, whatever else is asked in between, and whether or not
// the windows fit the service. Over TCP a window is what 64 KiB have room for.
func TestEveryEndpointGetsItsTurn(t *testing.T) {
	for _, c := range []struct {
		network   string
		endpoints int
		queries   int
	}{{"udp", 720, 100}, {"udp", 1013, 100}, {"tcp", 5000, 12}} {
		k := startWith(t, headlessManifest(t, c.endpoints))
		counts := map[string]map[string]int{"A": {}, "SRV": {}}
		for range c.queries {
			m, _ := sent(t, k, edns("db.prod.svc.cluster.local.", dns.TypeA), c.network)
			for _, rr := range m.Answer {
				counts["A"][rr.(*dns.A).A.String()]++
			}
			if !m.Truncated {
				t.Fatalf("%s: all of %d A without TC", c.network, c.endpoints)
			}
			sent(t, k, edns("db.prod.svc.cluster.local.", dns.TypeAAAA), c.network)
			m, _ = sent(t, k, edns("db.prod.svc.cluster.local.", dns.TypeSRV), c.network)
			for _, rr := range m.Answer {
				counts["SRV"][rr.(*dns.SRV).Target]++
			}
		}
		for name, count := range counts {
			if len(count) != c.endpoints {
				t.Errorf("%s, %s: %d endpoints came; want %d", c.network, name, len(count), c.endpoints)
			}
			least, most := 1<<30, 0
			for _, n := range count {
				least, most = min(least, n), max(most, n)
			}
			if most-least > 1 {
				t.Errorf("%s, %s of %d: an endpoint came %d times, another %d times", c.network, name, c.endpoints, least, most)
			}
		}
	}
}

// The addresses that come with SRV records are of their targets, and right.
func TestGlueMatches(t *testing.T) {
	for _, endpoints := range []int{4, 20, 5000} {
		k := startWith(t, headlessManifest(t, endpoints))
		for _, network := range []string{"udp", "tcp"} {
			for range 20 {
				m, _ := sent(t, k, edns("_pg._tcp.db.prod.svc.cluster.local.", dns.TypeSRV), network)
				targets := map[string]bool{}
				for _, rr := range m.Answer {
					targets[rr.(*dns.SRV).Target] = true
				}
				for _, rr := range m.Extra {
					a, ok := rr.(*dns.A)
					if !ok {
						continue
					}
					n, err := strconv.Atoi(strings.TrimPrefix(strings.TrimSuffix(a.Hdr.Name, ".db.prod.svc.cluster.local."), "db-"))
					want := net.IPv4(10, byte(100+n>>16), byte(n>>8), byte(n))
					if err != nil || !targets[a.Hdr.Name] || !a.A.Equal(want) {
						t.Fatalf("%d endpoints, %s: address %v, which no record asks for or is not %v", endpoints, network, a, want)
					}
				}
				if endpoints == 4 && len(m.Extra)-1 != endpoints { // and OPT
					t.Fatalf("%d addresses with %d endpoints", len(m.Extra)-1, endpoints)
				}
			}
		}
	}
}

// In a multicluster zone A and AAAA show the same endpoints where neither has
// room for all (KEP-1645), and each of them gets its turn.
func TestFamiliesShowTheSameEndpoints(t *testing.T) {
	const endpoints, perSlice = 150, 50
	var b strings.Builder
	b.WriteString("{apiVersion: multicluster.x-k8s.io/v1beta1, kind: ServiceImport, metadata: {name: db, namespace: prod}, spec: {type: Headless, ports: [{name: pg, port: 5432}]}}\n")
	for _, family := range []struct{ name, address string }{{"IPv4", "10.1.0.%d"}, {"IPv6", "'fd00:1::%x'"}} {
		for from := 0; from < endpoints; from += perSlice {
			fmt.Fprintf(&b, "---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: %s-%d, namespace: prod, labels: {multicluster.kubernetes.io/service-name: db, multicluster.kubernetes.io/source-cluster: east}}, addressType: %[1]s, endpoints: [", family.name, from)
			for i := from; i < from+perSlice; i++ {
				fmt.Fprintf(&b, "{addresses: ["+family.address+"], hostname: db-%d},", i, i)
			}
			b.WriteString("]}\n")
		}
	}
	manifest := filepath.Join(t.TempDir(), "imports.yaml")
	if err := os.WriteFile(manifest, []byte(strings.ReplaceAll(b.String(), "name: IPv", "name: ipv")), 0o644); err != nil {
		t.Fatal(err)
	}
	k := start(t, "multicluster clusterset.local\nmanifests "+manifest)
	last := func(ip net.IP) int { return int(ip[len(ip)-1]) }
	counts := map[int]int{}
	for range 3 * endpoints {
		a, _ := sent(t, k, edns("db.prod.svc.clusterset.local.", dns.TypeA), "udp")
		aaaa, _ := sent(t, k, edns("db.prod.svc.clusterset.local.", dns.TypeAAAA), "udp")
		var four, six []int
		for _, rr := range a.Answer {
			four = append(four, last(rr.(*dns.A).A))
			counts[last(rr.(*dns.A).A)]++
		}
		for _, rr := range aaaa.Answer {
			six = append(six, last(rr.(*dns.AAAA).AAAA))
		}
		if slices.Sort(four); !a.Truncated || !aaaa.Truncated {
			t.Fatalf("%d A and %d AAAA of %d without TC", len(four), len(six), endpoints)
		}
		if slices.Sort(six); !slices.Equal(four, six) {
			t.Fatalf("A shows the endpoints %v, AAAA %v", four, six)
		}
	}
	least, most := 1<<30, 0
	for _, n := range counts {
		least, most = min(least, n), max(most, n)
	}
	if len(counts) != endpoints || most-least > 1 {
		t.Errorf("%d of %d endpoints came, %d to %d times", len(counts), endpoints, least, most)
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
