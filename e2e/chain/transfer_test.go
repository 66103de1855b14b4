package chain

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/e2e/harness"
)

var zones = []string{"cluster.local.", "in-addr.arpa.", "ip6.arpa."}

// serial is that of a zone's SOA record.
func serial(t *testing.T, s *harness.Server, zone string) uint32 {
	t.Helper()
	reply := s.Ask(t, zone+" SOA")
	if len(reply.Answer) != 1 {
		t.Fatalf("%s SOA: %v", zone, reply)
	}
	return reply.Answer[0].(*dns.SOA).Serial
}

// axfr transfers a zone.
func axfr(t *testing.T, s *harness.Server, zone string) []dns.RR {
	t.Helper()
	envelopes, err := new(dns.Transfer).In(new(dns.Msg).SetAxfr(zone), s.DNS)
	if err != nil {
		t.Fatal(err)
	}
	var rrs []dns.RR
	for envelope := range envelopes {
		if envelope.Error != nil {
			t.Fatalf("%s: %v", zone, envelope.Error)
		}
		rrs = append(rrs, envelope.RR...)
	}
	return rrs
}

// A server that holds our zones by AXFR answers for every name in them as we do.
func TestSecondaryAnswersTheSame(t *testing.T) {
	t.Parallel()
	primary := serve(t, block("\ttransfer {\n\t\tto *\n\t}", "pods verified"))
	const corefile = `.:{$DNS} {
	ready :{$READY}
	secondary cluster.local in-addr.arpa ip6.arpa {
		transfer from {$PRIMARY}
	}
	file {$DATA}/example.org.zone example.org
}
`
	secondary := serve(t, corefile, "PRIMARY="+primary.DNS)
	compared := 0
	for _, zone := range zones {
		rrs := axfr(t, primary, zone)
		if first, last := rrs[0].Header().Rrtype, rrs[len(rrs)-1].Header().Rrtype; first != dns.TypeSOA || last != dns.TypeSOA || len(rrs) < 4 {
			t.Fatalf("%s: %v", zone, rrs)
		}
		harness.Eventually(t, 20*time.Second, func() error {
			if got, want := serial(t, secondary, zone), serial(t, primary, zone); got != want {
				return fmt.Errorf("%s has serial %d; want %d", zone, got, want)
			}
			return nil
		})
		names := map[string]bool{}
		aliases := map[string]bool{}
		for _, rr := range rrs {
			name := rr.Header().Name
			aliases[name] = aliases[name] || rr.Header().Rrtype == dns.TypeCNAME
			for name != zone { // with the empty non-terminals above
				names[name] = true
				names["no-such-name."+name] = true
				at, _ := dns.NextLabel(name, 0)
				name = name[at:]
			}
			names[zone] = true
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			qtypes := []string{"A", "AAAA", "SRV", "TXT", "PTR", "MX", "SOA"}
			if aliases[name] {
				qtypes = append(qtypes, "CNAME")
			}
			for _, qtype := range qtypes {
				question := name + " " + qtype
				if got, want := plain(t, secondary, question), plain(t, primary, question); got != want {
					t.Errorf("%s: the secondary says %s; we say %s", question, got, want)
				}
				compared++
			}
		}
	}
	if compared < 200 {
		t.Errorf("%d questions are no test", compared)
	}
	t.Logf("%d questions", compared)
}

// plain is an answer without what only a SOA record tells.
func plain(t *testing.T, s *harness.Server, question string) string {
	t.Helper()
	reply, err := s.Exchange(harness.Question{Text: question}.Message(t), "tcp")
	if err != nil {
		t.Fatalf("%s: %v", question, err)
	}
	return strings.ToLower(harness.Text(reply))
}
