package k8sexternal

import (
	"fmt"
	"strings"
	"testing"

	"github.com/coredns/caddy"

	"github.com/miekg/dns"
)

// A server is a CoreDNS in this process. Its addresses are host:port.
type server struct{ udp, tcp string }

// start serves example.org and the reverse zones, with the options of the
// block, over what the other directive of this project follows. Names of the
// load balancers' hosts are answered before that, everything else after it.
func start(t testing.TB, options string) server {
	t.Helper()
	return startWith(t, options, "kubernetes cluster.local {\nmanifests testdata/cluster.yaml\n}")
}

func startWith(t testing.TB, options, follower string) server {
	t.Helper()
	return startCorefile(t, fmt.Sprintf(`.:0 {
		bind 127.0.0.1
		template IN A lb.example.net lb2.example.net {
			answer "{{ .Name }} 60 IN A 203.0.113.7"
		}
		template IN A gone.example.net {
			rcode NXDOMAIN
			authority "example.net. 60 IN SOA ns.example.net. h.example.net. 1 2 3 4 5"
		}
		template IN ANY example.net {
			rcode NOERROR
			authority "example.net. 60 IN SOA ns.example.net. h.example.net. 1 2 3 4 5"
		}
		transfer {
			to *
		}
		k8s_external example.org in-addr.arpa ip6.arpa {
			%s
		}
		%s
		whoami
	}`, options, follower))
}

func startCorefile(t testing.TB, corefile string) server {
	t.Helper()
	instance, err := caddy.Start(caddy.CaddyfileInput{Contents: []byte(corefile), Filepath: "Corefile", ServerTypeName: "dns"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, errs := range [][]error{instance.ShutdownCallbacks(), {instance.Stop()}} {
			for _, err := range errs {
				if err != nil {
					t.Error(err)
				}
			}
		}
		instance.Wait()
	})
	s := instance.Servers()[0]
	return server{udp: s.LocalAddr().String(), tcp: s.Addr().String()}
}

func question(query string) *dns.Msg {
	name, qtype, _ := strings.Cut(query, " ")
	return new(dns.Msg).SetQuestion(name, dns.StringToType[qtype])
}

func (s server) exchange(t testing.TB, r *dns.Msg) *dns.Msg {
	t.Helper()
	m, err := dns.Exchange(r, s.udp)
	if err != nil {
		t.Fatalf("%s: %v", &r.Question[0], err)
	}
	return m
}

// ask writes the answer down: rdata separated by commas, and after a plus the
// additional section; then a negative outcome, or NEXT for what the next plugin
// answers. It checks what holds for all answers.
func (s server) ask(t testing.TB, query string) string {
	t.Helper()
	r := question(query)
	m := s.exchange(t, r)
	if isNext(m) {
		return "NEXT"
	}
	if m.Rcode != dns.RcodeServerFailure {
		check(t, query, m)
	}
	text := rdata(m.Answer)
	if len(m.Extra) > 0 {
		text += " + " + rdata(m.Extra)
	}
	switch {
	case m.Rcode != dns.RcodeSuccess:
		text += " " + dns.RcodeToString[m.Rcode]
	case len(m.Ns) > 0:
		text += " NODATA"
	}
	return strings.TrimSpace(text)
}

// isNext knows the whoami plugin by its additional section.
func isNext(m *dns.Msg) bool {
	return len(m.Extra) > 0 && strings.HasPrefix(m.Extra[len(m.Extra)-1].Header().Name, "_udp.")
}

func rdata(rrs []dns.RR) string {
	var list []string
	for _, rr := range rrs {
		list = append(list, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(list, ", ")
}

// check checks what no answer may break.
func check(t testing.TB, query string, m *dns.Msg) {
	t.Helper()
	if !m.Authoritative {
		t.Errorf("%s: AA is clear", query)
	}
	owner, _, _ := strings.Cut(query, " ")
	for _, rr := range m.Answer {
		if rr.Header().Name != owner {
			t.Errorf("%s: owner %s; want %s", query, rr.Header().Name, owner)
		}
		if c, ok := rr.(*dns.CNAME); ok {
			owner = c.Target
		}
	}
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); !ok || !dns.IsSubDomain(soa.Hdr.Name, owner) {
			t.Errorf("%s: %s in the authority section; want the SOA of the zone of %s", query, rr, owner)
		}
	}
	if len(m.Ns) > 1 || len(m.Answer) == 0 && len(m.Ns) == 0 {
		t.Errorf("%s: %d records in the authority section", query, len(m.Ns))
	}
}
