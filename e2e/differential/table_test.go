package differential

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/miekg/dns"
)

// A difference from stock that we mean. It turns the reply that the comparison wants so far, which is stock's at first,
// into what it should be in the one situation that its text describes.
type difference struct {
	id       string
	chapter  string
	text     string // for operators; the README has it
	anywhere bool   // applies outside our zones, or to queries that are not ordinary
	silent   bool   // applies where stock did not reply
	apply    func(c *comparison)
}

// truncation is the difference that shows over UDP only.
const truncation = "truncation"

// The chapters of the README's list.
const (
	chapterNames    = "Names that exist"
	chapterNoNames  = "Names that do not"
	chapterRecords  = "Records"
	chapterExternal = "ExternalName"
	chapterReverse  = "Reverse zones"
	chapterNegative = "Negative answers"
	chapterMessages = "Messages"
	chapterImports  = "Multicluster zones"
)

// differences is the table. The order matters: what a name means comes before what the message looks like.
var differences = []difference{
	{id: "soa-of-missing", chapter: chapterNoNames,
		text: "A query for SOA at a name that does not exist is NXDOMAIN, as for any other type. In stock it is an empty answer.",
		apply: func(c *comparison) {
			missing := !c.exists || c.meaning.form == reverseBranch && c.block.fallsThrough(asciiLower(c.question.name()))
			if c.question.qtype() == dns.TypeSOA && missing && c.stockNodata() {
				c.nothing()
			}
		}},
	{id: "ns-lookalike", chapter: chapterNoNames,
		text: "A name that goes on behind `ns.dns.ZONE`, such as `ns.dns.ZONE.ZONE`, does not exist. Stock takes it for `ns.dns.ZONE`.",
		apply: func(c *comparison) {
			if c.meaning.form == impossible && strings.HasPrefix(asciiLower(c.question.name()), "ns.dns."+c.meaning.zone) && !c.stockNo() {
				c.nothing()
			}
		}},
	{id: "underscores", chapter: chapterNoNames,
		text: "A port or protocol without an underscore in front matches nothing, and a lone `_` is no wildcard: `http.tcp.SERVICE...` " +
			"and `_._tcp.SERVICE...` are NXDOMAIN.",
		apply: func(c *comparison) {
			l := c.meaning.labels
			if len(l) != 5 || l[0] != "svc" || c.stockNo() {
				return
			}
			mixed := c.meaning.zone == importZone && c.meaning.form == label && l[4][0] == '_' // `_http.tcp`
			if c.meaning.form == impossible || mixed {
				c.nothing()
			}
		}},
	{id: "below-pod", chapter: chapterNoNames,
		text: "There are no names below the name of a pod. In stock they are the pod's address too.",
		apply: func(c *comparison) {
			if l := c.meaning.labels; c.meaning.form == impossible && len(l) > 3 && l[0] == "pod" && !c.stockNo() {
				c.nothing()
			}
		}},
	{id: "pod-mapped", chapter: chapterNoNames,
		text: "With `pods insecure`, an IPv4 address in the guise of an IPv6 one (`--ffff-102-304`) is no name of a pod.",
		apply: func(c *comparison) {
			if c.meaning.form == podName && c.block.pods == podsInsecure && strings.Contains(c.meaning.label, "ffff") && !c.exists && !c.stockNo() {
				c.nothing()
			}
		}},
	{id: "pod-spelling", chapter: chapterNames,
		text: "With `pods verified`, an IPv6 address may be spelled in any way. In stock only one is found.",
		apply: func(c *comparison) {
			if c.meaning.form == podName && c.block.pods == podsVerified && c.exists && c.stockNo() {
				c.nodata()
				address, _ := podAddress(c.meaning.label)
				if rr := c.address(c.question.name(), address); rr.Header().Rrtype == c.question.qtype() {
					c.answer(rr)
				}
			}
		}},
	{id: "protocol-exists", chapter: chapterNames,
		text: "`_tcp.SERVICE.NAMESPACE.svc.ZONE` exists if a name of a port does below it: its answer is empty, not NXDOMAIN.",
		apply: func(c *comparison) {
			if c.meaning.form == protocol && c.exists && c.stockNo() {
				c.nodata()
			}
		}},
	{id: "dns-exists", chapter: chapterNames,
		text: "`dns.ZONE` exists, as `ns.dns.ZONE` does below it.",
		apply: func(c *comparison) {
			if c.meaning.form == branch && c.meaning.labels[0] == "dns" && c.stockNo() {
				c.nodata()
			}
		}},
	{id: "zone-branch-exists", chapter: chapterNames,
		text: "With `zonal`, `_zone.SERVICE...`, `pin._zone.SERVICE...` and `prefer._zone.SERVICE...` exist if the service has a ready endpoint.",
		apply: func(c *comparison) {
			if c.meaning.form == zoneBranch && c.exists && c.stockNo() {
				c.nodata()
			}
		}},
	{id: "reverse-branch-exists", chapter: chapterReverse,
		text: "A name that is a part of the reverse name of an address, such as `96.10.in-addr.arpa`, exists: its answer is empty, " +
			"not NXDOMAIN, unless `fallthrough` covers it.",
		apply: func(c *comparison) {
			if c.meaning.form == reverseBranch && c.exists && c.stockNo() && !c.block.fallsThrough(asciiLower(c.question.name())) {
				c.nodata()
			}
		}},
	{id: "version-types", chapter: chapterNames,
		text: "`dns-version.ZONE` and `ns.dns.ZONE` exist for every type. In stock they are NXDOMAIN for the types that they have no records of.",
		apply: func(c *comparison) {
			if (c.meaning.form == version && c.question.qtype() != dns.TypeANY || c.meaning.form == nameServer) && c.stockNo() {
				c.nodata()
			}
		}},
	{id: "txt-exists", chapter: chapterNames,
		text: "A query for TXT at a name that exists is an empty answer, as for any other type. In stock the zone itself, `svc.ZONE`, " +
			"`pod.ZONE` and namespaces are NXDOMAIN then.",
		apply: func(c *comparison) {
			inBetween := slices.Contains([]form{apex, branch, svcNamespace, podNamespace}, c.meaning.form)
			if c.question.qtype() == dns.TypeTXT && inBetween && c.exists && c.stockNo() {
				c.nodata()
			}
		}},
	{id: "port-types", chapter: chapterRecords,
		text: "`_port._protocol` names have SRV records only; asked for an address they give an empty answer.",
		apply: func(c *comparison) {
			if c.meaning.form == port && c.exists && c.question.qtype() != dns.TypeSRV && len(c.stock.Answer) > 0 {
				c.nodata()
			}
		}},
	{id: "pod-srv", chapter: chapterRecords,
		text: "The name of a pod has no SRV record. In stock it has one with port 0.",
		apply: func(c *comparison) {
			if c.meaning.form == podName && c.exists && c.question.qtype() == dns.TypeSRV && len(c.stock.Answer) > 0 {
				c.nodata()
			}
		}},
	{id: "zone-without-endpoints", chapter: chapterNoNames,
		text: "With `zonal`, the names by topology zone of a service without any ready endpoint do not exist, as the service does not.",
		apply: func(c *comparison) {
			if c.meaning.form == zoneName && !c.exists && c.stockNodata() {
				c.nothing()
			}
		}},
	{id: "labels-of-slices", chapter: chapterRecords,
		text: "`labels` selects Services and pods. Stock wants the labels on EndpointSlices too.",
		apply: func(c *comparison) {
			hidden := func(s *discoveryv1.EndpointSlice) bool {
				return c.block.labels != nil && s.Labels["tier"] != "front"
			}
			c.rebuildIf(hidden)
		}},
	{id: "fqdn-slices", chapter: chapterRecords,
		text: "EndpointSlices that hold domain names make no records.",
		apply: func(c *comparison) {
			c.rebuildIf(func(s *discoveryv1.EndpointSlice) bool { return s.AddressType == discoveryv1.AddressTypeFQDN })
		}},
	{id: "pod-names-with-dots", chapter: chapterRecords,
		text: "With `endpoint_pod_names`, an endpoint whose pod has a dot in its name is named by its address. In stock it has a name that nobody can ask for.",
		apply: func(c *comparison) {
			c.rebuildIf(func(s *discoveryv1.EndpointSlice) bool {
				return c.block.endpointPodNames && slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool {
					return e.TargetRef != nil && strings.Contains(e.TargetRef.Name, ".") && e.Hostname == nil
				})
			})
		}},
	{id: "silence", chapter: chapterReverse, silent: true,
		text: "An EndpointSlice without the label that names its Service makes no PTR record. In stock the query gets no reply at all.",
		apply: func(c *comparison) {
			if c.silent && (c.meaning.form == reverseName || c.meaning.form == impossible && strings.HasSuffix(c.meaning.zone, "ip6.arpa.")) {
				c.rebuild()
			}
		}},
	{id: "ptr-of-nothing", chapter: chapterReverse,
		text: "There is a PTR record only for a name that is there: none for slices whose Service does not exist, and none for what " +
			"`namespaces`, `namespace_labels` and `labels` hide.",
		apply: func(c *comparison) {
			if c.meaning.form != reverseName || c.question.qtype() != dns.TypePTR || c.silent || fromNext(c.stock) {
				return
			}
			owners := c.view.owners(c.meaning.address)
			c.want.Answer = slices.DeleteFunc(c.want.Answer, func(rr dns.RR) bool {
				ptr, ok := rr.(*dns.PTR)
				return ok && !slices.ContainsFunc(owners, func(o owner) bool { return dns.CanonicalName(o.target) == dns.CanonicalName(ptr.Ptr) })
			})
			switch {
			case len(c.stock.Answer) == 0 || len(c.want.Answer) > 0:
			case len(owners) == 0:
				c.nothing()
			default: // of endpoints, where the ClusterIP that stock saw is hidden
				c.answer(c.ptrs(owners)...)
			}
		}},
	{id: "ptr-of-all", chapter: chapterReverse,
		text: "An address that is a ClusterIP and an endpoint's has a PTR record for each name.",
		apply: func(c *comparison) {
			if c.meaning.form != reverseName || c.question.qtype() != dns.TypePTR {
				return
			}
			owners := c.view.owners(c.meaning.address)
			if !slices.ContainsFunc(owners, func(o owner) bool { return o.clusterIP }) || len(owners) == 1 {
				return
			}
			c.answer(c.ptrs(owners)...)
		}},
	{id: "reverse-extra", chapter: chapterReverse,
		text: "A name in `ip6.arpa` that is longer than the reverse name of an address does not exist. Stock leaves out the surplus.",
		apply: func(c *comparison) {
			if c.meaning.form == impossible && strings.HasSuffix(c.meaning.zone, "ip6.arpa.") && len(c.stock.Answer) > 0 && !fromNext(c.stock) {
				c.nothing()
			}
		}},
	{id: "reverse-svc", chapter: chapterReverse,
		text: "`svc` and `pod` are no names in a reverse zone. In stock they exist there.",
		apply: func(c *comparison) {
			l := c.meaning.labels
			if c.meaning.form == impossible && strings.HasSuffix(c.meaning.zone, ".arpa.") && len(l) > 0 && (l[0] == "svc" || l[0] == "pod") && !c.stockNo() {
				c.nothing()
			}
		}},
	{id: "reverse-types", chapter: chapterReverse,
		text: "The reverse name of an address exists for every type, not only for PTR.",
		apply: func(c *comparison) {
			if c.meaning.form == reverseName && c.exists && c.question.qtype() != dns.TypePTR && c.stockNo() {
				c.nodata()
			}
		}},
	{id: "imports-selected", chapter: chapterImports,
		text: "`namespace_labels` selects namespaces there too, and `labels` ServiceImports. Stock selects ServiceImports by the former, " +
			"and their EndpointSlices by the latter.",
		apply: func(c *comparison) {
			selected := c.block.labels != nil || c.block.namespaceLabels != nil
			if selected && c.meaning.zone == importZone && slices.Contains([]form{service, label, protocol, port}, c.meaning.form) {
				c.rebuildAfresh()
			}
		}},
	{id: "imports-without-address", chapter: chapterImports,
		text: "A ServiceImport of type ClusterSetIP that has no address yet does not exist. In stock its answer is empty.",
		apply: func(c *comparison) {
			if c.meaning.zone == importZone && c.meaning.form != label && !c.exists && c.meaning.name != "" && c.stockNodata() {
				c.nothing()
			}
		}},
	{id: "imports-endpoints", chapter: chapterImports,
		text: "There are no names of endpoints below a ServiceImport of type ClusterSetIP.",
		apply: func(c *comparison) {
			if c.meaning.zone == importZone && c.meaning.form == label && !c.exists && !c.stockNo() {
				c.nothing()
			}
		}},
	{id: "imports-clusters", chapter: chapterImports,
		text: "The ID of a cluster may have two labels. `CLUSTER.SERVICE.NAMESPACE.svc.ZONE` exists if there are names below it.",
		apply: func(c *comparison) {
			if c.meaning.zone == importZone && c.meaning.form == label && c.exists && c.stockNo() {
				c.rebuildAfresh()
			}
		}},
	{id: "imports-pods", chapter: chapterImports,
		text: "There are no names of pods. In stock `pod.ZONE` and those below it are answered as in a zone of the cluster.",
		apply: func(c *comparison) {
			l := c.meaning.labels
			if c.meaning.zone == importZone && len(l) > 0 && l[0] == "pod" && !c.stockNo() {
				c.nothing()
			}
		}},
	{id: "imports-version", chapter: chapterImports,
		text: "`dns-version.ZONE` is 1.0.0, as the specification for these zones says. In stock it is 1.1.0, that of the other zones.",
		apply: func(c *comparison) {
			if c.meaning.zone != importZone || c.meaning.form != version {
				return
			}
			for _, rr := range c.want.Answer {
				if txt, ok := rr.(*dns.TXT); ok && txt.Txt[0] == "1.1.0" {
					txt.Txt[0] = "1.0.0"
				}
			}
		}},
	{id: "external-any", chapter: chapterExternal,
		text: "The answer to a query for any type is the CNAME.",
		apply: func(c *comparison) {
			if cname := c.alias(); cname != nil && c.question.qtype() == dns.TypeANY {
				c.answer(cname)
			}
		}},
	{id: "external-without-recursion", chapter: chapterExternal,
		text: "Without the RD bit in the query, the CNAME alone is the answer; the target is not looked up.",
		apply: func(c *comparison) {
			t := c.question.qtype()
			if cname := c.alias(); cname != nil && t != dns.TypeCNAME && t != dns.TypeANY && !c.question.message.RecursionDesired {
				c.answer(cname)
			}
		}},
	{id: "external-types", chapter: chapterExternal,
		text: "Every type is followed to the target, not only A and AAAA.",
		apply: func(c *comparison) {
			t := c.question.qtype()
			if t != dns.TypeA && t != dns.TypeAAAA && t != dns.TypeCNAME && t != dns.TypeANY {
				c.follow()
			}
		}},
	{id: "external-outcome", chapter: chapterExternal,
		text: "If the target does not exist or cannot be resolved, the reply says so beside the CNAME (RFC 6604), and a resolver's search goes on. " +
			"`externalname_rcode noerror` brings the bare CNAME back. An ExternalName that leads round in a circle is SERVFAIL.",
		apply: func(c *comparison) {
			if t := c.question.qtype(); t == dns.TypeA || t == dns.TypeAAAA {
				c.follow()
			}
		}},
	{id: "any", chapter: chapterRecords,
		text: "A query for any type is answered with the HINFO record of RFC 8482. In stock the answer is empty.",
		apply: func(c *comparison) {
			if c.question.qtype() == dns.TypeANY && c.exists && c.records && c.alias() == nil && (len(c.stock.Answer) == 0 || fromNext(c.stock)) {
				c.answer(&dns.HINFO{Hdr: dns.RR_Header{Name: c.question.name(), Rrtype: dns.TypeHINFO, Class: dns.ClassINET, Ttl: c.ttl()}, Cpu: "RFC8482"})
			}
		}},
	{id: "ns-reverse", chapter: chapterReverse,
		text: "A reverse zone has the name servers of the first forward zone. In stock they have names in the reverse zone, which have no addresses.",
		apply: func(c *comparison) {
			if strings.HasSuffix(c.meaning.zone, ".arpa.") {
				c.nameServers()
			}
		}},
	{id: "ns-bind", chapter: chapterRecords,
		text: "Behind `bind`, the zone has an NS record and `ns.dns.ZONE` an address too.",
		apply: func(c *comparison) {
			if c.block.address != "" {
				c.nameServers()
			}
		}},
	{id: "ns-case", chapter: chapterRecords,
		text: "A query for NS or for `ns.dns.ZONE` may be in any case.",
		apply: func(c *comparison) {
			if c.question.name() != asciiLower(c.question.name()) {
				c.nameServers()
			}
		}},
	{id: "ns-link-local", chapter: chapterRecords,
		text: "Link-local addresses of the machine are no addresses of `ns.dns.ZONE`.",
		apply: func(c *comparison) {
			if c.block.address == "" && !c.cluster.isEndpoint(c.block.locals()) {
				c.nameServers()
			}
		}},
	{id: "ns-front", chapter: chapterRecords,
		text:  "The Services with a ClusterIP in front of the server that the options show are its name servers. In stock headless and hidden ones are too, by pods.",
		apply: func(c *comparison) { c.nameServers() }},
	{id: "srv-addresses", chapter: chapterRecords,
		text: "An answer to SRV at the name of an endpoint brings all addresses of the name along, those from slices without ports included.",
		apply: func(c *comparison) {
			if c.meaning.form != label || c.question.qtype() != dns.TypeSRV || len(c.want.Answer) == 0 {
				return
			}
			owner := strings.Join([]string{c.meaning.label, c.meaning.name, c.meaning.ns, "svc", c.meaning.zone}, ".")
			for _, e := range c.view.endpoints(c.meaning.ns, c.meaning.name) {
				rr := c.address(owner, e.address)
				if e.label == c.meaning.label && !slices.ContainsFunc(c.want.Extra, func(have dns.RR) bool { return dns.IsDuplicate(have, rr) }) {
					c.want.Extra = append(c.want.Extra, rr)
				}
			}
		}},
	{id: "srv-weight", chapter: chapterRecords,
		text: "The weights of SRV records add up to 100, each record's an equal part. In stock they depend on the number of addresses too.",
		apply: func(c *comparison) {
			for _, rr := range c.want.Answer {
				if srv, ok := rr.(*dns.SRV); ok && srv.Priority == 0 && dns.CanonicalName(srv.Hdr.Name) == dns.CanonicalName(c.question.name()) {
					srv.Weight = uint16(max(1, 100/len(c.want.Answer)))
				}
			}
		}},
	{id: "transfer-below", chapter: chapterMessages, anywhere: true,
		text: "A zone transfer of a name that is not a zone is NOTAUTH (RFC 5936). In stock it is REFUSED.",
		apply: func(c *comparison) {
			if t := c.question.qtype(); c.meaning.form != elsewhere && c.meaning.form != apex && (t == dns.TypeAXFR || t == dns.TypeIXFR) &&
				c.question.message.Opcode == dns.OpcodeQuery && c.stock.Rcode == dns.RcodeRefused && c.question.message.Question[0].Qclass == dns.ClassINET {
				c.want.Rcode = dns.RcodeNotAuth
			}
		}},
	{id: "notify", chapter: chapterMessages, anywhere: true, silent: true,
		text: "NOTIFY is NOTIMP. Stock answers it like a query.",
		apply: func(c *comparison) {
			m := c.question.message
			if m.Opcode == dns.OpcodeNotify && c.meaning.form != elsewhere && m.Question[0].Qclass == dns.ClassINET && (m.IsEdns0() == nil || m.IsEdns0().Version() == 0) {
				c.want = c.header()
				c.want.Authoritative, c.want.Rcode = false, dns.RcodeNotImplemented
			}
		}},
	{id: "two-opt", chapter: chapterMessages, anywhere: true, silent: true,
		text: "A query with two OPT records is FORMERR (RFC 6891).",
		apply: func(c *comparison) {
			opts := 0
			for _, rr := range c.question.message.Extra {
				if rr.Header().Rrtype == dns.TypeOPT {
					opts++
				}
			}
			if opts > 1 && c.meaning.form != elsewhere && (c.silent || len(c.stock.Question) > 0) && c.question.message.IsEdns0().Version() == 0 && ourSize(c) {
				c.want = c.header()
				c.want.Authoritative, c.want.Rcode = false, dns.RcodeFormatError
			}
		}},
	{id: "spelling", chapter: chapterMessages,
		text: "In reverse zones, and where `fallthrough` applies, the owner names in an answer are in the spelling of the query, " +
			"whichever plugin or cache gave it.",
		apply: func(c *comparison) {
			if !c.spells() {
				return
			}
			name := c.question.name()
			for _, rr := range slices.Concat(c.want.Answer, c.want.Ns) {
				if h := rr.Header(); len(h.Name) <= len(name) && strings.EqualFold(h.Name, name[len(name)-len(h.Name):]) {
					h.Name = name[len(name)-len(h.Name):]
				}
			}
		}},
	{id: "serial", chapter: chapterMessages, anywhere: true,
		text: "The serial of the zones is the resource version of the newest object, so that it grows with every change and all replicas have the same. " +
			"In stock it is the time of the last change that the replica saw.",
		apply: func(c *comparison) {
			for _, rr := range slices.Concat(c.want.Answer, c.want.Ns) {
				for _, other := range slices.Concat(c.ours.Answer, c.ours.Ns) {
					soa, one := rr.(*dns.SOA)
					have, two := other.(*dns.SOA)
					if one && two && ourSOA(soa) {
						soa.Serial = have.Serial
					}
				}
			}
		}},
	{id: "negative-ttl", chapter: chapterNegative, anywhere: true,
		text: "Negative answers may be kept for 5 s at most (`negative_ttl`), so that a name made just after a miss is soon seen. In stock it is `ttl`, 30 s with kubeadm.",
		apply: func(c *comparison) {
			for _, rr := range slices.Concat(c.want.Answer, c.want.Ns) {
				if soa, ok := rr.(*dns.SOA); ok && ourSOA(soa) {
					soa.Hdr.Ttl, soa.Minttl = c.block.negativeTTL(), c.block.negativeTTL()
				}
			}
		}},
	{id: "explained", chapter: chapterNegative,
		text: "They say why, to a client that sends EDNS (RFC 8914; `explain off` stops that).",
		apply: func(c *comparison) {
			ours, opt := c.ours.IsEdns0(), c.want.IsEdns0()
			if ours == nil || opt == nil || fromNext(c.want) {
				return
			}
			negative := len(c.want.Answer) == 0 && (c.want.Rcode == dns.RcodeSuccess || c.want.Rcode == dns.RcodeNameError)
			loop := c.want.Rcode == dns.RcodeServerFailure && c.alias() != nil
			for _, o := range ours.Option {
				if ede, ok := o.(*dns.EDNS0_EDE); ok && (negative && ede.InfoCode == dns.ExtendedErrorCodeOther && ede.ExtraText != "" ||
					loop && len(ours.Option) == 1) {
					opt.Option = append(opt.Option, ede)
				}
			}
			if negative && len(opt.Option) != 1 {
				opt.Option = append(opt.Option, &dns.EDNS0_EDE{ExtraText: "one explanation is wanted here"})
			}
		}},
	{id: "opt-size", chapter: chapterMessages, anywhere: true,
		text: "The payload size in a reply's OPT record is 1232 octets at most, and so is a reply over UDP. Stock repeats the client's.",
		apply: func(c *comparison) {
			if opt := c.want.IsEdns0(); opt != nil && c.meaning.form != elsewhere && ourSize(c) && c.want.Rcode != dns.RcodeFormatError {
				opt.SetUDPSize(min(opt.UDPSize(), 1232))
			}
		}},
	{id: truncation, chapter: chapterMessages,
		text:  "TC says that a record of the answer is missing. Stock sets it for addresses in the additional section too, and the client asks again over TCP.",
		apply: func(*comparison) {}}, // seen by compareTruncated
	{id: "opt-flags", chapter: chapterMessages, anywhere: true,
		text: "Unknown flags in a query's OPT record are not repeated in the reply.",
		apply: func(c *comparison) {
			if opt := c.want.IsEdns0(); opt != nil && c.meaning.form != elsewhere && ourSize(c) {
				opt.SetZ(0)
			}
		}},
}

// ttl is that of the HINFO record.
func (c *comparison) ttl() uint32 { return c.block.ttl }

// ourSize tells whether the query reaches our limit on sizes: the server itself answers the others.
func ourSize(c *comparison) bool {
	return c.question.message.Question[0].Qclass == dns.ClassINET && c.question.message.IsEdns0().Version() == 0
}

// ourSOA tells whether a SOA record is that of a zone of the cluster.
func ourSOA(soa *dns.SOA) bool { return strings.HasPrefix(asciiLower(soa.Ns), "ns.dns.") }

func (c *comparison) address(owner string, a netip.Addr) dns.RR {
	header := dns.RR_Header{Name: owner, Class: dns.ClassINET, Ttl: c.block.ttl}
	if a.Is4() {
		header.Rrtype = dns.TypeA
		return &dns.A{Hdr: header, A: a.AsSlice()}
	}
	header.Rrtype = dns.TypeAAAA
	return &dns.AAAA{Hdr: header, AAAA: a.AsSlice()}
}

func (c *comparison) ptrs(owners []owner) []dns.RR {
	var rrs []dns.RR
	for _, o := range owners {
		rrs = append(rrs, &dns.PTR{Hdr: dns.RR_Header{Name: c.question.name(), Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: c.block.ttl}, Ptr: o.target})
	}
	return rrs
}

// alias is the CNAME record of the name asked for, if it is an ExternalName's.
func (c *comparison) alias() *dns.CNAME {
	if c.meaning.form != service || !c.exists {
		return nil
	}
	s := c.view.service(c.meaning.ns, c.meaning.name)
	if !external(s) {
		return nil
	}
	return &dns.CNAME{Hdr: dns.RR_Header{Name: c.question.name(), Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: c.block.ttl}, Target: dns.Fqdn(s.Spec.ExternalName)}
}

// follow wants what the server itself says of the target behind the CNAME.
func (c *comparison) follow() {
	cname := c.alias()
	if cname == nil || !c.question.message.RecursionDesired {
		return
	}
	found, err := c.ask(cname.Target, c.question.qtype())
	if err != nil {
		c.err = err
		return
	}
	c.answer(cname)
	if found.Rcode == dns.RcodeRefused {
		return
	}
	for _, rr := range found.Answer {
		if !slices.ContainsFunc(c.want.Answer, func(have dns.RR) bool { return dns.IsDuplicate(have, rr) }) {
			c.want.Answer = append(c.want.Answer, rr)
		}
	}
	c.want.Rcode, c.want.Truncated = found.Rcode, found.Truncated
	switch found.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
		for _, rr := range found.Ns {
			if rr.Header().Rrtype == dns.TypeSOA {
				c.want.Ns = []dns.RR{rr}
			}
		}
	default:
		c.want.Rcode = dns.RcodeServerFailure
	}
}

// nameServers wants the NS records of the zone, or the addresses of ns.dns.ZONE.
func (c *comparison) nameServers() {
	zone := c.soa().Hdr.Name
	if strings.HasSuffix(c.meaning.zone, ".arpa.") {
		zone = c.block.primary()
	}
	var names []string
	addresses := map[string][]netip.Addr{}
	for _, s := range c.cluster.fronts() {
		name := s.Name + "." + s.Namespace + ".svc." + zone
		if zone == importZone {
			name = "ns.dns." + zone // the service itself is none of that zone
		}
		names = append(names, name)
		for _, text := range s.Spec.ClusterIPs {
			addresses[name] = append(addresses[name], netip.MustParseAddr(text))
		}
	}
	if len(names) == 0 {
		names = []string{"ns.dns." + zone}
		addresses[names[0]] = c.block.locals()
	}
	owner, qtype := c.question.name(), c.question.qtype()
	switch {
	case c.meaning.form == apex && qtype == dns.TypeNS:
		var rrs, extra []dns.RR
		for _, name := range names {
			rrs = append(rrs, &dns.NS{Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: c.block.ttl}, Ns: name})
			for _, a := range addresses[name] {
				extra = append(extra, c.address(name, a))
			}
		}
		c.answer(rrs...)
		c.want.Extra = append(c.want.Extra, extra...)
	case c.meaning.form == nameServer && (qtype == dns.TypeA || qtype == dns.TypeAAAA):
		var rrs []dns.RR
		for _, name := range names {
			for _, a := range addresses[name] {
				if rr := c.address(owner, a); rr.Header().Rrtype == qtype {
					rrs = append(rrs, rr)
				}
			}
		}
		if len(rrs) == 0 {
			c.nodata()
			return
		}
		c.answer(rrs...)
	}
}

// rebuildIf wants what the view makes of a name whose service has a slice that stock takes differently.
func (c *comparison) rebuildIf(odd func(*discoveryv1.EndpointSlice) bool) {
	m := c.meaning
	involved := func(at key, name string) bool {
		slice := c.view.slices[at]
		return odd(slice) && (name == "" || at.namespace == m.ns && slice.Labels[discoveryv1.LabelServiceName] == name)
	}
	there := false
	for at := range c.view.slices {
		switch {
		case slices.Contains([]form{service, label, protocol, port, zoneBranch, zoneName}, m.form):
			there = there || involved(at, m.name)
		case m.form == reverseName, m.form == reverseBranch:
			there = there || involved(at, "")
		}
	}
	if !there {
		return
	}
	c.rebuildAfresh()
}

// rebuildAfresh is rebuild where that makes a difference.
func (c *comparison) rebuildAfresh() {
	before := c.want
	c.rebuild()
	if canonical(weightless(before)) == canonical(weightless(c.want)) {
		c.want = before
	}
}

// weightless is a message without the weights of its SRV records, which are a difference of their own.
func weightless(m *dns.Msg) *dns.Msg {
	m = m.Copy()
	for _, rr := range m.Answer {
		if srv, ok := rr.(*dns.SRV); ok {
			srv.Weight = 0
		}
	}
	return m
}

// rebuild wants the records that the view has, whatever stock said.
func (c *comparison) rebuild() {
	if c.alias() != nil {
		return
	}
	if !c.exists {
		c.nothing()
		return
	}
	if c.meaning.form == reverseName && c.question.qtype() == dns.TypePTR {
		c.answer(c.ptrs(c.view.owners(c.meaning.address))...)
		return
	}
	if c.meaning.form == reverseName || c.meaning.form == reverseBranch {
		return
	}
	answer, extra := c.view.serviceRecords(c)
	if len(answer) == 0 || !c.records {
		c.nodata()
		return
	}
	c.answer(answer...)
	c.want.Extra = append(c.want.Extra, extra...)
}

// serviceRecords are those of a service or a name below it that exists.
func (v view) serviceRecords(c *comparison) (answer, extra []dns.RR) {
	m, qtype := c.meaning, c.question.qtype()
	s := v.service(m.ns, m.name)
	ready := v.endpoints(m.ns, m.name)
	if m.form == zoneName {
		inZone := slices.DeleteFunc(slices.Clone(ready), func(e endpoint) bool { return e.zone != m.label })
		if len(inZone) > 0 || !m.prefer {
			ready = inZone
		}
	}
	if m.form == label {
		ready = slices.DeleteFunc(ready, func(e endpoint) bool { return e.label != m.label })
	}
	add := func(to []dns.RR, rr dns.RR) []dns.RR {
		if slices.ContainsFunc(to, func(have dns.RR) bool { return dns.IsDuplicate(have, rr) }) {
			return to
		}
		return append(to, rr)
	}
	name := strings.Join([]string{m.name, m.ns, "svc", m.zone}, ".")
	srv := func(port int32, target string) dns.RR {
		return &dns.SRV{Hdr: dns.RR_Header{Name: c.question.name(), Rrtype: dns.TypeSRV, Class: dns.ClassINET, Ttl: c.block.ttl}, Weight: 1, Port: uint16(port), Target: target}
	}
	if !headless(s) && m.form != label {
		for _, text := range s.Spec.ClusterIPs {
			a := netip.MustParseAddr(text)
			if rr := c.address(c.question.name(), a); m.form == service && rr.Header().Rrtype == qtype {
				answer = add(answer, rr)
			}
			for _, p := range s.Spec.Ports {
				if qtype == dns.TypeSRV && v.fits(m, p) {
					answer, extra = add(answer, srv(p.Port, name)), add(extra, c.address(name, a))
				}
			}
		}
		return answer, extra
	}
	for _, e := range ready {
		if rr := c.address(c.question.name(), e.address); m.form != port && m.form != protocol && rr.Header().Rrtype == qtype {
			answer = add(answer, rr)
		}
		for _, p := range e.slice.Ports {
			if qtype == dns.TypeSRV && v.fits(m, corev1.ServicePort{Name: *p.Name, Protocol: *p.Protocol}) {
				answer, extra = add(answer, srv(*p.Port, e.label+"."+name)), add(extra, c.address(e.label+"."+name, e.address))
			}
		}
	}
	return answer, extra
}

// fits tells whether a port is one that the name asks for.
func (v view) fits(m meaning, p corev1.ServicePort) bool {
	switch m.form {
	case port:
		return p.Name == m.port && strings.ToLower(string(p.Protocol)) == m.protocol
	case service, label, zoneName:
		return true
	}
	return false
}
