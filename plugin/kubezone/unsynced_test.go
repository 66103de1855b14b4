package kubezone

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// What is answered while nothing is known of the cluster: a name that no object
// could give is denied at once, and nothing else is.
func TestBeforeSync(t *testing.T) {
	for options, queries := range map[string]string{
		"pods insecure": `
			web.prod.svc.cluster.local. A = SERVFAIL
			_http._tcp.web.prod.svc.cluster.local. SRV = SERVFAIL
			_tcp.web.prod.svc.cluster.local. SRV = SERVFAIL
			10-1-2-3.web.prod.svc.cluster.local. A = SERVFAIL
			prod.svc.cluster.local. A = SERVFAIL
			prod.pod.cluster.local. A = SERVFAIL
			1-2-3-4.prod.pod.cluster.local. A = SERVFAIL
			nonsense.prod.pod.cluster.local. A = NXDOMAIN
			x.1-2-3-4.prod.pod.cluster.local. A = NXDOMAIN
			a.b.web.prod.svc.cluster.local. A = NXDOMAIN
			_.web.prod.svc.cluster.local. A = NXDOMAIN
			google.com.cluster.local. A = NXDOMAIN
			www.example.com.cluster.local. A = NXDOMAIN
			x.dns.cluster.local. A = NXDOMAIN
			cluster.local. SOA = ok
			cluster.local. NS = ok
			svc.cluster.local. A = NODATA
			pod.cluster.local. A = NODATA
			dns.cluster.local. A = NODATA
			dns-version.cluster.local. TXT = ok
			10.0.96.10.in-addr.arpa. PTR = SERVFAIL
			10.in-addr.arpa. PTR = SERVFAIL
			8.8.8.8.in-addr.arpa. PTR = SERVFAIL`,
		"fallthrough": `
			web.prod.svc.cluster.local. A = SERVFAIL
			google.com.cluster.local. A = NEXT
			10.0.96.10.in-addr.arpa. PTR = SERVFAIL
			1.1.168.192.in-addr.arpa. PTR = SERVFAIL
			1.1.16.172.in-addr.arpa. PTR = SERVFAIL
			1.1.64.100.in-addr.arpa. PTR = SERVFAIL
			1.1.254.169.in-addr.arpa. PTR = SERVFAIL
			0.0.d.f.ip6.arpa. PTR = SERVFAIL
			0.8.e.f.ip6.arpa. PTR = SERVFAIL
			8.8.8.8.in-addr.arpa. PTR = NEXT
			1.1.32.172.in-addr.arpa. PTR = NEXT
			8.b.d.0.1.0.0.2.ip6.arpa. PTR = NEXT
			x.in-addr.arpa. PTR = NEXT`,
		"pods verified": `
			1-2-3-4.prod.pod.cluster.local. A = SERVFAIL`,
		"fallthrough\nreverse_ranges 203.0.113.0/24": `
			1.113.0.203.in-addr.arpa. PTR = SERVFAIL
			113.0.203.in-addr.arpa. PTR = SERVFAIL
			x.113.0.203.in-addr.arpa. PTR = NXDOMAIN
			114.0.203.in-addr.arpa. PTR = NEXT
			10.0.96.10.in-addr.arpa. PTR = SERVFAIL`,
		"deny_namespaces svc com": `
			kubernetes.default.svc.svc.cluster.local. A = NXDOMAIN
			github.com.svc.cluster.local. A = NXDOMAIN
			web.prod.svc.cluster.local. A = SERVFAIL`,
		"pods insecure\npod_ranges private": `
			1-2-3-4.prod.pod.cluster.local. A = NXDOMAIN
			10-2-3-4.prod.pod.cluster.local. A = SERVFAIL`,
		"namespaces prod": `
			web.other.svc.cluster.local. A = NXDOMAIN
			web.prod.svc.cluster.local. A = SERVFAIL`,
	} {
		k := start(t, options+"\nendpoint http://127.0.0.1:1")
		expectBeforeSync(t, k, queries)
		if k.Ready() {
			t.Errorf("%q: ready before sync", options)
		}
	}
}

// Where the API server tells what addresses Services have, reverse names of these do
// not fall through, private or not.
func TestBeforeSyncInServiceCIDR(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/servicecidrs") {
			http.Error(w, "not yet", http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, `{"items": [{"spec": {"cidrs": ["203.0.113.0/24", "2001:db8::/112"]}}]}`)
	}))
	defer api.Close()
	k := start(t, "fallthrough\nendpoint "+api.URL)
	for deadline := time.Now().Add(10 * time.Second); len(k.store.ServiceCIDRs()) == 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the ServiceCIDRs are not known")
		}
	}
	expectBeforeSync(t, k, `
		1.113.0.203.in-addr.arpa. PTR = SERVFAIL
		113.0.203.in-addr.arpa. PTR = SERVFAIL
		0.203.in-addr.arpa. PTR = NEXT
		1.114.0.203.in-addr.arpa. PTR = NEXT
		1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR = SERVFAIL
		8.b.d.0.1.0.0.2.ip6.arpa. PTR = NEXT
		10.0.96.10.in-addr.arpa. PTR = SERVFAIL`)
}

// expectBeforeSync asks the queries and compares the kind of answer, which is ok
// if there are records.
func expectBeforeSync(t *testing.T, k *Kubezone, queries string) {
	t.Helper()
	for line := range strings.Lines(strings.TrimSpace(queries)) {
		query, want, _ := strings.Cut(strings.TrimSpace(line), " = ")
		name, qtype, _ := strings.Cut(query, " ")
		m := exchange(t, k, new(dns.Msg).SetQuestion(name, typeOf(t, qtype)))
		got := dns.RcodeToString[m.Rcode]
		switch {
		case m.Rcode == rcodeOfNext:
			got = "NEXT"
		case m.Rcode == dns.RcodeSuccess && len(m.Answer) == 0:
			got = "NODATA"
		case m.Rcode == dns.RcodeSuccess:
			got = "ok"
		case m.Rcode == dns.RcodeServerFailure && (m.Authoritative || len(m.Ns) > 0):
			got = "SERVFAIL with AA or SOA"
		}
		if got != want {
			t.Errorf("%s = %s; want %s", query, got, want)
		}
	}
}

func TestBeforeSyncExplains(t *testing.T) {
	k := start(t, "endpoint http://127.0.0.1:1")
	r := new(dns.Msg).SetQuestion("web.prod.svc.cluster.local.", dns.TypeA)
	r.SetEdns0(1232, false)
	m := exchange(t, k, r)
	opt := m.IsEdns0()
	if opt == nil || len(opt.Option) != 1 || opt.Option[0].(*dns.EDNS0_EDE).InfoCode != dns.ExtendedErrorCodeNotReady {
		t.Errorf("OPT %v; want EDE 14 (not ready)", opt)
	}
	if _, err := k.Transfer("cluster.local.", 0); err == nil {
		t.Error("a transfer before sync; want an error")
	}
}
