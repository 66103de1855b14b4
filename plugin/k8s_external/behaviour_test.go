package k8sexternal

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// behaviour is what testdata/cluster.yaml comes to.
var behaviour = []struct {
	name    string
	options string
	queries string
}{
	{"external addresses", "", `
		web.prod.example.org. A = 192.0.2.10, 192.0.2.11
		web.prod.example.org. AAAA = NODATA
		web.prod.example.org. TXT = NODATA
		web.prod.example.org. MX = NODATA
		web.prod.example.org. CNAME = NODATA
		web.prod.example.org. PTR = NODATA
		web.prod.example.org. NS = NODATA
		web.prod.example.org. SOA = NODATA
		web.prod.example.org. HTTPS = NODATA
		web.prod.example.org. ANY = "RFC8482" ""
		WEB.prod.EXAMPLE.org. A = 192.0.2.10, 192.0.2.11
		six.prod.example.org. AAAA = 2001:db8::6
		six.prod.example.org. A = NODATA
		dual.prod.example.org. A = 192.0.2.20
		dual.prod.example.org. AAAA = 2001:db8::20
		both.prod.example.org. A = 192.0.2.30
		web.other.example.org. A = 192.0.2.10
		x.web.prod.example.org. A = NXDOMAIN
		10-244-0-10.web.prod.example.org. A = NXDOMAIN
		web.prod.svc.example.org. A = NXDOMAIN
	`},
	{"services that are not reached from outside", "", `
		inner.prod.example.org. A = NXDOMAIN
		inner.prod.example.org. TXT = NXDOMAIN
		10-244-1-10.inner.prod.example.org. A = NXDOMAIN
		_http._tcp.inner.prod.example.org. SRV = NXDOMAIN
		pending.prod.example.org. A = NXDOMAIN
		alias.prod.example.org. A = NXDOMAIN
		alias.prod.example.org. CNAME = NXDOMAIN
		missing.prod.example.org. A = NXDOMAIN
		missing.prod.example.org. PTR = NXDOMAIN
		web.missing.example.org. A = NXDOMAIN
		db.prod.example.org. A = NXDOMAIN
		db-0.db.prod.example.org. A = NXDOMAIN
	`},
	{"SRV", "", `
		_http._tcp.web.prod.example.org. SRV = 0 100 80 web.prod.example.org. + 192.0.2.10, 192.0.2.11
		_https._tcp.web.prod.example.org. SRV = 0 100 443 web.prod.example.org. + 192.0.2.10, 192.0.2.11
		_HTTPS._TCP.Web.prod.example.org. SRV = 0 100 443 Web.prod.example.org. + 192.0.2.10, 192.0.2.11
		_dns._udp.web.prod.example.org. SRV = 0 100 53 web.prod.example.org. + 192.0.2.10, 192.0.2.11
		_grpc._tcp.dual.prod.example.org. SRV = 0 100 9000 dual.prod.example.org. + 192.0.2.20, 2001:db8::20
		web.prod.example.org. SRV = 0 33 80 web.prod.example.org., 0 33 443 web.prod.example.org., 0 33 53 web.prod.example.org. + 192.0.2.10, 192.0.2.11
		unnamed.prod.example.org. SRV = 0 100 8080 unnamed.prod.example.org. + 192.0.2.40
		_http._tcp.both.prod.example.org. SRV = 0 100 80 both.prod.example.org. + 192.0.2.30
		_other._tcp.both.prod.example.org. SRV = NXDOMAIN
		_http._tcp.web.prod.example.org. A = NODATA
		_tcp.web.prod.example.org. SRV = NODATA
		_udp.dual.prod.example.org. SRV = NXDOMAIN
		_http._udp.web.prod.example.org. SRV = NXDOMAIN
		http.tcp.web.prod.example.org. SRV = NXDOMAIN
		_._tcp.unnamed.prod.example.org. SRV = NXDOMAIN
		*._tcp.web.prod.example.org. SRV = NXDOMAIN
		_x._http._tcp.web.prod.example.org. SRV = NXDOMAIN
	`},
	{"host names", "", `
		named.prod.example.org. A = lb.example.net., 203.0.113.7
		named.prod.example.org. AAAA = lb.example.net. NODATA
		named.prod.example.org. MX = lb.example.net. NODATA
		named.prod.example.org. CNAME = lb.example.net.
		named.prod.example.org. ANY = lb.example.net.
		named.prod.example.org. SRV = lb.example.net. NODATA
		_http._tcp.named.prod.example.org. SRV = 0 100 80 lb.example.net.
		_http._tcp.named.prod.example.org. A = NODATA
		names.prod.example.org. A = lb.example.net., 203.0.113.7
		_http._tcp.names.prod.example.org. SRV = 0 50 80 lb.example.net., 0 50 80 lb2.example.net.
		mixed.prod.example.org. A = 192.0.2.60
		mixed.prod.example.org. CNAME = NODATA
		_http._tcp.mixed.prod.example.org. SRV = 0 50 80 mixed.prod.example.org., 0 50 80 lb.example.net. + 192.0.2.60
		gone.prod.example.org. A = gone.example.net. NXDOMAIN
		x.named.prod.example.org. A = NXDOMAIN
	`},
	{"apex and names in between", "", `
		example.org. NS = ns1.dns.example.org. + 192.0.2.53
		EXAMPLE.org. NS = ns1.dns.EXAMPLE.org. + 192.0.2.53
		example.org. A = NODATA
		example.org. TXT = NODATA
		example.org. ANY = "RFC8482" ""
		dns.example.org. A = NODATA
		ns1.dns.example.org. A = 192.0.2.53
		ns1.dns.example.org. AAAA = NODATA
		ns1.dns.example.org. SRV = NODATA
		Ns1.DNS.example.org. A = 192.0.2.53
		ns2.dns.example.org. A = NXDOMAIN
		x.ns1.dns.example.org. A = NXDOMAIN
		prod.example.org. A = NODATA
		prod.example.org. SOA = NODATA
		empty.example.org. A = NODATA
		missing.example.org. A = NXDOMAIN
		svc.example.org. A = NXDOMAIN
		web\.prod.example.org. A = NXDOMAIN
	`},
	{"another apex", "apex Names", `
		example.org. NS = ns1.names.example.org. + 192.0.2.53
		ns1.names.example.org. A = 192.0.2.53
		names.example.org. A = NODATA
		ns1.dns.example.org. A = NXDOMAIN
		dns.example.org. A = NXDOMAIN
	`},
	{"PTR", "", `
		10.2.0.192.in-addr.arpa. PTR = web.other.example.org., web.prod.example.org.
		11.2.0.192.in-addr.arpa. PTR = web.prod.example.org.
		6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR = six.prod.example.org.
		11.2.0.192.in-addr.arpa. A = NODATA
		11.2.0.192.in-addr.arpa. ANY = "RFC8482" ""
		2.0.192.in-addr.arpa. PTR = NODATA
		192.in-addr.arpa. TXT = NODATA
		12.2.0.192.in-addr.arpa. PTR = NXDOMAIN
		10.0.96.10.in-addr.arpa. PTR = NXDOMAIN
		10.2.244.10.in-addr.arpa. PTR = NXDOMAIN
		1.11.2.0.192.in-addr.arpa. PTR = NXDOMAIN
		x.in-addr.arpa. PTR = NXDOMAIN
		in-addr.arpa. NS = ns1.dns.example.org. + 192.0.2.53
		IN-ADDR.arpa. NS = ns1.dns.example.org. + 192.0.2.53
		in-addr.arpa. A = NODATA
	`},
	{"headless", "headless", `
		db.prod.example.org. A = 10.244.2.10, 10.244.2.11
		db.prod.example.org. AAAA = NODATA
		db.prod.example.org. MX = NODATA
		db.prod.example.org. SRV = 0 50 5433 db-0.db.prod.example.org., 0 50 5433 db-1.db.prod.example.org. + 10.244.2.10, 10.244.2.11
		_pg._tcp.db.prod.example.org. SRV = 0 50 5433 db-0.db.prod.example.org., 0 50 5433 db-1.db.prod.example.org. + 10.244.2.10, 10.244.2.11
		_pg._tcp.db.prod.example.org. A = NODATA
		_tcp.db.prod.example.org. A = NODATA
		_pg._udp.db.prod.example.org. SRV = NXDOMAIN
		db-0.db.prod.example.org. A = 10.244.2.10
		Db-0.DB.prod.example.org. SRV = 0 100 5433 Db-0.DB.prod.example.org. + 10.244.2.10
		db-2.db.prod.example.org. A = NXDOMAIN
		10-244-2-10.db.prod.example.org. A = NXDOMAIN
		x.db-0.db.prod.example.org. A = NXDOMAIN
		plain.prod.example.org. A = 10.244.3.10
		plain.prod.example.org. AAAA = fd00:244::10
		plain.prod.example.org. SRV = NODATA
		10-244-3-10.plain.prod.example.org. A = 10.244.3.10
		fd00-244--10.plain.prod.example.org. AAAA = fd00:244::10
		noready.prod.example.org. A = NXDOMAIN
		noready.prod.example.org. TXT = NXDOMAIN
		both.prod.example.org. A = 192.0.2.30
		10-244-4-10.both.prod.example.org. A = NXDOMAIN
		inner.prod.example.org. A = NODATA
		inner.prod.example.org. SRV = NODATA
		10-244-1-10.inner.prod.example.org. A = 10.244.1.10
		10-244-1-10.inner.prod.example.org. SRV = 0 100 8080 10-244-1-10.inner.prod.example.org. + 10.244.1.10
		10-244-1-11.inner.prod.example.org. A = NXDOMAIN
		_http._tcp.inner.prod.example.org. SRV = NXDOMAIN
		pending.prod.example.org. A = NXDOMAIN
		10-244-0-10.web.prod.example.org. A = NXDOMAIN
		alias.prod.example.org. A = NXDOMAIN
		10.2.244.10.in-addr.arpa. PTR = NXDOMAIN
	`},
	{"fallthrough", "headless\nfallthrough", `
		web.prod.example.org. A = 192.0.2.10, 192.0.2.11
		web.prod.example.org. AAAA = NODATA
		missing.prod.example.org. A = NEXT
		inner.prod.example.org. A = NEXT
		10-244-1-10.inner.prod.example.org. A = 10.244.1.10
		missing.example.org. A = NEXT
		x.dns.example.org. A = NEXT
		prod.example.org. A = NODATA
		dns.example.org. A = NODATA
		example.org. A = NODATA
		12.2.0.192.in-addr.arpa. PTR = NEXT
		2.0.192.in-addr.arpa. PTR = NEXT
		in-addr.arpa. PTR = NODATA
	`},
	{"fallthrough in one zone", "fallthrough in-addr.arpa", `
		missing.prod.example.org. A = NXDOMAIN
		12.2.0.192.in-addr.arpa. PTR = NEXT
		6.0.1.0.0.2.ip6.arpa. PTR = NXDOMAIN
	`},
}

func TestBehaviour(t *testing.T) {
	for _, group := range behaviour {
		t.Run(group.name, func(t *testing.T) { compare(t, start(t, group.options), group.queries) })
	}
}

func compare(t *testing.T, s server, queries string) {
	t.Helper()
	for line := range strings.Lines(strings.TrimSpace(queries)) {
		query, want, ok := strings.Cut(strings.TrimSpace(line), " = ")
		if !ok {
			t.Fatalf("%q: want a query, =, and an answer", line)
		}
		if got := s.ask(t, query); got != want {
			t.Errorf("%s = %s\nwant %s", query, got, want)
		}
	}
}

// What the options of the other directive make of the names here.
func TestBehaviourOfTheFollower(t *testing.T) {
	for options, queries := range map[string]string{
		"namespaces other": `
			web.other.example.org. A = 192.0.2.10
			web.prod.example.org. A = NXDOMAIN
			prod.example.org. A = NXDOMAIN
			10.2.0.192.in-addr.arpa. PTR = web.other.example.org.
			11.2.0.192.in-addr.arpa. PTR = NXDOMAIN
			example.org. NS = ns1.dns.example.org. + 127.0.0.1
			ns1.dns.example.org. A = 127.0.0.1`,
		"deny_namespaces public_suffixes": `
			web.other.example.org. A = 192.0.2.10
			web.prod.example.org. A = NXDOMAIN
			prod.example.org. A = NXDOMAIN
			10.2.0.192.in-addr.arpa. PTR = web.other.example.org.
			11.2.0.192.in-addr.arpa. PTR = NXDOMAIN`,
		"labels a=b": `
			web.prod.example.org. A = NXDOMAIN
			11.2.0.192.in-addr.arpa. PTR = NXDOMAIN`,
		"noendpoints": `
			web.prod.example.org. A = 192.0.2.10, 192.0.2.11
			db.prod.example.org. A = NXDOMAIN
			db-0.db.prod.example.org. A = NXDOMAIN
			inner.prod.example.org. A = NXDOMAIN
			10-244-1-10.inner.prod.example.org. A = NXDOMAIN`,
		"endpoint_pod_names": `
			plain-x.plain.prod.example.org. A = 10.244.3.10
			10-244-3-10.plain.prod.example.org. A = NXDOMAIN`,
		"ignore empty_service": `
			six.prod.example.org. AAAA = 2001:db8::6`,
	} {
		t.Run(options, func(t *testing.T) {
			compare(t, startWith(t, "headless", "kubezone cluster.local {\nmanifests testdata/cluster.yaml\n"+options+"\n}"), queries)
		})
	}
}

// Whether a name exists does not depend on the type.
func TestBehaviourIsComplete(t *testing.T) {
	s := start(t, "headless")
	for name, rcode := range map[string]int{
		"web.prod.example.org.":               dns.RcodeSuccess, // addresses of IPv4
		"six.prod.example.org.":               dns.RcodeSuccess, // of IPv6
		"dual.prod.example.org.":              dns.RcodeSuccess, // of both
		"both.prod.example.org.":              dns.RcodeSuccess, // headless with an address
		"mixed.prod.example.org.":             dns.RcodeSuccess, // address and host name
		"named.prod.example.org.":             dns.RcodeSuccess, // host name
		"_http._tcp.web.prod.example.org.":    dns.RcodeSuccess,
		"_tcp.web.prod.example.org.":          dns.RcodeSuccess,
		"_http._tcp.named.prod.example.org.":  dns.RcodeSuccess,
		"db.prod.example.org.":                dns.RcodeSuccess, // headless
		"db-0.db.prod.example.org.":           dns.RcodeSuccess,
		"_pg._tcp.db.prod.example.org.":       dns.RcodeSuccess,
		"inner.prod.example.org.":             dns.RcodeSuccess, // above endpoints
		"10-244-1-10.inner.prod.example.org.": dns.RcodeSuccess,
		"prod.example.org.":                   dns.RcodeSuccess,
		"dns.example.org.":                    dns.RcodeSuccess,
		"ns1.dns.example.org.":                dns.RcodeSuccess,
		"example.org.":                        dns.RcodeSuccess,
		"10.2.0.192.in-addr.arpa.":            dns.RcodeSuccess,
		"2.0.192.in-addr.arpa.":               dns.RcodeSuccess,
		"in-addr.arpa.":                       dns.RcodeSuccess,
		"pending.prod.example.org.":           dns.RcodeNameError,
		"noready.prod.example.org.":           dns.RcodeNameError,
		"alias.prod.example.org.":             dns.RcodeNameError,
		"missing.prod.example.org.":           dns.RcodeNameError,
		"x.web.prod.example.org.":             dns.RcodeNameError,
		"missing.example.org.":                dns.RcodeNameError,
		"x.dns.example.org.":                  dns.RcodeNameError,
		"9.9.9.9.in-addr.arpa.":               dns.RcodeNameError,
	} {
		for _, qtype := range []string{"A", "AAAA", "SRV", "TXT", "MX", "PTR", "NS", "SOA", "CNAME", "DS", "HTTPS", "CAA", "NAPTR", "ANY"} {
			m := s.exchange(t, question(name+" "+qtype))
			if m.Rcode != rcode {
				t.Errorf("%s %s: %s; want %s", name, qtype, dns.RcodeToString[m.Rcode], dns.RcodeToString[rcode])
			}
			check(t, name+" "+qtype, m)
		}
	}
}

func TestTTL(t *testing.T) {
	for options, want := range map[string]uint32{"": 5, "ttl 17": 17, "ttl 0": 0} {
		s := start(t, options+"\nheadless")
		for _, query := range []string{
			"web.prod.example.org. A", "_http._tcp.web.prod.example.org. SRV", "db-0.db.prod.example.org. A", "named.prod.example.org. CNAME",
			"11.2.0.192.in-addr.arpa. PTR", "example.org. SOA", "example.org. NS", "ns1.dns.example.org. A", "missing.prod.example.org. A",
		} {
			m := s.exchange(t, question(query))
			for _, rr := range slices.Concat(m.Answer, m.Ns, m.Extra) {
				if rr.Header().Ttl != want {
					t.Errorf("%q: %s: TTL of %s; want %d", options, query, rr, want)
				}
				if soa, ok := rr.(*dns.SOA); ok && soa.Minttl != want {
					t.Errorf("%q: %s: minimum of %s; want %d", options, query, rr, want)
				}
			}
		}
	}
}

func TestSOA(t *testing.T) {
	for options, want := range map[string]string{
		"":         "ns1.dns.EXAMPLE.org. hostmaster.dns.EXAMPLE.org.",
		"apex abc": "ns1.abc.EXAMPLE.org. hostmaster.abc.EXAMPLE.org.",
	} {
		soa := start(t, options).exchange(t, question("EXAMPLE.org. SOA")).Answer[0].(*dns.SOA)
		if got := soa.Ns + " " + soa.Mbox; got != want || soa.Serial == 0 || soa.Refresh != 7200 || soa.Retry != 1800 || soa.Expire != 86400 {
			t.Errorf("%q: %s; want %s", options, soa, want)
		}
	}
}

func TestRDClearLeavesTheAliasAlone(t *testing.T) {
	r := question("gone.prod.example.org. A")
	r.RecursionDesired = false
	if m := start(t, "").exchange(t, r); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 || len(m.Ns) != 0 {
		t.Errorf("got %v; want the CNAME alone", m)
	}
}

// EDNS is that of the other directive, its explain option too.
func TestExplanations(t *testing.T) {
	for option, want := range map[string]string{"explain reason": "no such service that is reached from outside", "explain off": ""} {
		s := startWith(t, "", "kubernetes cluster.local {\nmanifests testdata/cluster.yaml\n"+option+"\n}")
		for _, name := range []string{"missing.prod.example.org. A", "inner.prod.example.org. A"} {
			r := question(name)
			r.SetEdns0(4096, true)
			opt := s.exchange(t, r).IsEdns0()
			if opt == nil || opt.UDPSize() != 1232 || !opt.Do() {
				t.Fatalf("%s: OPT %v; want size 1232 and DO", name, opt)
			}
			text := ""
			for _, o := range opt.Option {
				text += o.(*dns.EDNS0_EDE).ExtraText
			}
			if text != want {
				t.Errorf("%s with %s: %q; want %q", name, option, text, want)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	s := start(t, "")
	for name, c := range map[string]struct {
		change func(*dns.Msg)
		want   int
	}{
		"class CH":      {func(r *dns.Msg) { r.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeRefused},
		"AXFR over UDP": {func(r *dns.Msg) { r.Question[0].Qtype = dns.TypeAXFR }, dns.RcodeNotAuth}, // of no zone
		"two OPT records": {func(r *dns.Msg) {
			r.SetEdns0(1232, false)
			r.Extra = append(r.Extra, r.Extra[0])
		}, dns.RcodeFormatError},
	} {
		r := question("web.prod.example.org. A")
		c.change(r)
		if m := s.exchange(t, r); m.Rcode != c.want {
			t.Errorf("%s: %s; want %s", name, dns.RcodeToString[m.Rcode], dns.RcodeToString[c.want])
		}
	}
}

func TestBeforeSync(t *testing.T) {
	const away = "kubernetes cluster.local {\nendpoint http://127.0.0.1:1\n}"
	for options, queries := range map[string]string{
		"": `
			web.prod.example.org. A = SERVFAIL
			_http._tcp.web.prod.example.org. SRV = SERVFAIL
			x.web.prod.example.org. A = SERVFAIL
			prod.example.org. A = SERVFAIL
			a.b.web.prod.example.org. A = NXDOMAIN
			x.dns.example.org. A = NXDOMAIN
			dns.example.org. A = NODATA
			example.org. A = NODATA
			example.org. NS = ns1.dns.example.org. + 127.0.0.1
			ns1.dns.example.org. A = 127.0.0.1
			10.2.0.192.in-addr.arpa. PTR = SERVFAIL
			x.in-addr.arpa. PTR = NXDOMAIN`,
		"fallthrough": `
			web.prod.example.org. A = SERVFAIL
			a.b.web.prod.example.org. A = NEXT
			10.2.0.192.in-addr.arpa. PTR = NEXT
			1.1.168.192.in-addr.arpa. PTR = SERVFAIL`,
	} {
		t.Run(options, func(t *testing.T) {
			s := startWith(t, options, away)
			compare(t, s, queries)
			if rrs, rcode := s.transfer(t, "example.org."); rcode != dns.RcodeServerFailure {
				t.Errorf("a transfer: %d records, %s; want SERVFAIL", len(rrs), dns.RcodeToString[rcode])
			}
		})
	}
}
