package kubezone

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"

	"github.com/miekg/dns"
)

// multicluster is what testdata/clusterset.yaml comes to, as in behaviour.
var multicluster = []behaviourGroup{
	{"import with a ClusterSet IP", "", `
		web.prod.svc.clusterset.local. A = 10.112.0.10
		web.prod.svc.clusterset.local. AAAA = NODATA
		web.prod.svc.clusterset.local. others = NODATA
		web.prod.svc.clusterset.local. ANY = "RFC8482" ""
		WEB.Prod.svc.clusterSET.local. A = 10.112.0.10
		dual.prod.svc.clusterset.local. A = 10.112.0.11
		dual.prod.svc.clusterset.local. AAAA = fd00:112::11
		dual.prod.svc.clusterset.local. others = NODATA
		dual.prod.svc.clusterset.local. ANY = "RFC8482" ""
		dual.prod.svc.clusterset.local. SRV = 0 100 9000 dual.prod.svc.clusterset.local. + 10.112.0.11, fd00:112::11
		web.other.svc.clusterset.local. A = 10.112.1.10
		local.prod.svc.clusterset.local. A = NXDOMAIN
		missing.prod.svc.clusterset.local. A,AAAA,SRV,others,ANY = NXDOMAIN
		pending.prod.svc.clusterset.local. A = NXDOMAIN
		pending.prod.svc.clusterset.local. SRV = NXDOMAIN
		web.missing.svc.clusterset.local. A = NXDOMAIN
	`},
	{"SRV of an import with a ClusterSet IP", "", `
		_http._tcp.web.prod.svc.clusterset.local. SRV = 0 100 80 web.prod.svc.clusterset.local. + 10.112.0.10
		_dns._udp.web.prod.svc.clusterset.local. SRV = 0 100 53 web.prod.svc.clusterset.local. + 10.112.0.10
		_grpc._tcp.dual.prod.svc.clusterset.local. SRV = 0 100 9000 dual.prod.svc.clusterset.local. + 10.112.0.11, fd00:112::11
		_HTTP._tcp.Web.prod.svc.clusterset.local. SRV = 0 100 80 Web.prod.svc.clusterset.local. + 10.112.0.10
		web.prod.svc.clusterset.local. SRV = 0 50 80 web.prod.svc.clusterset.local., 0 50 53 web.prod.svc.clusterset.local. + 10.112.0.10
		unnamed.prod.svc.clusterset.local. SRV = 0 100 8080 unnamed.prod.svc.clusterset.local. + 10.112.0.12
		_http._udp.web.prod.svc.clusterset.local. SRV = NXDOMAIN
		_none._tcp.web.prod.svc.clusterset.local. SRV = NXDOMAIN
		_http._tcp.web.prod.svc.clusterset.local. A,AAAA,others = NODATA
		_http._tcp.web.prod.svc.clusterset.local. ANY = "RFC8482" ""
		_tcp.web.prod.svc.clusterset.local. A = NODATA
		_sctp.web.prod.svc.clusterset.local. A = NXDOMAIN
		_tcp.unnamed.prod.svc.clusterset.local. A = NXDOMAIN
		_x._http._tcp.web.prod.svc.clusterset.local. SRV = NXDOMAIN
		http.tcp.web.prod.svc.clusterset.local. SRV = NXDOMAIN
	`},
	{"no endpoints of an import with a ClusterSet IP", "", `
		web-0.east.web.prod.svc.clusterset.local. A = NXDOMAIN
		10-1-0-11.east.web.prod.svc.clusterset.local. A = NXDOMAIN
		web-0.web.prod.svc.clusterset.local. A = NXDOMAIN
		10-1-0-11.web.prod.svc.clusterset.local. A = NXDOMAIN
		east.web.prod.svc.clusterset.local. A = NXDOMAIN
		eu.web.prod.svc.clusterset.local. TXT = NXDOMAIN
	`},
	{"headless import", "", `
		db.prod.svc.clusterset.local. A = 10.1.1.10, 10.1.1.11, 10.2.1.10
		db.prod.svc.clusterset.local. AAAA = NODATA
		db.prod.svc.clusterset.local. others = NODATA
		db.prod.svc.clusterset.local. ANY = "RFC8482" ""
		plain.prod.svc.clusterset.local. A = 10.1.2.10
		plain.prod.svc.clusterset.local. AAAA = fd00:1::10
		ghost.prod.svc.clusterset.local. A = NXDOMAIN
		10-1-4-10.east.ghost.prod.svc.clusterset.local. A = NXDOMAIN
	`},
	{"endpoints of a headless import", "", `
		db-0.east.db.prod.svc.clusterset.local. A = 10.1.1.10
		db-1.east.db.prod.svc.clusterset.local. A = 10.1.1.11
		db-0.west.eu.db.prod.svc.clusterset.local. A = 10.2.1.10
		DB-0.West.EU.db.prod.svc.clusterset.local. A = 10.2.1.10
		db-0.east.db.prod.svc.clusterset.local. AAAA,others = NODATA
		db-0.east.db.prod.svc.clusterset.local. SRV = 0 100 5432 db-0.east.db.prod.svc.clusterset.local. + 10.1.1.10
		db-0.west.eu.db.prod.svc.clusterset.local. SRV = 0 50 5432 db-0.west.eu.db.prod.svc.clusterset.local., 0 50 9187 db-0.west.eu.db.prod.svc.clusterset.local. + 10.2.1.10
		db-0.east.db.prod.svc.clusterset.local. ANY = "RFC8482" ""
		db-1.west.eu.db.prod.svc.clusterset.local. A = NXDOMAIN
		db-2.east.db.prod.svc.clusterset.local. A = NXDOMAIN
		db-0.north.db.prod.svc.clusterset.local. A = NXDOMAIN
		10-1-1-10.east.db.prod.svc.clusterset.local. A = NXDOMAIN
		10-1-2-10.east.plain.prod.svc.clusterset.local. A = 10.1.2.10
		fd00-1--10.east.plain.prod.svc.clusterset.local. AAAA = fd00:1::10
		plain-x.east.plain.prod.svc.clusterset.local. A = NXDOMAIN
		x.db-0.east.db.prod.svc.clusterset.local. A = NXDOMAIN
		x.db-0.west.eu.db.prod.svc.clusterset.local. A = NXDOMAIN
	`},
	{"names between endpoints and their import", "", `
		east.db.prod.svc.clusterset.local. A,AAAA,SRV,others,ANY = NODATA
		eu.db.prod.svc.clusterset.local. A = NODATA
		west.eu.db.prod.svc.clusterset.local. SRV = NODATA
		west.db.prod.svc.clusterset.local. A = NXDOMAIN
		u.db.prod.svc.clusterset.local. A = NXDOMAIN
		north.db.prod.svc.clusterset.local. A = NXDOMAIN
		west.eu.plain.prod.svc.clusterset.local. A = NXDOMAIN
		db-0.db.prod.svc.clusterset.local. A = NXDOMAIN
		db-0.db.prod.svc.clusterset.local. SRV = NXDOMAIN
		10-1-2-10.plain.prod.svc.clusterset.local. A = NXDOMAIN
	`},
	{"SRV of a headless import", "", `
		db.prod.svc.clusterset.local. SRV = 0 25 5432 db-0.east.db.prod.svc.clusterset.local., 0 25 5432 db-1.east.db.prod.svc.clusterset.local., 0 25 5432 db-0.west.eu.db.prod.svc.clusterset.local., 0 25 9187 db-0.west.eu.db.prod.svc.clusterset.local. + 10.1.1.10, 10.1.1.11, 10.2.1.10
		_pg._tcp.db.prod.svc.clusterset.local. SRV = 0 33 5432 db-0.east.db.prod.svc.clusterset.local., 0 33 5432 db-1.east.db.prod.svc.clusterset.local., 0 33 5432 db-0.west.eu.db.prod.svc.clusterset.local. + 10.1.1.10, 10.1.1.11, 10.2.1.10
		_stats._udp.db.prod.svc.clusterset.local. SRV = 0 100 9187 db-0.west.eu.db.prod.svc.clusterset.local. + 10.2.1.10
		_http._tcp.plain.prod.svc.clusterset.local. SRV = 0 50 8080 10-1-2-10.east.plain.prod.svc.clusterset.local., 0 50 8080 fd00-1--10.east.plain.prod.svc.clusterset.local. + 10.1.2.10, fd00:1::10
		_pg._tcp.db.prod.svc.clusterset.local. A = NODATA
		_pg._udp.db.prod.svc.clusterset.local. SRV = NXDOMAIN
		_udp.db.prod.svc.clusterset.local. A = NODATA
		_sctp.db.prod.svc.clusterset.local. A = NXDOMAIN
		_pg._tcp.east.db.prod.svc.clusterset.local. SRV = NXDOMAIN
	`},
	{"headless import without a ready endpoint", "", `
		noready.prod.svc.clusterset.local. A,AAAA,SRV,others,ANY = NXDOMAIN
		east.noready.prod.svc.clusterset.local. A = NXDOMAIN
		pod-0.east.noready.prod.svc.clusterset.local. A = NXDOMAIN
		_http._tcp.noready.prod.svc.clusterset.local. SRV = NXDOMAIN
	`},
	{"names in between", "", `
		clusterset.local. A = NODATA
		clusterset.local. DS = NODATA
		clusterset.local. NS = ns.dns.clusterset.local. + 10.96.0.53
		ClusterSet.Local. NS = ns.dns.ClusterSet.Local. + 10.96.0.53
		clusterset.local. ANY = "RFC8482" ""
		svc.clusterset.local. A = NODATA
		dns.clusterset.local. A = NODATA
		ns.dns.clusterset.local. A = 10.96.0.53
		prod.svc.clusterset.local. A = NODATA
		prod.svc.clusterset.local. TXT = NODATA
		empty.svc.clusterset.local. A = NODATA
		other.svc.clusterset.local. A = NODATA
		missing.svc.clusterset.local. A = NXDOMAIN
		dns-version.clusterset.local. TXT = "1.0.0"
		DNS-version.clusterset.local. TXT = "1.0.0"
		dns-version.clusterset.local. A = NODATA
		x.dns-version.clusterset.local. TXT = NXDOMAIN
		x.clusterset.local. A = NXDOMAIN
		google.com.clusterset.local. A = NXDOMAIN
		*.prod.svc.clusterset.local. A = NXDOMAIN
		db-0\.east.db.prod.svc.clusterset.local. A = NXDOMAIN
	`},
	{"no pods", "pods insecure", `
		pod.clusterset.local. A = NXDOMAIN
		prod.pod.clusterset.local. A = NXDOMAIN
		10-1-1-10.prod.pod.clusterset.local. A = NXDOMAIN
		10-1-1-10.prod.pod.cluster.local. A = 10.1.1.10
	`},
	{"reverse zones", "", `
		10.0.112.10.in-addr.arpa. PTR = NXDOMAIN
		10.1.1.10.in-addr.arpa. PTR = NXDOMAIN
		10.0.1.10.in-addr.arpa. PTR = NXDOMAIN
		112.10.in-addr.arpa. A = NXDOMAIN
		10.0.96.10.in-addr.arpa. PTR = web.prod.svc.cluster.local.
		10.0.244.10.in-addr.arpa. PTR = 10-244-0-10.web.prod.svc.cluster.local.
	`},
	{"the cluster's own zone", "", `
		web.prod.svc.cluster.local. A = 10.96.0.10
		_http._tcp.web.prod.svc.cluster.local. SRV = 0 100 80 web.prod.svc.cluster.local. + 10.96.0.10
		_dns._udp.web.prod.svc.cluster.local. SRV = NXDOMAIN
		10-244-0-10.web.prod.svc.cluster.local. A = 10.244.0.10
		10-1-0-11.web.prod.svc.cluster.local. A = NXDOMAIN
		web-0.east.web.prod.svc.cluster.local. A = NXDOMAIN
		local.prod.svc.cluster.local. A = 10.96.0.11
		db.prod.svc.cluster.local. A = NXDOMAIN
		dual.prod.svc.cluster.local. A = NXDOMAIN
		db-0.east.db.prod.svc.cluster.local. A = NXDOMAIN
		dns-version.cluster.local. TXT = "1.1.0"
	`},
	{"pod names of endpoints", "endpoint_pod_names", `
		plain-x.east.plain.prod.svc.clusterset.local. A = 10.1.2.10
		10-1-2-10.east.plain.prod.svc.clusterset.local. A = NXDOMAIN
		db-0.east.db.prod.svc.clusterset.local. A = 10.1.1.10
	`},
	{"listed namespaces", "namespaces other empty", `
		web.other.svc.clusterset.local. A = 10.112.1.10
		empty.svc.clusterset.local. A = NODATA
		web.prod.svc.clusterset.local. A = NXDOMAIN
		prod.svc.clusterset.local. A = NXDOMAIN
		db-0.east.db.prod.svc.clusterset.local. A = NXDOMAIN
	`},
	{"denied namespaces", "deny_namespaces public_suffixes", `
		web.other.svc.clusterset.local. A = 10.112.1.10
		web.prod.svc.clusterset.local. A = NXDOMAIN
		prod.svc.clusterset.local. A = NXDOMAIN
		db-0.east.db.prod.svc.clusterset.local. A = NXDOMAIN
		web.prod.svc.cluster.local. A = NXDOMAIN
	`},
	{"selected namespaces", "namespace_labels kubernetes.io/metadata.name=prod", `
		web.prod.svc.clusterset.local. A = 10.112.0.10
		dual.prod.svc.clusterset.local. A = 10.112.0.11
		web.other.svc.clusterset.local. A = NXDOMAIN
		other.svc.clusterset.local. A = NXDOMAIN
	`},
	{"selected imports", "labels team=web", `
		web.prod.svc.clusterset.local. A = 10.112.0.10
		dual.prod.svc.clusterset.local. A = NXDOMAIN
		db.prod.svc.clusterset.local. A = NXDOMAIN
		db-0.east.db.prod.svc.clusterset.local. A = NXDOMAIN
		web.prod.svc.cluster.local. A = NXDOMAIN
	`},
	{"noendpoints", "noendpoints", `
		web.prod.svc.clusterset.local. A = 10.112.0.10
		db.prod.svc.clusterset.local. A = NXDOMAIN
		db-0.east.db.prod.svc.clusterset.local. A = NXDOMAIN
	`},
	{"empty services ignored", "ignore empty_service", `
		web.prod.svc.clusterset.local. A = 10.112.0.10
		dual.prod.svc.clusterset.local. A = NXDOMAIN
	`},
	{"no topology zones", "zonal", `
		east.pin._zone.db.prod.svc.clusterset.local. A = NXDOMAIN
		_zone.db.prod.svc.clusterset.local. A = NXDOMAIN
	`},
	{"fallthrough", "fallthrough clusterset.local", `
		web.prod.svc.clusterset.local. A = 10.112.0.10
		web.prod.svc.clusterset.local. AAAA = NODATA
		missing.prod.svc.clusterset.local. A = NEXT
		east.db.prod.svc.clusterset.local. A = NODATA
		missing.prod.svc.cluster.local. A = NXDOMAIN
	`},
}

const clusterset = "\nmulticluster clusterset.local\nmanifests testdata/clusterset.yaml"

func TestMulticluster(t *testing.T) {
	for _, group := range multicluster {
		t.Run(group.name, func(t *testing.T) { expect(t, start(t, group.options+clusterset), group.queries) })
	}
}

// Every kind of name is asked for every common type.
func TestMulticlusterIsComplete(t *testing.T) {
	expectExistence(t, start(t, clusterset), map[string]string{
		"web.prod.svc.clusterset.local.":                  "NOERROR", // ClusterSet IP, IPv4
		"dual.prod.svc.clusterset.local.":                 "NOERROR", // ClusterSet IP, dual stack
		"_http._tcp.web.prod.svc.clusterset.local.":       "NOERROR",
		"_tcp.web.prod.svc.clusterset.local.":             "NOERROR",
		"east.web.prod.svc.clusterset.local.":             "NXDOMAIN",
		"web-0.east.web.prod.svc.clusterset.local.":       "NXDOMAIN",
		"pending.prod.svc.clusterset.local.":              "NXDOMAIN",
		"db.prod.svc.clusterset.local.":                   "NOERROR", // headless
		"db-0.east.db.prod.svc.clusterset.local.":         "NOERROR",
		"db-0.west.eu.db.prod.svc.clusterset.local.":      "NOERROR",
		"10-1-2-10.east.plain.prod.svc.clusterset.local.": "NOERROR",
		"east.db.prod.svc.clusterset.local.":              "NOERROR",
		"eu.db.prod.svc.clusterset.local.":                "NOERROR",
		"west.eu.db.prod.svc.clusterset.local.":           "NOERROR",
		"db-0.db.prod.svc.clusterset.local.":              "NXDOMAIN",
		"_pg._tcp.db.prod.svc.clusterset.local.":          "NOERROR",
		"_tcp.db.prod.svc.clusterset.local.":              "NOERROR",
		"noready.prod.svc.clusterset.local.":              "NXDOMAIN",
		"pod-0.east.noready.prod.svc.clusterset.local.":   "NXDOMAIN",
		"missing.prod.svc.clusterset.local.":              "NXDOMAIN",
		"missing.svc.clusterset.local.":                   "NXDOMAIN",
		"prod.svc.clusterset.local.":                      "NOERROR",
		"svc.clusterset.local.":                           "NOERROR",
		"pod.clusterset.local.":                           "NXDOMAIN",
		"dns.clusterset.local.":                           "NOERROR",
		"ns.dns.clusterset.local.":                        "NOERROR",
		"dns-version.clusterset.local.":                   "NOERROR",
		"clusterset.local.":                               "NOERROR",
	})
}

func TestMulticlusterTransferEqualsQueries(t *testing.T) {
	k := start(t, "pods verified"+clusterset)
	seen := expectTransfer(t, k, "clusterset.local.")
	for _, want := range []string{"clusterset.local.NS", "dns-version.clusterset.local.TXT", "web.prod.svc.clusterset.local.A", "web.prod.svc.clusterset.local.SRV",
		"dual.prod.svc.clusterset.local.AAAA", "db.prod.svc.clusterset.local.A", "db-0.west.eu.db.prod.svc.clusterset.local.A", "_stats._udp.db.prod.svc.clusterset.local.SRV",
		"10-1-2-10.east.plain.prod.svc.clusterset.local.A", "fd00-1--10.east.plain.prod.svc.clusterset.local.AAAA"} {
		if !seen[want] {
			t.Errorf("%s is missing", want)
		}
		delete(seen, want)
	}
	for name := range seen {
		if strings.Contains(name, "east.web") || strings.Contains(name, "ghost") || strings.Contains(name, "noready") || strings.Contains(name, ".pod.") {
			t.Errorf("%s is in the zone", name)
		}
	}
	for name := range expectTransfer(t, k, "cluster.local.") {
		if strings.Contains(name, "east") || strings.Contains(name, "db.") {
			t.Errorf("%s is in the cluster's own zone", name)
		}
	}
	for name := range expectTransfer(t, k, "in-addr.arpa.") {
		if strings.Contains(name, ".112.10.") || strings.Contains(name, ".1.10.in-addr.arpa.") {
			t.Errorf("%s, of an import, is in a reverse zone", name)
		}
	}
}

// Where not all endpoints fit, A and AAAA show the same ones.
func TestMulticlusterWindowIsThatOfBothFamilies(t *testing.T) {
	const endpoints = 500
	var b strings.Builder
	b.WriteString("{apiVersion: multicluster.x-k8s.io/v1beta1, kind: ServiceImport, metadata: {name: db, namespace: prod}, spec: {type: Headless, ports: [{name: pg, port: 5432}]}}\n")
	for _, family := range []struct{ name, address string }{{"IPv4", "10.1.%d.%d"}, {"IPv6", "fd00::1:%x:%x"}} {
		for from := 0; from < endpoints; from += 100 {
			fmt.Fprintf(&b, "---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: db-%s-%d, namespace: prod, labels: {multicluster.kubernetes.io/service-name: db, multicluster.kubernetes.io/source-cluster: east}}, addressType: %[1]s, endpoints: [",
				family.name, from)
			for i := from; i < from+100; i++ {
				fmt.Fprintf(&b, "{addresses: ['"+family.address+"'], hostname: db-%d},", i>>8, i&255, i)
			}
			b.WriteString("]}\n")
		}
	}
	file := filepath.Join(t.TempDir(), "clusterset.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	k := start(t, "multicluster clusterset.local\nmanifests "+file)
	for _, size := range []uint16{512, 700, 1232} {
		seen := map[string]bool{}
		for range endpoints {
			var shown [2][]string
			for i, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
				r := new(dns.Msg).SetQuestion("db.prod.svc.clusterset.local.", qtype)
				r.SetEdns0(size, false)
				m, octets := sent(t, k, r, "udp")
				if !m.Truncated || octets > int(size) {
					t.Fatalf("size %d: %s of %d octets, TC %t", size, dns.TypeToString[qtype], octets, m.Truncated)
				}
				for _, rr := range m.Answer {
					shown[i] = append(shown[i], endpointOf(rr))
				}
			}
			if !slices.Equal(shown[0], shown[1]) {
				t.Fatalf("size %d: A shows %v, AAAA %v", size, shown[0], shown[1])
			}
			for _, endpoint := range shown[0] {
				seen[endpoint] = true
			}
			if len(seen) == endpoints {
				break
			}
		}
		if len(seen) != endpoints {
			t.Errorf("size %d: %d of %d endpoints came", size, len(seen), endpoints)
		}
	}
}

// endpointOf is what the addresses of an endpoint have in common.
func endpointOf(rr dns.RR) string {
	if a, ok := rr.(*dns.A); ok {
		return fmt.Sprintf("%x:%x", a.A.To4()[2], a.A.To4()[3])
	}
	return strings.TrimPrefix(rdataOf(rr), "fd00::1:")
}

func TestMulticlusterBeforeSync(t *testing.T) {
	k := start(t, "multicluster clusterset.local\nendpoint http://127.0.0.1:1")
	expectBeforeSync(t, k, `
		web.prod.svc.clusterset.local. A = SERVFAIL
		db-0.east.db.prod.svc.clusterset.local. A = SERVFAIL
		db-0.west.eu.db.prod.svc.clusterset.local. A = SERVFAIL
		_http._tcp.web.prod.svc.clusterset.local. SRV = SERVFAIL
		prod.svc.clusterset.local. A = SERVFAIL
		a.b.c.d.db.prod.svc.clusterset.local. A = NXDOMAIN
		prod.pod.clusterset.local. A = NXDOMAIN
		google.com.clusterset.local. A = NXDOMAIN
		clusterset.local. SOA = ok
		clusterset.local. NS = ok
		svc.clusterset.local. A = NODATA
		dns-version.clusterset.local. TXT = ok`)
	if _, err := k.Transfer("clusterset.local.", 0); err == nil {
		t.Error("a transfer before sync; want an error")
	}
}

func TestMulticlusterMetadata(t *testing.T) {
	k := start(t, clusterset)
	for name, want := range map[string]string{
		"db-0.east.db.prod.svc.clusterset.local.":    "cluster=east endpoint=db-0 kind=svc namespace=prod service=db",
		"db-0.west.eu.db.prod.svc.clusterset.local.": "cluster=west.eu endpoint=db-0 kind=svc namespace=prod service=db",
		"_pg._tcp.db.prod.svc.clusterset.local.":     "kind=svc namespace=prod port-name=pg protocol=tcp service=db",
		"web.prod.svc.cluster.local.":                "kind=svc namespace=prod service=web",
	} {
		ctx := metadata.ContextWithMetadata(context.Background())
		k.Metadata(ctx, request.Request{W: &test.ResponseWriter{}, Req: new(dns.Msg).SetQuestion(name, dns.TypeA)})
		var got []string
		for _, label := range metadata.Labels(ctx) {
			if value := metadata.ValueFunc(ctx, label)(); value != "" {
				got = append(got, strings.TrimPrefix(label, "kubernetes/")+"="+value)
			}
		}
		slices.Sort(got)
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s: %s; want %s", name, text, want)
		}
	}
}
