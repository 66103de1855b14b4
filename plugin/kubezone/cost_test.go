package kubezone

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// headlessManifest is a headless service of n endpoints in slices of 100.
func headlessManifest(t testing.TB, n int) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("{apiVersion: v1, kind: Service, metadata: {name: db, namespace: prod}, spec: {clusterIP: None, ports: [{name: pg, port: 5432}]}}\n---\n")
	b.WriteString("{apiVersion: v1, kind: Service, metadata: {name: web, namespace: prod}, spec: {clusterIP: 10.96.0.10, ports: [{name: http, port: 80}]}}\n")
	for from := 0; from < n; from += 100 {
		fmt.Fprintf(&b, "---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: db-%d, namespace: prod, labels: {kubernetes.io/service-name: db}}, addressType: IPv4, ports: [{name: pg, protocol: TCP, port: 5432}], endpoints: [", from)
		for i := from; i < min(n, from+100); i++ {
			fmt.Fprintf(&b, "{addresses: [10.%d.%d.%d], hostname: db-%d, zone: zone-%c},", 100+i>>16, i>>8&255, i&255, i, 'a'+i%2)
		}
		b.WriteString("]}\n")
	}
	path := filepath.Join(t.TempDir(), "cluster.yaml")
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// quiet takes replies and drops them.
type quiet struct{ test.ResponseWriter }

var client = &net.UDPAddr{IP: net.IPv4(10, 240, 0, 1), Port: 40212}

func (*quiet) RemoteAddr() net.Addr { return client }

func (*quiet) WriteMsg(*dns.Msg) error { return nil }

// What a query may allocate, whatever the size of the service. The reply is
// among it: the message with its question, and its records, of which 28 A or 7
// SRV have room in 512 octets.
func TestCostOfAQuery(t *testing.T) {
	budget := map[string]float64{
		"web.prod.svc.cluster.local. A":                    2, // message; record, address and slice of records in one
		"WEB.prod.svc.cluster.local. A":                    3, // and the name in lower case
		"web.prod.svc.cluster.local. AAAA":                 2, // message; SOA with its slice
		"missing.prod.svc.cluster.local. A":                2,
		"db.prod.svc.cluster.local. AAAA":                  2,
		"db-7.db.prod.svc.cluster.local. A":                3, // and the address
		"none.db.prod.svc.cluster.local. A":                2,
		"db.prod.svc.cluster.local. A":                     4, // message; records, addresses, slice of records
		"_pg._tcp.db.prod.svc.cluster.local. TXT":          2,
		"db.prod.svc.cluster.local. TXT":                   2,
		"db.prod.svc.cluster.local. SRV":                   35, // message; for each record itself, its target and its label; the lists; one more for the race detector
		"_pg._tcp.db.prod.svc.cluster.local. SRV":          35,
		"db-7.db.prod.svc.cluster.local. SRV":              11,
		"7.0.100.10.in-addr.arpa. PTR":                     6, // message; names of the address, record, target
		"7.0.100.10.in-addr.arpa. TXT":                     5, // as a name that does not exist, and the names of the address
		"0.100.10.in-addr.arpa. PTR":                       4,
		"7.0.99.10.in-addr.arpa. PTR":                      4,
		"zone-a.pin._zone.db.prod.svc.cluster.local. A":    4,
		"zone-a.pin._zone.db.prod.svc.cluster.local. AAAA": 2,
		"zone-x.pin._zone.db.prod.svc.cluster.local. A":    2,
		"_zone.db.prod.svc.cluster.local. A":               2,
		"7-0-100-10.prod.pod.cluster.local. A":             2,
	}
	for _, endpoints := range []int{20, 20000} {
		k := start(t, "zonal\npods verified\nmanifests "+headlessManifest(t, endpoints))
		for query, want := range budget {
			name, qtype, _ := strings.Cut(query, " ")
			r := new(dns.Msg).SetQuestion(name, typeOf(t, qtype))
			w := new(quiet)
			got := testing.AllocsPerRun(200, func() {
				if _, err := k.ServeDNS(context.Background(), w, r); err != nil {
					t.Fatal(err)
				}
			})
			if got > want {
				t.Errorf("%s with %d endpoints: %v allocations; want at most %v", query, endpoints, got, want)
			}
		}
	}
}

func BenchmarkServeDNS(b *testing.B) {
	for _, endpoints := range []int{20, 20000} {
		k := startWith(b, headlessManifest(b, endpoints))
		for _, query := range []string{"web.prod.svc.cluster.local. A", "db.prod.svc.cluster.local. A", "db.prod.svc.cluster.local. AAAA", "db-7.db.prod.svc.cluster.local. A", "db.prod.svc.cluster.local. SRV", "7.0.100.10.in-addr.arpa. PTR"} {
			b.Run(fmt.Sprintf("%d/%s", endpoints, query), func(b *testing.B) {
				name, qtype, _ := strings.Cut(query, " ")
				r := new(dns.Msg).SetQuestion(name, dns.StringToType[qtype])
				w := new(quiet)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := k.ServeDNS(context.Background(), w, r); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
