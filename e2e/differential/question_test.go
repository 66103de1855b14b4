package differential

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/miekg/dns"
)

// A question is a query and how it is sent.
type question struct {
	message *dns.Msg
	network string
}

func (q question) name() string  { return q.message.Question[0].Name }
func (q question) qtype() uint16 { return q.message.Question[0].Qtype }

// String is what it takes to ask again by hand.
func (q question) String() string {
	m := q.message
	text := fmt.Sprintf("%s %s %s over %s", q.name(), dns.Class(m.Question[0].Qclass), dns.Type(q.qtype()), q.network)
	for flag, set := range map[string]bool{" RD": m.RecursionDesired, " CD": m.CheckingDisabled, " AD": m.AuthenticatedData} {
		if set {
			text += flag
		}
	}
	if m.Opcode != dns.OpcodeQuery {
		text += " " + dns.OpcodeToString[m.Opcode]
	}
	for _, rr := range m.Extra {
		text += " [" + strings.ReplaceAll(strings.TrimSpace(rr.String()), "\n", " ") + "]"
	}
	return text
}

// A curious asks questions at random: about what there is, about what there nearly is, and nonsense.
type curious struct {
	random *rand.Rand
	view   view
	owners []netip.Addr // addresses that something has
	shared []netip.Addr // those of them that are a service's own and an endpoint's
	served []key        // services with a ready endpoint that the block shows

	theirs *curious // about importZone; nil where the block has none
}

func newCurious(random *rand.Rand, v view) *curious {
	c := &curious{random: random, view: v}
	if v.theirs != nil && slices.Contains(v.block.zones, importZone) {
		c.theirs = newCurious(random, view{v.theirs, v.block})
	}
	for _, at := range slices.SortedFunc(maps.Keys(v.services), key.compare) {
		for _, text := range v.services[at].Spec.ClusterIPs {
			if a, err := netip.ParseAddr(text); err == nil {
				c.owners = append(c.owners, a)
			}
		}
	}
	for _, at := range slices.SortedFunc(maps.Keys(v.services), key.compare) {
		if v.service(at.namespace, at.name) != nil && len(v.endpoints(at.namespace, at.name)) > 0 {
			c.served = append(c.served, at)
		}
	}
	own := len(c.owners)
	for _, at := range slices.SortedFunc(maps.Keys(v.slices), key.compare) {
		if v.theirs != nil && v.slices[at].Labels[labelImport] != "" {
			continue // of importZone
		}
		for _, e := range v.slices[at].Endpoints {
			a, err := netip.ParseAddr(e.Addresses[0])
			if err != nil {
				continue
			}
			if slices.Contains(c.owners[:own], a) {
				c.shared = append(c.shared, a)
			}
			c.owners = append(c.owners, a)
		}
	}
	return c
}

func (k key) compare(other key) int {
	return strings.Compare(k.namespace+"/"+k.name, other.namespace+"/"+other.name)
}

// ask makes one question.
func (c *curious) ask() question {
	for {
		name := dns.Fqdn(c.name())
		m := new(dns.Msg).SetQuestion(name, c.qtype(name))
		if _, ok := dns.IsDomainName(name); !ok {
			continue // too long, or an empty label
		}
		c.decorate(m)
		octets, err := m.Pack()
		if err != nil {
			continue
		}
		if err := m.Unpack(octets); err != nil { // puts the name in the spelling of all replies
			continue
		}
		q := question{message: m, network: "udp"}
		if in(c.random, 6) {
			q.network = "tcp"
		}
		return q
	}
}

func (c *curious) qtype(name string) uint16 {
	common := []uint16{dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeSRV}
	if strings.HasSuffix(strings.ToLower(name), ".arpa.") {
		common = []uint16{dns.TypePTR}
	}
	if slices.Contains(c.view.block.zones, strings.ToLower(name)) {
		common = []uint16{dns.TypeSOA, dns.TypeNS}
	}
	if strings.HasPrefix(name, "dns-version.") {
		common = []uint16{dns.TypeTXT}
	}
	if !in(c.random, 3) {
		return pick(c.random, common)
	}
	return pick(c.random, []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeTXT, dns.TypeMX, dns.TypeNS, dns.TypeSOA,
		dns.TypeCNAME, dns.TypeDS, dns.TypeHTTPS, dns.TypeCAA, dns.TypeNAPTR, dns.TypeHINFO, dns.TypeANY, dns.TypeDNSKEY, 65280, dns.TypeAXFR, dns.TypeIXFR})
}

// decorate sets flags and EDNS.
func (c *curious) decorate(m *dns.Msg) {
	r := c.random
	m.RecursionDesired = !in(r, 6)
	m.CheckingDisabled, m.AuthenticatedData = in(r, 10), in(r, 10)
	if in(r, 200) {
		m.Opcode = pick(r, []int{dns.OpcodeNotify, dns.OpcodeStatus, dns.OpcodeUpdate})
	}
	if in(r, 200) {
		m.Question[0].Qclass = pick(r, []uint16{dns.ClassCHAOS, dns.ClassANY, dns.ClassHESIOD})
	}
	if in(r, 2) {
		return
	}
	m.SetEdns0(pick(r, []uint16{0, 512, 1232, 1232, 1400, 4096, 65535}), in(r, 4))
	opt := m.IsEdns0()
	if in(r, 20) {
		opt.SetZ(uint16(r.IntN(1 << 15)))
	}
	if in(r, 100) {
		opt.SetVersion(1)
	}
	switch r.IntN(12) {
	case 0:
		opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"})
	case 1:
		opt.Option = append(opt.Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
	case 2:
		opt.Option = append(opt.Option, &dns.EDNS0_PADDING{Padding: make([]byte, 9)})
	case 3:
		opt.Option = append(opt.Option, &dns.EDNS0_LOCAL{Code: 65001, Data: []byte{1, 2}})
	}
	if in(r, 100) {
		m.Extra = append(m.Extra, dns.Copy(opt))
	}
}

// name makes a name, most of the time one that exists or differs in one place from one that does.
func (c *curious) name() string {
	r := c.random
	var name string
	switch n := r.IntN(20); {
	case n < 10:
		zone := c.zone()
		name = c.about(zone).serviceName() + ".svc." + zone
	case n < 13:
		name = c.podName() + ".pod." + c.zone()
	case n < 17:
		name = c.reverseName()
	case n < 19:
		name = pick(r, []string{"", "svc.", "pod.", "dns.", "ns.dns.", "dns-version.", "x.", "x.dns.", "ns.dns." + c.zone(), "www.example.org.", "x.ns.dns.",
			"apex.dns.", c.namespaceName() + ".svc.", c.namespaceName() + ".pod.", c.namespaceName() + "."}) + c.zone()
	case in(r, 2):
		return pick(r, c.view.block.zones)
	default:
		return pick(r, []string{"www.example.org.", "lost.example.org.", "x.fail.test.", "www.example.invalid.", ".", "local.", "arpa."})
	}
	if in(r, 10) {
		name = c.nearly(name)
	}
	if in(r, 6) {
		name = c.mixedCase(name)
	}
	return name
}

// about asks about what a zone shows.
func (c *curious) about(zone string) *curious {
	if zone == importZone {
		return c.theirs
	}
	return c
}

func (c *curious) zone() string {
	for {
		if zone := pick(c.random, c.view.block.zones); !strings.HasSuffix(zone, ".arpa.") {
			return zone
		}
	}
}

func (c *curious) namespaceName() string {
	return pick(c.random, append([]string{"default", "kube-system", "nowhere", markNamespace}, namespaceNames...))
}

// serviceName is a service and what may stand to the left of it, without the zone.
func (c *curious) serviceName() string {
	r := c.random
	at := key{c.namespaceName(), pick(r, serviceNames)}
	switch n := r.IntN(16); {
	case n < 7 && len(c.served) > 0:
		at = pick(r, c.served)
	case n < 14 && len(c.view.services) > 0:
		at = pick(r, slices.SortedFunc(maps.Keys(c.view.services), key.compare))
	}
	if isTheirs := c.view.theirs == nil; isTheirs && len(c.view.imports) > 0 && in(r, 8) { // those without an address too
		at = pick(r, slices.SortedFunc(maps.Keys(c.view.imports), key.compare))
	}
	base := at.name + "." + at.namespace
	if in(r, 2) {
		return base
	}
	names, protocolNames := []string{pick(r, portNames)}, []string{"tcp", pick(r, []string{"tcp", "udp", "sctp", ""})}
	ports := []string{"_" + pick(r, portNames) + "._" + pick(r, protocolNames)}
	labelNames := []string{pick(r, hostnames), pick(r, podNames)}
	if s := c.view.services[at]; s != nil {
		for _, p := range s.Spec.Ports {
			names = append(names, p.Name, p.Name)
			protocolNames = append(protocolNames, strings.ToLower(string(p.Protocol)))
			ports = append(ports, "_"+p.Name+"._"+strings.ToLower(string(p.Protocol)))
		}
	}
	for _, e := range c.view.endpoints(at.namespace, at.name) {
		labelNames = append(labelNames, e.label, dashed(e.address))
		if above := strings.SplitN(e.label, ".", 3); len(above) > 1 { // a cluster, or a part of its ID
			labelNames = append(labelNames, strings.Join(above[1:], "."), above[len(above)-1])
		}
		for _, p := range e.slice.Ports {
			ports = append(ports, "_"+*p.Name+"._"+strings.ToLower(string(*p.Protocol)))
		}
	}
	slices.Sort(labelNames) // the slices come in no order
	slices.Sort(ports)
	switch n := r.IntN(20); {
	case n < 6:
		return pick(r, ports) + "." + base
	case n == 6:
		return "_" + pick(r, names) + "._" + pick(r, protocolNames) + "." + base
	case n < 9:
		return "_" + pick(r, protocolNames) + "." + base
	case n < 15:
		return pick(r, labelNames) + "." + base
	case n < 17:
		zone := pick(r, topologyZones)
		return strings.TrimPrefix(zone+"."+pick(r, []string{"pin.", "prefer.", "other.", ""})+"_zone."+base, ".")
	case n < 18:
		return pick(r, []string{"pin._zone.", "prefer._zone.", "_zone."}) + base
	case n == 18:
		return pick(r, names) + "." + pick(r, protocolNames) + "." + base
	default:
		return pick(r, labelNames) + "." + pick(r, labelNames) + "." + base
	}
}

func (c *curious) podName() string {
	r := c.random
	a := pick(r, c.owners)
	namespace := c.namespaceName()
	if pods := slices.SortedFunc(maps.Keys(c.view.pods), key.compare); len(pods) > 0 && in(r, 2) {
		at := pick(r, pods)
		namespace = at.namespace
		if ips := c.view.pods[at].Status.PodIPs; len(ips) > 0 {
			a = netip.MustParseAddr(pick(r, ips).IP)
		}
	}
	text := dashed(a)
	switch r.IntN(12) {
	case 0:
		text = strings.ReplaceAll(a.StringExpanded(), ":", "-")
	case 1:
		text = strings.ReplaceAll(a.String(), ":", "-") // ends in a hyphen perhaps
	case 2:
		text = pick(r, []string{"1-2-3-4", "1-2-3", "1-2-3-256", "01-2-3-4", "1--2", "--1", "--", "--ffff-102-304", "0-0-0-0-0-ffff-102-304",
			"fe80--1", "-", "1-2-3-4-5", "--ffff-1-2-3-4", "web-0", "1-2-3-4-5-6-7-8", "g--1", "fd00-244--1%25eth0"})
	case 3:
		text = pick(r, []string{"x.", "_a._b.", "_a.", "1-2-3-4."}) + text
	}
	return text + "." + namespace
}

func (c *curious) reverseName() string {
	r := c.random
	a := pick(r, c.owners)
	if c.theirs != nil && len(c.theirs.owners) > 0 && in(r, 200) {
		a = pick(r, c.theirs.owners) // rarely, as stock is silent then
	}
	switch r.IntN(8) {
	case 0, 1:
		a = netip.MustParseAddr(pick(r, []string{endpointAddress(r, "IPv4"), endpointAddress(r, "IPv6"), "192.0.2.99", "198.51.100.10", "10.96.0.1", "::1", "0.0.0.0"}))
	case 2:
		a = netip.MustParseAddr(clusterIP(r, key{pick(r, namespaceNames), pick(r, serviceNames)}, pick(r, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol})))
	case 3:
		if len(c.shared) > 0 {
			a = pick(r, c.shared)
		}
	}
	name, err := dns.ReverseAddr(a.String())
	if err != nil {
		return "in-addr.arpa."
	}
	labels := dns.SplitDomainName(name)
	switch r.IntN(10) {
	case 9:
		if in(r, 8) {
			return pick(r, []string{"svc.", "pod.", "x.svc.", "dns."}) + labels[len(labels)-2] + ".arpa."
		}
	case 0: // a prefix
		labels = labels[r.IntN(len(labels)-1):]
	case 1:
		labels[0] = "0" + labels[0]
	case 2:
		labels = append([]string{pick(r, []string{"0", "1", "x", "256"})}, labels...)
	}
	return strings.Join(labels, ".") + "."
}

// nearly changes a name in one place.
func (c *curious) nearly(name string) string {
	r := c.random
	labels := dns.SplitDomainName(name)
	if len(labels) == 0 {
		return name
	}
	i := r.IntN(len(labels))
	switch r.IntN(10) {
	case 0:
		labels = slices.Delete(labels, i, i+1)
	case 1:
		labels = slices.Insert(labels, i, pick(r, []string{"x", "*", "_", "svc", labels[i], strings.Repeat("x", 63)}))
	case 2:
		labels[i] = pick(r, []string{"*", "_", "x", "any", `\000`, `a\/b`, "-", "_" + labels[i], strings.TrimPrefix(labels[i], "_") + "x"})
	case 3:
		if i+1 < len(labels) {
			labels[i] += `\.` + labels[i+1]
			labels = slices.Delete(labels, i+1, i+2)
		}
	case 4:
		labels[i] += pick(r, []string{"x", `\032`, `\000`, "/", "-", `\\`, `\255`, "0"})
	case 5:
		if bare := strings.TrimPrefix(labels[i], "_"); bare != "" {
			labels[i] = bare
		}
	case 6:
		j := r.IntN(len(labels))
		labels[i], labels[j] = labels[j], labels[i]
	case 7:
		labels[i] = labels[i][:max(0, len(labels[i])-1)] // an empty label makes no name, and is asked for nowhere
	case 8:
		for len(strings.Join(labels, ".")) < 190 {
			labels = slices.Insert(labels, 0, strings.Repeat("x", 50))
		}
	case 9:
		labels[0] = pick(r, []string{"İ", "ſvc", "K"}) + labels[0] // letters that have a case in Unicode only
	}
	return strings.Join(labels, ".") + "."
}

func (c *curious) mixedCase(name string) string {
	return strings.Map(func(letter rune) rune {
		if 'a' <= letter && letter <= 'z' && in(c.random, 2) {
			return letter - 'a' + 'A'
		}
		return letter
	}, name)
}
