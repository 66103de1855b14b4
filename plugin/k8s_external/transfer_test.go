package k8sexternal

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// transfer asks for a zone, and returns its records and the rcode.
func (s server) transfer(t testing.TB, zone string) (rrs []dns.RR, rcode int) {
	t.Helper()
	c, err := dns.Dial("tcp", s.tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.WriteMsg(new(dns.Msg).SetAxfr(zone)); err != nil {
		t.Fatal(err)
	}
	for soas := 0; soas < 2; {
		m, err := c.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		if m.Rcode != dns.RcodeSuccess {
			return rrs, m.Rcode
		}
		for _, rr := range m.Answer {
			if rr.Header().Rrtype == dns.TypeSOA {
				soas++
			}
		}
		rrs = append(rrs, m.Answer...)
	}
	return rrs, dns.RcodeSuccess
}

func TestTransferEqualsQueries(t *testing.T) {
	s := start(t, "headless")
	for zone, wanted := range map[string][]string{
		"example.org.": {
			"example.org. NS", "ns1.dns.example.org. A", "web.prod.example.org. A", "web.prod.example.org. SRV", "_http._tcp.web.prod.example.org. SRV",
			"six.prod.example.org. AAAA", "named.prod.example.org. CNAME", "_http._tcp.named.prod.example.org. SRV", "both.prod.example.org. A",
			"db.prod.example.org. A", "db.prod.example.org. SRV", "_pg._tcp.db.prod.example.org. SRV", "db-0.db.prod.example.org. A",
			"fd00-244--10.plain.prod.example.org. AAAA", "10-244-1-10.inner.prod.example.org. A",
		},
		"in-addr.arpa.": {"in-addr.arpa. NS", "10.2.0.192.in-addr.arpa. PTR"},
		"ip6.arpa.":     {"6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR"},
	} {
		rrs, rcode := s.transfer(t, zone)
		if rcode != dns.RcodeSuccess {
			t.Fatalf("%s: %s", zone, dns.RcodeToString[rcode])
		}
		if first, last := rrs[0], rrs[len(rrs)-1]; first.Header().Rrtype != dns.TypeSOA || first.String() != last.String() {
			t.Errorf("%s: begins with %v and ends with %v; want the SOA", zone, first, last)
		}
		rrsets := map[string][]string{}
		for _, rr := range rrs[1 : len(rrs)-1] {
			key := rr.Header().Name + " " + dns.TypeToString[rr.Header().Rrtype]
			rrsets[key] = append(rrsets[key], rr.String())
		}
		for query, rrset := range rrsets {
			r := question(query)
			r.RecursionDesired = false
			var answer []string
			for _, rr := range s.exchange(t, r).Answer {
				answer = append(answer, rr.String())
			}
			slices.Sort(answer)
			slices.Sort(rrset)
			if !slices.Equal(answer, rrset) {
				t.Errorf("%s: transferred %v; answered %v", query, rrset, answer)
			}
		}
		for _, query := range wanted {
			if rrsets[query] == nil {
				t.Errorf("%s: %s is missing", zone, query)
			}
		}
		for query := range rrsets {
			if name, _, _ := strings.Cut(query, " "); rrsets[name+" CNAME"] != nil && query != name+" CNAME" {
				t.Errorf("%s beside a CNAME (RFC 1034 section 3.6.2)", query)
			}
		}
	}
}

func TestTransferWithoutHeadless(t *testing.T) {
	rrs, _ := start(t, "").transfer(t, "example.org.")
	for _, rr := range rrs {
		switch rr.Header().Name {
		case "db.prod.example.org.", "db-0.db.prod.example.org.", "10-244-1-10.inner.prod.example.org.":
			t.Errorf("transferred %s; want no endpoints", rr)
		}
	}
}
