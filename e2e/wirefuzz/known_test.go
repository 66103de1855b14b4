package wirefuzz

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/kubezone/kubezone/e2e/harness"

	"github.com/miekg/dns"
)

// A known question is one with an answer that the demo's manifests give, in the text that harness.Text writes.
type known struct {
	name   string
	qtype  uint16
	answer string
}

const port = "_peer._tcp.etcd-headless.default.svc.cluster.local."

var knowns = []known{
	{"kubernetes.default.svc.cluster.local.", dns.TypeA, "A 10.96.0.1"},
	{"kubernetes.default.svc.cluster.local.", dns.TypeAAAA, "NODATA"},
	{"kube-dns.kube-system.svc.cluster.local.", dns.TypeA, "A 10.96.0.10"},
	{"_dns._udp.kube-dns.kube-system.svc.cluster.local.", dns.TypeSRV, "SRV 53 kube-dns.kube-system.svc.cluster.local."},
	{"_dns._udp.kube-dns.kube-system.svc.cluster.local.", dns.TypeA, "NODATA"},
	{"_udp.kube-dns.kube-system.svc.cluster.local.", dns.TypeSRV, "NODATA"},
	{"_sctp.kube-dns.kube-system.svc.cluster.local.", dns.TypeSRV, "NXDOMAIN"},
	{"dual-stack.default.svc.cluster.local.", dns.TypeA, "A 10.96.200.7"},
	{"dual-stack.default.svc.cluster.local.", dns.TypeAAAA, "AAAA fd00:10:96::c807"},
	{"nginx.default.svc.cluster.local.", dns.TypeA, "A 10.244.1.11, A 10.244.2.11"},
	{"nginx.default.svc.cluster.local.", dns.TypeTXT, "NODATA"},
	{"nginx.nginx.shared.svc.cluster.local.", dns.TypeA, "A 10.244.1.41, A 10.244.2.41"},
	{"busybox-1.default-subdomain.default.svc.cluster.local.", dns.TypeA, "A 10.244.1.21"},
	{"busybox1.default-subdomain.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN"},
	{port, dns.TypeSRV, "SRV 2380 etcd-0.etcd-headless.default.svc.cluster.local., " +
		"SRV 2380 etcd-1.etcd-headless.default.svc.cluster.local., SRV 2380 etcd-2.etcd-headless.default.svc.cluster.local."},
	{port, dns.TypeMX, "NODATA"},
	{"here.pin._zone.etcd-headless.default.svc.cluster.local.", dns.TypeA, "NODATA"},
	{"here.prefer._zone.etcd-headless.default.svc.cluster.local.", dns.TypeA, "A 10.244.1.31, A 10.244.1.32, A 10.244.2.31"},
	{"database.default.svc.cluster.local.", dns.TypeCNAME, "CNAME db.example.net."},
	{"10-244-1-11.default.pod.cluster.local.", dns.TypeA, "A 10.244.1.11"},
	{"10-244-1-12.default.pod.cluster.local.", dns.TypeA, "NXDOMAIN"},
	{"default.svc.cluster.local.", dns.TypeA, "NODATA"},
	{"missing.default.svc.cluster.local.", dns.TypeHTTPS, "NXDOMAIN"},
	{"www.example.com.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN"},
	{"www.example.com.cluster.local.", dns.TypeAAAA, "NXDOMAIN"},
	{"dns-version.cluster.local.", dns.TypeTXT, `TXT "1.1.0"`},
	{"cluster.local.", dns.TypeA, "NODATA"},
	{"1.0.96.10.in-addr.arpa.", dns.TypePTR, "PTR kubernetes.default.svc.cluster.local."},
	{"21.2.244.10.in-addr.arpa.", dns.TypePTR, "PTR busybox-2.default-subdomain.default.svc.cluster.local."},
	{"96.10.in-addr.arpa.", dns.TypePTR, "NODATA"},
	{"9.9.9.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN"},
	{"7.0.8.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR, "PTR dual-stack.default.svc.cluster.local."},
}

// question is what is asked, in a random spelling.
func (k known) question(r *rand.Rand) []byte {
	return question(spelled(r, nameOf(k.name)), k.qtype, dns.ClassINET)
}

// anyKnown picks one.
func anyKnown(r *rand.Rand) known { return knowns[r.IntN(len(knowns))] }

// anyQuestion is one of those that have an answer.
func anyQuestion(r *rand.Rand) []byte { return anyKnown(r).question(r) }

// valid is a query that every resolver could send.
func valid(r *rand.Rand) packet {
	k := anyKnown(r)
	flags := oneOf[uint16](r, flagRD, 0, flagRD|flagAD, flagRD|flagCD)
	p := packet{class: validClass, known: k}
	if r.IntN(2) == 0 {
		p.wire = message(flags, counts{1}, k.question(r))
	} else {
		size := oneOf[uint16](r, 512, 1220, 1232, 1452, 4096, 65535, uint16(r.Uint32()))
		p.wire = message(flags, counts{1, 0, 0, 1}, k.question(r), opt(size, 0, oneOf[uint16](r, 0, 1<<15), someOptions(r)...))
	}
	return p
}

// someOptions are EDNS options as they should be: cookie (RFC 7873), NSID (RFC 5001), padding (RFC 7830), and one that
// is for local use.
func someOptions(r *rand.Rand) [][]byte {
	all := [][]byte{
		option(dns.EDNS0COOKIE, octets(r, 8)),
		option(dns.EDNS0NSID, nil),
		option(dns.EDNS0PADDING, make([]byte, r.IntN(64))),
		option(dns.EDNS0LOCALSTART+1, octets(r, r.IntN(16))),
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:r.IntN(len(all)+1)]
}

// check compares a reply with the one answer.
func (k known) check(query, wire []byte, reply *dns.Msg) error {
	if got := fold(harness.Text(reply)); got != fold(k.answer) {
		return fmt.Errorf("%s %s: got %s; want %s", k.name, dns.TypeToString[k.qtype], got, k.answer)
	}
	asked := query[headerSize : headerSize+len(nameOf(k.name))+4]
	if !bytes.HasPrefix(wire[headerSize:], asked) {
		return fmt.Errorf("%s: the question comes back as %q; want %q", k.name, wire[headerSize:], asked)
	}
	for _, rr := range reply.Answer {
		owner, cached := rr.Header().Name, strings.HasSuffix(k.name, ".arpa.")
		if owner != reply.Question[0].Name && !(cached && strings.EqualFold(owner, k.name)) { // a cache keeps the first spelling
			return fmt.Errorf("owner %s; want the query's spelling, %s", owner, reply.Question[0].Name)
		}
	}
	if reply.Truncated {
		return fmt.Errorf("%s: TC is set, and nothing was cut", k.name)
	}
	if reply.RecursionDesired != (query[2]&1 != 0) {
		return fmt.Errorf("%s: RD differs from the query's", k.name)
	}
	return nil
}

// fold makes texts equal that differ in the case of letters, and in the order that it makes.
func fold(text string) string {
	records := strings.Split(strings.ToLower(text), ", ")
	slices.Sort(records)
	return strings.Join(records, ", ")
}
