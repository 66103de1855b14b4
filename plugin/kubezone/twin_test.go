package kubezone

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/yaml"
)

// A twin is the plugin done slowly and obviously: it reads the same manifests,
// writes every record of the zones down, and answers from that by the rules of
// any name server: a name exists if it has records, or is above one that does.
type twin struct {
	records map[string]map[uint16][]string // by name in lower case, and type
	pods    map[string]bool                // "address namespace"
	guards  guards
}

// guards are what a twin leaves out.
type guards struct {
	denied    []string // namespaces
	podRanges []string // what texts of addresses of pods begin with, if any
}

func newTwin(t testing.TB, file string, g guards) *twin {
	t.Helper()
	w := &twin{records: map[string]map[uint16][]string{}, pods: map[string]bool{}, guards: g}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var services []corev1.Service
	var slices []discoveryv1.EndpointSlice
	for doc := range strings.SplitSeq(string(content), "\n---\n") {
		var kind struct{ Kind string }
		decode := func(into any) {
			if err := yaml.Unmarshal([]byte(doc), into); err != nil {
				t.Fatal(err)
			}
		}
		decode(&kind)
		switch kind.Kind {
		case "Namespace":
			var n corev1.Namespace
			decode(&n)
			w.namespace(n.Name)
		case "Service":
			var s corev1.Service
			decode(&s)
			services = append(services, s)
		case "EndpointSlice":
			var s discoveryv1.EndpointSlice
			decode(&s)
			slices = append(slices, s)
		case "Pod":
			var p corev1.Pod
			decode(&p)
			w.pod(p)
		}
	}
	for _, name := range []string{"", "svc.", "pod.", "dns."} {
		w.exist(name + "cluster.local.")
	}
	w.exist("in-addr.arpa.")
	w.exist("ip6.arpa.")
	w.add("dns-version.cluster.local.", dns.TypeTXT, `"1.1.0"`)
	w.add("ns.dns.cluster.local.", dns.TypeA, "10.96.0.53")
	for _, s := range services {
		w.service(s, slices)
	}
	return w
}

func (w *twin) exist(name string) {
	if w.records[name] == nil {
		w.records[name] = map[uint16][]string{}
	}
}

func (w *twin) add(name string, qtype uint16, rdata string) {
	w.exist(name)
	if !slices.Contains(w.records[name][qtype], rdata) {
		w.records[name][qtype] = append(w.records[name][qtype], rdata)
	}
}

func (w *twin) namespace(name string) {
	if w.denies(name) {
		return
	}
	w.exist(name + ".svc.cluster.local.")
	w.exist(name + ".pod.cluster.local.")
}

func (w *twin) denies(namespace string) bool { return slices.Contains(w.guards.denied, namespace) }

func (w *twin) address(name, addr string) {
	if strings.Contains(addr, ":") {
		w.add(name, dns.TypeAAAA, addr)
	} else {
		w.add(name, dns.TypeA, addr)
	}
}

func (w *twin) ptr(addr, name string) {
	reverse, _ := dns.ReverseAddr(addr)
	w.add(reverse, dns.TypePTR, name)
}

func (w *twin) pod(p corev1.Pod) {
	w.namespace(p.Namespace)
	if p.Status.Phase != corev1.PodRunning || w.denies(p.Namespace) {
		return
	}
	for _, ip := range p.Status.PodIPs {
		inRange := func(start string) bool { return strings.HasPrefix(ip.IP, start) }
		if w.guards.podRanges != nil && !slices.ContainsFunc(w.guards.podRanges, inRange) {
			continue
		}
		w.pods[ip.IP+" "+p.Namespace] = true
	}
}

func (w *twin) service(s corev1.Service, all []discoveryv1.EndpointSlice) {
	if w.denies(s.Namespace) {
		return
	}
	w.namespace(s.Namespace)
	name := s.Name + "." + s.Namespace + ".svc.cluster.local."
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		target := strings.TrimSuffix(s.Spec.ExternalName, ".") + "."
		if _, err := netip.ParseAddr(strings.TrimSuffix(target, ".")); err != nil {
			w.add(name, dns.TypeCNAME, target)
		}
		return
	}
	headless := s.Spec.ClusterIP == "None"
	if !headless {
		ips := s.Spec.ClusterIPs
		if len(ips) == 0 {
			ips = []string{s.Spec.ClusterIP}
		}
		for _, ip := range ips {
			w.address(name, ip)
			w.ptr(ip, name)
		}
		for _, p := range s.Spec.Ports {
			w.srv(name, p.Name, string(p.Protocol), int(p.Port), name)
		}
	}
	for _, sl := range all {
		if sl.Namespace != s.Namespace || sl.Labels["kubernetes.io/service-name"] != s.Name || sl.AddressType == "FQDN" {
			continue
		}
		for _, e := range sl.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			for _, addr := range e.Addresses {
				w.endpoint(name, headless, e, addr, sl.Ports)
			}
		}
	}
}

func (w *twin) endpoint(service string, headless bool, e discoveryv1.Endpoint, addr string, ports []discoveryv1.EndpointPort) {
	label := strings.NewReplacer(".", "-", ":", "-").Replace(addr)
	if strings.HasSuffix(label, "-") {
		label += "0"
	}
	if e.Hostname != nil {
		label = *e.Hostname
	}
	name := label + "." + service
	w.address(name, addr)
	w.ptr(addr, name)
	if headless {
		w.address(service, addr)
	}
	for _, p := range ports {
		w.add(name, dns.TypeSRV, fmt.Sprintf("%d %s", *p.Port, name))
		if headless {
			w.srv(service, *p.Name, string(*p.Protocol), int(*p.Port), name)
		}
	}
}

func (w *twin) srv(service, port, protocol string, number int, target string) {
	rdata := fmt.Sprintf("%d %s", number, target)
	w.add(service, dns.TypeSRV, rdata)
	if port != "" {
		if protocol == "" {
			protocol = "TCP"
		}
		w.add(strings.ToLower("_"+port+"._"+protocol+".")+service, dns.TypeSRV, rdata)
	}
}

// ask is what a query comes to: an rcode, and rdata in order.
func (w *twin) ask(name string, qtype uint16) (rcode int, rdata []string) {
	name = strings.ToLower(name)
	if addr, ok := w.podAddress(name); ok {
		if (qtype == dns.TypeAAAA) == strings.Contains(addr, ":") && (qtype == dns.TypeA || qtype == dns.TypeAAAA) {
			return dns.RcodeSuccess, []string{addr}
		}
		return dns.RcodeSuccess, nil
	}
	sets, ok := w.records[name]
	if !ok {
		for other := range w.records {
			if strings.HasSuffix(other, "."+name) {
				return dns.RcodeSuccess, nil
			}
		}
		return dns.RcodeNameError, nil
	}
	rdata = sets[qtype]
	if alias := sets[dns.TypeCNAME]; alias != nil {
		rdata = alias
	}
	return dns.RcodeSuccess, slices.Sorted(slices.Values(rdata))
}

// podAddress is the address of the pod's name, if there is such a pod.
func (w *twin) podAddress(name string) (string, bool) {
	label, rest, _ := strings.Cut(name, ".")
	namespace, isPod := strings.CutSuffix(rest, ".pod.cluster.local.")
	for _, separator := range []string{".", ":"} {
		addr, err := netip.ParseAddr(strings.ReplaceAll(label, "-", separator))
		if isPod && err == nil && w.pods[addr.String()+" "+namespace] {
			return addr.String(), true
		}
	}
	return "", false
}

// compare asks both.
func (w *twin) compare(t *testing.T, k *Kubezone, name string, qtype uint16) {
	t.Helper()
	r := new(dns.Msg).SetQuestion(name, qtype)
	r.RecursionDesired = false
	recorder := dnstest.NewRecorder(&test.ResponseWriter{TCP: true})
	if _, err := k.ServeDNS(context.Background(), recorder, r); err != nil {
		t.Fatalf("%s %s: %v", name, dns.TypeToString[qtype], err)
	}
	m := recorder.Msg
	if m == nil {
		t.Fatalf("%s %s: no reply", name, dns.TypeToString[qtype])
	}
	if m.Rcode == rcodeOfNext { // outside our zones
		return
	}
	checkReply(t, name, r, m)
	var got []string
	for _, rr := range m.Answer {
		rdata := rdataOf(rr)
		if s, ok := rr.(*dns.SRV); ok {
			rdata = fmt.Sprintf("%d %s", s.Port, s.Target)
		}
		got = append(got, strings.ToLower(rdata))
	}
	slices.Sort(got)
	rcode, want := w.ask(name, qtype)
	if m.Rcode != rcode || !slices.Equal(got, want) {
		t.Errorf("%s %s: %s %q; want %s %q", name, dns.TypeToString[qtype], dns.RcodeToString[m.Rcode], got, dns.RcodeToString[rcode], want)
	}
}

// twinTypes are those that the twin knows all about. At an apex SOA and NS come
// from elsewhere, and ANY is answered as RFC 8482 has it.
var twinTypes = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeTXT, dns.TypeCNAME, dns.TypeMX, dns.TypeHTTPS}

func FuzzServeDNS(f *testing.F) {
	k, w := start(f, "pods verified"), newTwin(f, "testdata/cluster.yaml", guards{})
	for _, name := range slices.Sorted(maps.Keys(w.records)) {
		f.Add(name, byte(0))
	}
	f.Add("FD00-244-0-0-0-0-0-99.prod.pod.cluster.local.", byte(1))
	f.Add(`web\.prod.svc.cluster.local.`, byte(2))
	f.Fuzz(func(t *testing.T, name string, qtype byte) {
		if name, ok := asOnTheWire(name); ok {
			w.compare(t, k, name, twinTypes[int(qtype)%len(twinTypes)])
		}
	})
}

// asOnTheWire is the name as it comes out of a packet.
func asOnTheWire(name string) (string, bool) {
	packed := make([]byte, 300)
	n, err := dns.PackDomainName(dns.Fqdn(name), packed, 0, nil, false)
	if err != nil {
		return "", false
	}
	name, _, err = dns.UnpackDomainName(packed[:n], 0)
	return name, err == nil
}

// Names that exist, and names that nearly do, are answered as the twin does.
func TestAgainstTwin(t *testing.T) {
	for _, tc := range []struct {
		options string
		guards  guards
		mutants int
	}{
		{"", guards{}, 20000},
		{"deny_namespaces other\npod_ranges 10.244.0.0/16\nreverse_ranges private", guards{denied: []string{"other"}, podRanges: []string{"10.244."}}, 5000},
	} {
		k, w := start(t, "pods verified\n"+tc.options), newTwin(t, "testdata/cluster.yaml", tc.guards)
		names := slices.Sorted(maps.Keys(newTwin(t, "testdata/cluster.yaml", guards{}).records))
		for _, name := range names {
			for _, qtype := range twinTypes {
				w.compare(t, k, name, qtype)
			}
		}
		random := rand.New(rand.NewPCG(1, 2))
		for range tc.mutants {
			w.compare(t, k, mutate(random, names), twinTypes[random.IntN(len(twinTypes))])
		}
	}
}

// mutate changes a few labels of a name.
func mutate(random *rand.Rand, names []string) string {
	labels := dns.SplitDomainName(names[random.IntN(len(names))])
	other := dns.SplitDomainName(names[random.IntN(len(names))])
	for range 1 + random.IntN(2) {
		at := random.IntN(len(labels))
		switch random.IntN(5) {
		case 0:
			labels = slices.Insert(labels, at, other[random.IntN(len(other))])
		case 1:
			labels[at] = other[random.IntN(len(other))]
		case 2:
			labels[at] = strings.ToUpper(labels[at])
		case 3:
			if len(labels) > 1 {
				labels = slices.Delete(labels, at, at+1)
			}
		case 4:
			labels[at] = []string{"_", "_tcp", "_udp", "*", "pod", "svc", "0", "10", "a-b"}[random.IntN(9)]
		}
	}
	return strings.Join(labels, ".") + "."
}
