package kubezone

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/pkg/nonwriter"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/kubezone/kubezone/plugin/internal/respond"

	"github.com/miekg/dns"
)

// behaviour is what testdata/cluster.yaml comes to. A line is a query, or several
// of one name, and what answers it: rdata separated by commas, and after a plus
// the additional section; or a negative outcome.
var behaviour = []behaviourGroup{
	{"service with a ClusterIP", "", `
		web.prod.svc.cluster.local. A = 10.96.0.10
		web.prod.svc.cluster.local. AAAA = NODATA
		web.prod.svc.cluster.local. others = NODATA
		web.prod.svc.cluster.local. ANY = "RFC8482" ""
		WEB.prod.SVC.cluster.LOCAL. A = 10.96.0.10
		six.prod.svc.cluster.local. AAAA = fd00:10:96::6
		six.prod.svc.cluster.local. A,others = NODATA
		six.prod.svc.cluster.local. ANY = "RFC8482" ""
		six.prod.svc.cluster.local. SRV = 0 100 80 six.prod.svc.cluster.local. + fd00:10:96::6
		dual.prod.svc.cluster.local. A = 10.96.0.11
		dual.prod.svc.cluster.local. AAAA = fd00:10:96::11
		dual.prod.svc.cluster.local. others = NODATA
		dual.prod.svc.cluster.local. ANY = "RFC8482" ""
		dual.prod.svc.cluster.local. SRV = 0 100 9000 dual.prod.svc.cluster.local. + 10.96.0.11, fd00:10:96::11
		3scale.prod.svc.cluster.local. A = 10.96.0.14
		lb.prod.svc.cluster.local. A = 10.96.0.13
		lb.prod.svc.cluster.local. AAAA,others = NODATA
		lb.prod.svc.cluster.local. ANY = "RFC8482" ""
		lb.prod.svc.cluster.local. SRV = 0 100 80 lb.prod.svc.cluster.local. + 10.96.0.13
		node.prod.svc.cluster.local. A = 10.96.0.15
		node.prod.svc.cluster.local. AAAA,others = NODATA
		node.prod.svc.cluster.local. ANY = "RFC8482" ""
		node.prod.svc.cluster.local. SRV = 0 100 80 node.prod.svc.cluster.local. + 10.96.0.15
		nosel.other.svc.cluster.local. A = 10.97.0.1
		missing.prod.svc.cluster.local. A,AAAA,SRV,others,ANY = NXDOMAIN
		web.missing.svc.cluster.local. A = NXDOMAIN
	`},
	{"SRV of a service with a ClusterIP", "", `
		_http._tcp.web.prod.svc.cluster.local. SRV = 0 100 80 web.prod.svc.cluster.local. + 10.96.0.10
		_https._tcp.web.prod.svc.cluster.local. SRV = 0 100 443 web.prod.svc.cluster.local. + 10.96.0.10
		_dns._udp.web.prod.svc.cluster.local. SRV = 0 100 53 web.prod.svc.cluster.local. + 10.96.0.10
		_diam._sctp.web.prod.svc.cluster.local. SRV = 0 100 3868 web.prod.svc.cluster.local. + 10.96.0.10
		_HTTP._TCP.Web.prod.svc.cluster.local. SRV = 0 100 80 Web.prod.svc.cluster.local. + 10.96.0.10
		_grpc._tcp.dual.prod.svc.cluster.local. SRV = 0 100 9000 dual.prod.svc.cluster.local. + 10.96.0.11, fd00:10:96::11
		web.prod.svc.cluster.local. SRV = 0 25 80 web.prod.svc.cluster.local., 0 25 443 web.prod.svc.cluster.local., 0 25 53 web.prod.svc.cluster.local., 0 25 3868 web.prod.svc.cluster.local. + 10.96.0.10
		unnamed.prod.svc.cluster.local. SRV = 0 100 8080 unnamed.prod.svc.cluster.local. + 10.96.0.12
		_http._udp.web.prod.svc.cluster.local. SRV = NXDOMAIN
		_none._tcp.web.prod.svc.cluster.local. SRV = NXDOMAIN
		_._tcp.unnamed.prod.svc.cluster.local. SRV = NXDOMAIN
		_http._.web.prod.svc.cluster.local. SRV = NXDOMAIN
		_._.web.prod.svc.cluster.local. SRV = NXDOMAIN
		_.web.prod.svc.cluster.local. SRV = NXDOMAIN
		http.tcp.web.prod.svc.cluster.local. SRV = NXDOMAIN
		_http.tcp.web.prod.svc.cluster.local. SRV = NXDOMAIN
		*._tcp.web.prod.svc.cluster.local. SRV = NXDOMAIN
		_http._tcp.web.prod.svc.cluster.local. A,AAAA,others = NODATA
		_http._tcp.web.prod.svc.cluster.local. ANY = "RFC8482" ""
		_none._tcp.web.prod.svc.cluster.local. A = NXDOMAIN
		_tcp.web.prod.svc.cluster.local. A,AAAA,SRV,others,ANY = NODATA
		_sctp.dual.prod.svc.cluster.local. A = NXDOMAIN
		_tcp.unnamed.prod.svc.cluster.local. A = NXDOMAIN
		_x._http._tcp.web.prod.svc.cluster.local. SRV = NXDOMAIN
	`},
	{"endpoints of a service with a ClusterIP", "", `
		10-244-0-10.web.prod.svc.cluster.local. A = 10.244.0.10
		10-244-0-11.web.prod.svc.cluster.local. A = 10.244.0.11
		10-244-0-12.web.prod.svc.cluster.local. A = NXDOMAIN
		10-244-0-10.web.prod.svc.cluster.local. AAAA,others = NODATA
		10-244-0-10.web.prod.svc.cluster.local. ANY = "RFC8482" ""
		10-244-0-10.web.prod.svc.cluster.local. SRV = 0 100 8080 10-244-0-10.web.prod.svc.cluster.local. + 10.244.0.10
		010-244-0-10.web.prod.svc.cluster.local. A = NXDOMAIN
		x.web.prod.svc.cluster.local. A = NXDOMAIN
	`},
	{"headless service", "", `
		db.prod.svc.cluster.local. A = 10.244.1.10, 10.244.1.11
		db.prod.svc.cluster.local. AAAA = NODATA
		db.prod.svc.cluster.local. SRV = 0 50 5432 db-0.db.prod.svc.cluster.local., 0 50 5432 db-1.db.prod.svc.cluster.local. + 10.244.1.10, 10.244.1.11
		db.prod.svc.cluster.local. others = NODATA
		db.prod.svc.cluster.local. ANY = "RFC8482" ""
		_pg._tcp.db.prod.svc.cluster.local. SRV = 0 50 5432 db-0.db.prod.svc.cluster.local., 0 50 5432 db-1.db.prod.svc.cluster.local. + 10.244.1.10, 10.244.1.11
		_pg._tcp.db.prod.svc.cluster.local. A,AAAA,others = NODATA
		_pg._tcp.db.prod.svc.cluster.local. ANY = "RFC8482" ""
		_pg._udp.db.prod.svc.cluster.local. SRV = NXDOMAIN
		_tcp.db.prod.svc.cluster.local. A = NODATA
		_udp.db.prod.svc.cluster.local. A = NXDOMAIN
		db-0.db.prod.svc.cluster.local. A = 10.244.1.10
		DB-1.db.prod.svc.cluster.local. A = 10.244.1.11
		db-2.db.prod.svc.cluster.local. A = NXDOMAIN
		10-244-1-10.db.prod.svc.cluster.local. A = NXDOMAIN
		db-0.db.prod.svc.cluster.local. AAAA,others = NODATA
		db-0.db.prod.svc.cluster.local. ANY = "RFC8482" ""
		db-0.db.prod.svc.cluster.local. SRV = 0 100 5432 db-0.db.prod.svc.cluster.local. + 10.244.1.10
		x.db-0.db.prod.svc.cluster.local. A = NXDOMAIN
		plain.prod.svc.cluster.local. A = 10.244.2.10
		plain.prod.svc.cluster.local. AAAA = fd00:244::10, fd00:245::
		10-244-2-10.plain.prod.svc.cluster.local. A = 10.244.2.10
		fd00-244--10.plain.prod.svc.cluster.local. AAAA = fd00:244::10
		fd00-245--0.plain.prod.svc.cluster.local. AAAA = fd00:245::
		fd00-245--.plain.prod.svc.cluster.local. AAAA = NXDOMAIN
		fd00-0244--10.plain.prod.svc.cluster.local. AAAA = NXDOMAIN
		plain-x.plain.prod.svc.cluster.local. A = NXDOMAIN
		_http._tcp.plain.prod.svc.cluster.local. SRV = 0 33 8080 10-244-2-10.plain.prod.svc.cluster.local., 0 33 8080 fd00-244--10.plain.prod.svc.cluster.local., 0 33 8080 fd00-245--0.plain.prod.svc.cluster.local. + 10.244.2.10, fd00:244::10, fd00:245::
		twin.shared.prod.svc.cluster.local. A = 10.244.3.10, 10.244.3.11
		shared.prod.svc.cluster.local. A = 10.244.3.10, 10.244.3.11, 10.244.3.12
		_a._tcp.shared.prod.svc.cluster.local. SRV = 0 100 1001 twin.shared.prod.svc.cluster.local. + 10.244.3.10, 10.244.3.11
		_b._tcp.shared.prod.svc.cluster.local. SRV = 0 100 1002 10-244-3-12.shared.prod.svc.cluster.local. + 10.244.3.12
		twin.shared.prod.svc.cluster.local. SRV = 0 100 1001 twin.shared.prod.svc.cluster.local. + 10.244.3.10, 10.244.3.11
		portless.prod.svc.cluster.local. A = 10.244.4.10
		portless.prod.svc.cluster.local. SRV = NODATA
		10-244-4-10.portless.prod.svc.cluster.local. A = 10.244.4.10
		moving.prod.svc.cluster.local. A = 10.244.5.10, 10.244.5.11
		resolver.prod.svc.cluster.local. SRV = 0 100 53 10-244-8-10.resolver.prod.svc.cluster.local. + 10.244.8.10
		_dns-tcp._tcp.resolver.prod.svc.cluster.local. SRV = 0 100 53 10-244-8-10.resolver.prod.svc.cluster.local. + 10.244.8.10
		moving.prod.svc.cluster.local. SRV = 0 50 80 10-244-5-10.moving.prod.svc.cluster.local., 0 50 80 10-244-5-11.moving.prod.svc.cluster.local. + 10.244.5.10, 10.244.5.11
		alpha.prod.svc.cluster.local. A = 10.244.1.10
	`},
	{"headless service without a ready endpoint", "", `
		noready.prod.svc.cluster.local. A,AAAA,SRV,others,ANY = NXDOMAIN
		pod-0.noready.prod.svc.cluster.local. A = NXDOMAIN
		_http._tcp.noready.prod.svc.cluster.local. SRV = NXDOMAIN
		_tcp.noready.prod.svc.cluster.local. SRV = NXDOMAIN
		named.prod.svc.cluster.local. A = NXDOMAIN
		named.prod.svc.cluster.local. TXT = NXDOMAIN
		ghost.prod.svc.cluster.local. A = NXDOMAIN
	`},
	{"pod names of endpoints", "endpoint_pod_names", `
		plain-x.plain.prod.svc.cluster.local. A = 10.244.2.10
		10-244-2-10.plain.prod.svc.cluster.local. A = NXDOMAIN
		db-0.db.prod.svc.cluster.local. A = 10.244.1.10
	`},
	{"ExternalName", "", `
		ext.prod.svc.cluster.local. A = www.example.com., 192.0.2.80
		ext.prod.svc.cluster.local. AAAA = www.example.com. NODATA
		ext.prod.svc.cluster.local. MX = www.example.com., 10 mx.example.com.
		ext.prod.svc.cluster.local. SRV,TXT,PTR,NS,SOA,DS,HTTPS,TYPE65280 = www.example.com. NODATA
		ext.prod.svc.cluster.local. ANY = www.example.com.
		ext.prod.svc.cluster.local. CNAME = www.example.com.
		extdot.prod.svc.cluster.local. A = www.example.com., 192.0.2.80
		extip.prod.svc.cluster.local. A,AAAA,SRV,others,ANY = NXDOMAIN
		_http._tcp.ext.prod.svc.cluster.local. SRV = NXDOMAIN
		_tcp.ext.prod.svc.cluster.local. SRV = NXDOMAIN
		x.ext.prod.svc.cluster.local. A = NXDOMAIN
		extgone.prod.svc.cluster.local. A,AAAA,SRV,TXT,MX,PTR,NS,SOA,DS,HTTPS,TYPE65280 = gone.example.com. NXDOMAIN
		extgone.prod.svc.cluster.local. CNAME,ANY = gone.example.com.
		extfail.prod.svc.cluster.local. A = fail.example.com. SERVFAIL
		extrefused.prod.svc.cluster.local. A = refused.example.com.
		extin.prod.svc.cluster.local. A = web.prod.svc.cluster.local., 10.96.0.10
		extin.prod.svc.cluster.local. AAAA = web.prod.svc.cluster.local. NODATA
		extback.prod.svc.cluster.local. A = back.example.com., ExtBack.prod.svc.cluster.local. SERVFAIL
		loop1.prod.svc.cluster.local. A = loop2.prod.svc.cluster.local., loop1.prod.svc.cluster.local. SERVFAIL
	`},
	{"ExternalName with the stock rcode", "externalname_rcode noerror", `
		ext.prod.svc.cluster.local. A = www.example.com., 192.0.2.80
		extgone.prod.svc.cluster.local. A = gone.example.com.
		extfail.prod.svc.cluster.local. A = fail.example.com.
	`},
	{"PTR", "", `
		10.0.96.10.in-addr.arpa. PTR = web.prod.svc.cluster.local.
		6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa. PTR = six.prod.svc.cluster.local.
		10.1.244.10.in-addr.arpa. PTR = db-0.db.prod.svc.cluster.local., 10-244-1-10.alpha.prod.svc.cluster.local.
		10.0.244.10.in-addr.arpa. PTR = 10-244-0-10.web.prod.svc.cluster.local.
		20.9.244.10.in-addr.arpa. PTR = 10-244-9-20.order-too.prod.svc.cluster.local., 10-244-9-20.order.prod.svc.cluster.local., 10-244-9-20.zorder.other.svc.cluster.local.
		21.9.244.10.in-addr.arpa. PTR = a.order-too.prod.svc.cluster.local., b.order.prod.svc.cluster.local., c.zorder.other.svc.cluster.local.
		12.0.244.10.in-addr.arpa. PTR = NXDOMAIN
		10.7.244.10.in-addr.arpa. PTR = NXDOMAIN
		11.7.244.10.in-addr.arpa. PTR = NXDOMAIN
		10.0.96.10.in-addr.arpa. A,AAAA,SRV,TXT,MX,NS,SOA,CNAME,DS,HTTPS,TYPE65280 = NODATA
		10.0.96.10.in-addr.arpa. ANY = "RFC8482" ""
		0.96.10.in-addr.arpa. PTR = NODATA
		96.10.in-addr.arpa. A,AAAA,SRV,others,ANY = NODATA
		10.in-addr.arpa. A = NODATA
		11.in-addr.arpa. A = NXDOMAIN
		1.0.96.10.in-addr.arpa. PTR = NXDOMAIN
		010.0.96.10.in-addr.arpa. PTR = NXDOMAIN
		1.10.0.96.10.in-addr.arpa. PTR = NXDOMAIN
		x.in-addr.arpa. PTR = NXDOMAIN
		0.0.0.0.d.f.ip6.arpa. PTR = NODATA
		00.0.0.0.d.f.ip6.arpa. PTR = NXDOMAIN
		0.6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa. PTR = NXDOMAIN
	`},
	{"first PTR only", "ptr first", `
		10.1.244.10.in-addr.arpa. PTR = db-0.db.prod.svc.cluster.local.
	`},
	{"reverse names that fall through", "fallthrough in-addr.arpa", `
		10.0.96.10.in-addr.arpa. PTR = web.prod.svc.cluster.local.
		1.0.96.10.in-addr.arpa. PTR = NEXT
		0.96.10.in-addr.arpa. PTR = NEXT
		10.0.96.10.in-addr.arpa. A = NODATA
		0.0.0.0.d.f.ip6.arpa. PTR = NODATA
		missing.prod.svc.cluster.local. A = NXDOMAIN
		in-addr.arpa. A = NODATA
	`},
	{"pods disabled", "", `
		10-244-9-9.prod.pod.cluster.local. A = NXDOMAIN
		prod.pod.cluster.local. A = NXDOMAIN
		pod.cluster.local. A = NODATA
	`},
	{"pods insecure", "pods insecure", `
		10-244-9-9.prod.pod.cluster.local. A = 10.244.9.9
		1-2-3-4.prod.pod.cluster.local. A = 1.2.3.4
		1-2-3-4.empty.pod.cluster.local. A = 1.2.3.4
		1-2-3-4.prod.pod.cluster.local. AAAA = NODATA
		1-2-3-4.prod.pod.cluster.local. SRV = NODATA
		2001-db8--1.prod.pod.cluster.local. AAAA = 2001:db8::1
		2001-db8-0-0-0-0-0-1.prod.pod.cluster.local. AAAA = 2001:db8::1
		--ffff-102-304.prod.pod.cluster.local. AAAA = NXDOMAIN
		0-0-0-0-0-ffff-102-304.prod.pod.cluster.local. A = NXDOMAIN
		1-2-3-4.missing.pod.cluster.local. A = NXDOMAIN
		1-2-3.prod.pod.cluster.local. A = NXDOMAIN
		1-2-3-256.prod.pod.cluster.local. A = NXDOMAIN
		client.prod.pod.cluster.local. A = NXDOMAIN
		x.1-2-3-4.prod.pod.cluster.local. A = NXDOMAIN
		prod.pod.cluster.local. A = NODATA
		empty.pod.cluster.local. SRV = NODATA
		missing.pod.cluster.local. A = NXDOMAIN
		pod.cluster.local. A = NODATA
	`},
	{"pods verified", "pods verified", `
		10-244-9-9.prod.pod.cluster.local. A = 10.244.9.9
		10-244-9-9.prod.pod.cluster.local. AAAA,SRV,others = NODATA
		10-244-9-9.prod.pod.cluster.local. ANY = "RFC8482" ""
		fd00-244--99.prod.pod.cluster.local. AAAA = fd00:244::99
		fd00-244-0-0-0-0-0-99.prod.pod.cluster.local. AAAA = fd00:244::99
		10-244-9-9.empty.pod.cluster.local. A = NXDOMAIN
		10-244-9-10.prod.pod.cluster.local. A = NXDOMAIN
		1-2-3-4.prod.pod.cluster.local. A = NXDOMAIN
	`},
	{"names in between", "", `
		svc.cluster.local. A,AAAA,SRV,others,ANY = NODATA
		pod.cluster.local. A,AAAA,SRV,others,ANY = NODATA
		dns.cluster.local. A,AAAA,SRV,others,ANY = NODATA
		prod.svc.cluster.local. A,AAAA,SRV,others,ANY = NODATA
		empty.svc.cluster.local. A = NODATA
		other.svc.cluster.local. A = NODATA
		missing.svc.cluster.local. A = NXDOMAIN
		dns-version.cluster.local. TXT = "1.1.0"
		dns-version.cluster.local. A,AAAA,SRV,MX,PTR,NS,SOA,CNAME,DS,HTTPS,TYPE65280 = NODATA
		dns-version.cluster.local. ANY = "RFC8482" ""
		x.dns-version.cluster.local. TXT = NXDOMAIN
		ns.dns.cluster.local. A = 10.96.0.53
		ns.dns.cluster.local. AAAA,SRV,others = NODATA
		ns.dns.cluster.local. ANY = "RFC8482" ""
		x.dns.cluster.local. A = NXDOMAIN
		x.ns.dns.cluster.local. A = NXDOMAIN
		cluster.local. SOA = ns.dns.cluster.local. hostmaster.cluster.local. 7200 1800 86400 5
		in-addr.arpa. SOA = ns.dns.in-addr.arpa. hostmaster.in-addr.arpa. 7200 1800 86400 5
		cluster.local. A,AAAA,SRV,TXT,MX,PTR,CNAME,DS,HTTPS,TYPE65280 = NODATA
		CLUSTER.local. NS = ns.dns.CLUSTER.local. + 10.96.0.53
		IN-ADDR.arpa. NS = ns.dns.cluster.local. + 10.96.0.53
		in-addr.arpa. NS = ns.dns.cluster.local. + 10.96.0.53
		cluster.local. NS = ns.dns.cluster.local. + 10.96.0.53
		cluster.local. ANY = "RFC8482" ""
		google.com.cluster.local. A = NXDOMAIN
		x.cluster.local. A = NXDOMAIN
		web\.prod.svc.cluster.local. A = NXDOMAIN
		web.prod\.svc.cluster.local. A = NXDOMAIN
		*.prod.svc.cluster.local. A = NXDOMAIN
		\000.prod.svc.cluster.local. A = NXDOMAIN
		a/b.prod.svc.cluster.local. A = NXDOMAIN
	`},
	{"listed namespaces", "namespaces other empty", `
		nosel.other.svc.cluster.local. A = 10.97.0.1
		web.prod.svc.cluster.local. A = NXDOMAIN
		prod.svc.cluster.local. A = NXDOMAIN
		_http._tcp.web.prod.svc.cluster.local. SRV = NXDOMAIN
		10.0.96.10.in-addr.arpa. PTR = NXDOMAIN
		10.1.244.10.in-addr.arpa. PTR = NXDOMAIN
		1.0.97.10.in-addr.arpa. PTR = nosel.other.svc.cluster.local.
	`},
	{"denied namespaces", "deny_namespaces other svc", `
		nosel.other.svc.cluster.local. A = NXDOMAIN
		_http._tcp.nosel.other.svc.cluster.local. SRV = NXDOMAIN
		other.svc.cluster.local. A = NXDOMAIN
		other.pod.cluster.local. A = NXDOMAIN
		1.0.97.10.in-addr.arpa. PTR = NXDOMAIN
		0.97.10.in-addr.arpa. PTR = NXDOMAIN
		web.prod.svc.cluster.local. A = 10.96.0.10
		prod.svc.cluster.local. A = NODATA
		svc.svc.cluster.local. A = NXDOMAIN
	`},
	{"public suffixes denied", "deny_namespaces public_suffixes\npods insecure", `
		web.prod.svc.cluster.local. A = NXDOMAIN
		_http._tcp.web.prod.svc.cluster.local. SRV = NXDOMAIN
		db-0.db.prod.svc.cluster.local. A = NXDOMAIN
		ext.prod.svc.cluster.local. CNAME = NXDOMAIN
		prod.svc.cluster.local. A = NXDOMAIN
		10-244-9-9.prod.pod.cluster.local. A = NXDOMAIN
		10.0.96.10.in-addr.arpa. PTR = NXDOMAIN
		10.1.244.10.in-addr.arpa. PTR = NXDOMAIN
		empty.svc.cluster.local. A = NODATA
		nosel.other.svc.cluster.local. A = 10.97.0.1
		1-2-3-4.other.pod.cluster.local. A = 1.2.3.4
	`},
	{"public suffixes but one denied", "deny_namespaces public_suffixes !prod", `
		web.prod.svc.cluster.local. A = 10.96.0.10
		prod.svc.cluster.local. A = NODATA
	`},
	{"pod ranges", "pods insecure\npod_ranges 10.244.0.0/16 fd00:244::/56", `
		10-244-9-9.prod.pod.cluster.local. A = 10.244.9.9
		10-244-9-9.prod.pod.cluster.local. AAAA = NODATA
		10-245-0-0.prod.pod.cluster.local. A = NXDOMAIN
		10-245-0-0.prod.pod.cluster.local. AAAA = NXDOMAIN
		169-254-169-254.prod.pod.cluster.local. A = NXDOMAIN
		fd00-244--1.prod.pod.cluster.local. AAAA = fd00:244::1
		fd00-245--1.prod.pod.cluster.local. AAAA = NXDOMAIN
		prod.pod.cluster.local. A = NODATA
	`},
	{"private pod ranges", "pods insecure\npod_ranges private", `
		10-1-2-3.prod.pod.cluster.local. A = 10.1.2.3
		192-168-0-1.prod.pod.cluster.local. A = 192.168.0.1
		100-64-0-1.prod.pod.cluster.local. A = 100.64.0.1
		fd00--1.prod.pod.cluster.local. AAAA = fd00::1
		169-254-169-254.prod.pod.cluster.local. A = NXDOMAIN
		127-0-0-1.prod.pod.cluster.local. A = NXDOMAIN
		1-2-3-4.prod.pod.cluster.local. A = NXDOMAIN
		172-32-0-1.prod.pod.cluster.local. A = NXDOMAIN
		fe80--1.prod.pod.cluster.local. AAAA = NXDOMAIN
	`},
	{"pod ranges of verified pods", "pods verified\npod_ranges 10.244.0.0/16", `
		10-244-9-9.prod.pod.cluster.local. A = 10.244.9.9
		fd00-244--99.prod.pod.cluster.local. AAAA = NXDOMAIN
	`},
	{"reverse ranges", "fallthrough\nreverse_ranges 10.244.0.0/16", `
		10.1.244.10.in-addr.arpa. PTR = db-0.db.prod.svc.cluster.local., 10-244-1-10.alpha.prod.svc.cluster.local.
		99.99.244.10.in-addr.arpa. PTR = NXDOMAIN
		99.244.10.in-addr.arpa. PTR = NXDOMAIN
		1.244.10.in-addr.arpa. PTR = NODATA
		244.10.in-addr.arpa. PTR = NODATA
		lb._dns-sd._udp.0.99.244.10.in-addr.arpa. PTR = NXDOMAIN
		x\.99.244.10.in-addr.arpa. PTR = NXDOMAIN
		10.in-addr.arpa. PTR = NEXT
		x\.244.10.in-addr.arpa. PTR = NEXT
		1.0.245.10.in-addr.arpa. PTR = NEXT
		10.0.96.10.in-addr.arpa. PTR = web.prod.svc.cluster.local.
		1.0.96.10.in-addr.arpa. PTR = NEXT
		missing.prod.svc.cluster.local. A = NEXT
	`},
	{"private reverse ranges", "fallthrough\nreverse_ranges private", `
		1.0.96.10.in-addr.arpa. PTR = NXDOMAIN
		96.10.in-addr.arpa. PTR = NODATA
		1.1.16.172.in-addr.arpa. PTR = NXDOMAIN
		1.1.168.192.in-addr.arpa. PTR = NXDOMAIN
		1.1.64.100.in-addr.arpa. PTR = NXDOMAIN
		254.169.254.169.in-addr.arpa. PTR = NXDOMAIN
		b._dns-sd._udp.0.0.168.192.in-addr.arpa. PTR = NXDOMAIN
		0.0.e.f.ip6.arpa. PTR = NEXT
		0.8.e.f.ip6.arpa. PTR = NXDOMAIN
		1.0.0.d.f.ip6.arpa. PTR = NXDOMAIN
		8.8.8.8.in-addr.arpa. PTR = NEXT
		1.1.32.172.in-addr.arpa. PTR = NEXT
		b._dns-sd._udp.8.8.8.8.in-addr.arpa. PTR = NEXT
		missing.prod.svc.cluster.local. A = NEXT
	`},
	{"noendpoints", "noendpoints", `
		web.prod.svc.cluster.local. A = 10.96.0.10
		db.prod.svc.cluster.local. A = NXDOMAIN
		10-244-0-10.web.prod.svc.cluster.local. A = NXDOMAIN
		10.1.244.10.in-addr.arpa. PTR = NXDOMAIN
	`},
	{"empty services ignored", "ignore empty_service", `
		web.prod.svc.cluster.local. A = 10.96.0.10
		dual.prod.svc.cluster.local. A = NXDOMAIN
		_grpc._tcp.dual.prod.svc.cluster.local. SRV = NXDOMAIN
	`},
	{"topology zones", "zonal", `
		zone-a.pin._zone.db.prod.svc.cluster.local. A = 10.244.1.10
		zone-b.pin._zone.db.prod.svc.cluster.local. A = 10.244.1.11
		ZONE-b.PIN._zone.db.prod.svc.cluster.local. A = 10.244.1.11
		zone-a.pin._zone.db.prod.svc.cluster.local. AAAA = NODATA
		zone-a.pin._zone.db.prod.svc.cluster.local. SRV = 0 100 5432 db-0.db.prod.svc.cluster.local. + 10.244.1.10
		zone-c.pin._zone.db.prod.svc.cluster.local. A = NODATA
		zone-c.prefer._zone.db.prod.svc.cluster.local. A = 10.244.1.10, 10.244.1.11
		zone-a.prefer._zone.db.prod.svc.cluster.local. A = 10.244.1.10
		zone-a.other._zone.db.prod.svc.cluster.local. A = NXDOMAIN
		_zone.db.prod.svc.cluster.local. A = NODATA
		pin._zone.db.prod.svc.cluster.local. A = NODATA
		zone-a.pin._zone.web.prod.svc.cluster.local. A = NXDOMAIN
		zone-a.pin._zone.noready.prod.svc.cluster.local. A = NXDOMAIN
		zone-a.pin._zone.missing.prod.svc.cluster.local. A = NXDOMAIN
	`},
	{"without topology zones", "", `
		zone-a.pin._zone.db.prod.svc.cluster.local. A = NXDOMAIN
		_zone.db.prod.svc.cluster.local. A = NXDOMAIN
	`},
}

// A behaviourGroup is a part of a table, with the options that it goes for.
type behaviourGroup struct{ name, options, queries string }

func TestBehaviour(t *testing.T) {
	for _, group := range behaviour {
		t.Run(group.name, func(t *testing.T) { expect(t, start(t, group.options), group.queries) })
	}
}

// expect asks the queries, written as in behaviour.
func expect(t *testing.T, k *Kubezone, queries string) {
	t.Helper()
	for line := range strings.Lines(strings.TrimSpace(queries)) {
		query, want, ok := strings.Cut(strings.TrimSpace(line), " = ")
		if !ok {
			t.Fatalf("%q: want a query, =, and an answer", line)
		}
		name, qtypes := typesOf(query)
		for _, qtype := range qtypes {
			if got := ask(t, k, name+" "+qtype); got != want {
				t.Errorf("%s %s = %s\nwant %s", name, qtype, got, want)
			}
		}
	}
}

// others are the types that few names have records of.
const others = "TXT,MX,PTR,NS,SOA,CNAME,DS,HTTPS,TYPE65280"

// typesOf splits a query of a table. Its types are separated by commas, and one of
// them may be the word others.
func typesOf(query string) (name string, qtypes []string) {
	name, list, _ := strings.Cut(query, " ")
	return name, strings.Split(strings.Replace(list, "others", others, 1), ",")
}

// start sets the plugin up from testdata/cluster.yaml, or the files that the
// options name.
func start(t testing.TB, options string) *Kubezone {
	t.Helper()
	if !strings.Contains(options, "endpoint ") && !strings.Contains(options, "manifests ") {
		options += "\nmanifests testdata/cluster.yaml"
	}
	zones := "cluster.local in-addr.arpa ip6.arpa"
	if strings.Contains(options, "multicluster ") {
		zones += " clusterset.local"
	}
	cfg, err := parse(caddy.NewTestController("dns", "kubezone "+zones+" {\nttl 30\n"+options+"\n}"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := newKubezone(cfg, "kubezone")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.store.Close)
	k.local = localAddrs([]string{"10.96.0.53", "169.254.20.10"})
	k.Next = test.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		m := new(dns.Msg)
		m.SetRcode(r, rcodeOfNext)
		return dns.RcodeSuccess, w.WriteMsg(m)
	})
	k.Lookup = world{k}
	return k
}

// startWith sets the plugin up from one file.
func startWith(t testing.TB, manifest string) *Kubezone {
	return start(t, "manifests "+manifest)
}

// rcodeOfNext marks what the next plugin answers.
const rcodeOfNext = dns.RcodeYXDomain

// ask sends the query and writes the answer down as behaviour does, after it
// checked what holds for all answers.
func ask(t *testing.T, k *Kubezone, query string) string {
	t.Helper()
	name, qtype, _ := strings.Cut(query, " ")
	r := new(dns.Msg)
	r.SetQuestion(name, typeOf(t, qtype))
	m := exchange(t, k, r)
	if m.Rcode == rcodeOfNext {
		return "NEXT"
	}
	var rdata []string
	for _, rr := range m.Answer {
		rdata = append(rdata, rdataOf(rr))
	}
	text := strings.Join(rdata, ", ")
	var extra []string
	for _, rr := range m.Extra {
		extra = append(extra, rdataOf(rr))
	}
	if len(extra) > 0 {
		text += " + " + strings.Join(extra, ", ")
	}
	negative := ""
	switch {
	case m.Rcode != dns.RcodeSuccess:
		negative = dns.RcodeToString[m.Rcode]
	case len(m.Ns) > 0:
		negative = "NODATA"
	}
	checkReply(t, query, r, m)
	return strings.TrimSpace(text + " " + negative)
}

func typeOf(t *testing.T, name string) uint16 {
	t.Helper()
	if qtype, ok := dns.StringToType[name]; ok {
		return qtype
	}
	rr, err := dns.NewRR(". IN " + name + ` \# 0`)
	if err != nil {
		t.Fatalf("type %q: %v", name, err)
	}
	return rr.Header().Rrtype
}

// rdataOf leaves the serial of a SOA record out, which is the time of a file.
func rdataOf(rr dns.RR) string {
	if soa, ok := rr.(*dns.SOA); ok {
		return fmt.Sprintf("%s %s %d %d %d %d", soa.Ns, soa.Mbox, soa.Refresh, soa.Retry, soa.Expire, soa.Minttl)
	}
	return strings.TrimPrefix(rr.String(), rr.Header().String())
}

func exchange(t *testing.T, k *Kubezone, r *dns.Msg) *dns.Msg {
	t.Helper()
	w := dnstest.NewRecorder(&test.ResponseWriter{})
	rcode, err := k.ServeDNS(context.Background(), w, r)
	if err != nil {
		t.Fatalf("%v: %v", r.Question[0], err)
	}
	if w.Msg == nil {
		m := new(dns.Msg)
		m.SetRcode(r, rcode)
		return m
	}
	return w.Msg
}

// checkReply checks what no answer may break.
func checkReply(t *testing.T, query string, r, m *dns.Msg) {
	t.Helper()
	if !m.Authoritative {
		t.Errorf("%s: AA is clear", query)
	}
	if !m.Response || m.Id != r.Id || m.RecursionDesired != r.RecursionDesired || m.Question[0] != r.Question[0] {
		t.Errorf("%s: the reply does not match the query: %v", query, m)
	}
	owner := r.Question[0].Name
	for _, rr := range m.Answer {
		if rr.Header().Name != owner {
			t.Errorf("%s: owner %s; want %s", query, rr.Header().Name, owner)
		}
		if c, ok := rr.(*dns.CNAME); ok {
			owner = c.Target
		}
	}
	if len(m.Ns) > 1 {
		t.Errorf("%s: %d records in the authority section", query, len(m.Ns))
	}
	for _, rr := range m.Ns {
		soa, ok := rr.(*dns.SOA)
		if !ok {
			t.Errorf("%s: %s in the authority section", query, rr)
			continue
		}
		if !strings.HasSuffix(strings.ToLower(owner), strings.ToLower(soa.Hdr.Name)) {
			t.Errorf("%s: SOA of %s; want that of the last name's zone, %s", query, soa.Hdr.Name, owner)
		}
	}
	if _, err := m.Pack(); err != nil {
		t.Errorf("%s: %v", query, err)
	}
}

// world resolves names of aliases: those in our zones by the plugin, and a few
// outside.
type world struct{ k *Kubezone }

func (w world) Lookup(ctx context.Context, state request.Request, name string, qtype uint16) (*dns.Msg, error) {
	r := new(dns.Msg)
	r.SetQuestion(name, qtype)
	if w.k.Zones.Find(name) != nil {
		nw := nonwriter.New(state.W)
		_, err := w.k.ServeDNS(ctx, nw, r)
		return nw.Msg, err
	}
	m := new(dns.Msg)
	m.SetReply(r)
	soa := test.SOA("example.com. 60 IN SOA ns.example.com. h.example.com. 1 2 3 4 5")
	switch {
	case name == "gone.example.com.":
		m.Rcode, m.Ns = dns.RcodeNameError, []dns.RR{soa}
	case name == "fail.example.com.":
		m.Rcode = dns.RcodeServerFailure
	case name == "back.example.com.":
		m.Answer = []dns.RR{test.CNAME("back.example.com. 60 IN CNAME ExtBack.prod.svc.cluster.local.")}
	case name == "refused.example.com.":
		m.Rcode = dns.RcodeRefused
	case name != "www.example.com.":
		return nil, errors.New("no such thing in this world")
	case qtype == dns.TypeA:
		m.Answer = []dns.RR{test.A("www.example.com. 60 IN A 192.0.2.80")}
	case qtype == dns.TypeMX:
		m.Answer = []dns.RR{test.MX("www.example.com. 60 IN MX 10 mx.example.com.")}
	default:
		m.Ns = []dns.RR{soa}
	}
	return m, nil
}

// Every kind of name has a line in a table for every type of query.
func TestTablesAreComplete(t *testing.T) {
	asked := map[string]bool{}
	for _, table := range [][]behaviourGroup{behaviour, multicluster} {
		for _, group := range table {
			for line := range strings.Lines(strings.TrimSpace(group.queries)) {
				query, _, _ := strings.Cut(strings.TrimSpace(line), " = ")
				name, qtypes := typesOf(query)
				for _, qtype := range qtypes {
					asked[name+" "+qtype] = true
				}
			}
		}
	}
	for kind, name := range map[string]string{
		"service with a ClusterIP":            "web.prod.svc.cluster.local.",
		"ClusterIP of IPv6":                   "six.prod.svc.cluster.local.",
		"ClusterIPs of both families":         "dual.prod.svc.cluster.local.",
		"NodePort":                            "node.prod.svc.cluster.local.",
		"LoadBalancer":                        "lb.prod.svc.cluster.local.",
		"headless":                            "db.prod.svc.cluster.local.",
		"headless, no ready endpoint":         "noready.prod.svc.cluster.local.",
		"ExternalName":                        "ext.prod.svc.cluster.local.",
		"ExternalName, target does not exist": "extgone.prod.svc.cluster.local.",
		"ExternalName that is an address":     "extip.prod.svc.cluster.local.",
		"no service":                          "missing.prod.svc.cluster.local.",
		"endpoint of a ClusterIP":             "10-244-0-10.web.prod.svc.cluster.local.",
		"endpoint":                            "db-0.db.prod.svc.cluster.local.",
		"port of a ClusterIP":                 "_http._tcp.web.prod.svc.cluster.local.",
		"port of a headless service":          "_pg._tcp.db.prod.svc.cluster.local.",
		"protocol":                            "_tcp.web.prod.svc.cluster.local.",
		"pod":                                 "10-244-9-9.prod.pod.cluster.local.",
		"namespace":                           "prod.svc.cluster.local.",
		"branch svc":                          "svc.cluster.local.",
		"branch pod":                          "pod.cluster.local.",
		"branch dns":                          "dns.cluster.local.",
		"version":                             "dns-version.cluster.local.",
		"name server":                         "ns.dns.cluster.local.",
		"apex":                                "cluster.local.",
		"address":                             "10.0.96.10.in-addr.arpa.",
		"prefix":                              "96.10.in-addr.arpa.",
		"import with a ClusterSet IP":         "web.prod.svc.clusterset.local.",
		"ClusterSet IPs of both families":     "dual.prod.svc.clusterset.local.",
		"headless import":                     "db.prod.svc.clusterset.local.",
		"headless import, no ready endpoint":  "noready.prod.svc.clusterset.local.",
		"no import":                           "missing.prod.svc.clusterset.local.",
		"endpoint of an import":               "db-0.east.db.prod.svc.clusterset.local.",
		"port of an import":                   "_http._tcp.web.prod.svc.clusterset.local.",
		"cluster of an import":                "east.db.prod.svc.clusterset.local.",
	} {
		for _, qtype := range strings.Split("A,AAAA,SRV,ANY,"+others, ",") {
			if !asked[name+" "+qtype] {
				t.Errorf("no table has a line for %s: %s %s", kind, name, qtype)
			}
		}
	}
}

// Every kind of name is asked for every common type.
func TestBehaviourIsComplete(t *testing.T) {
	expectExistence(t, start(t, "pods verified\nzonal"), map[string]string{
		"web.prod.svc.cluster.local.":                 "NOERROR", // ClusterIP, IPv4
		"six.prod.svc.cluster.local.":                 "NOERROR", // ClusterIP, IPv6
		"dual.prod.svc.cluster.local.":                "NOERROR", // ClusterIP, dual stack
		"10-244-0-10.web.prod.svc.cluster.local.":     "NOERROR", // endpoint of a ClusterIP
		"db.prod.svc.cluster.local.":                  "NOERROR", // headless
		"db-0.db.prod.svc.cluster.local.":             "NOERROR", // endpoint with a hostname
		"_pg._tcp.db.prod.svc.cluster.local.":         "NOERROR", // port of a headless service
		"_http._tcp.web.prod.svc.cluster.local.":      "NOERROR", // port of a ClusterIP
		"_tcp.web.prod.svc.cluster.local.":            "NOERROR", // empty non-terminal
		"extip.prod.svc.cluster.local.":               "NXDOMAIN",
		"x.ext.prod.svc.cluster.local.":               "NXDOMAIN",
		"noready.prod.svc.cluster.local.":             "NXDOMAIN",
		"pod-0.noready.prod.svc.cluster.local.":       "NXDOMAIN",
		"missing.prod.svc.cluster.local.":             "NXDOMAIN",
		"missing.svc.cluster.local.":                  "NXDOMAIN",
		"prod.svc.cluster.local.":                     "NOERROR",
		"svc.cluster.local.":                          "NOERROR",
		"pod.cluster.local.":                          "NOERROR",
		"prod.pod.cluster.local.":                     "NOERROR",
		"10-244-9-9.prod.pod.cluster.local.":          "NOERROR",
		"1-2-3-4.prod.pod.cluster.local.":             "NXDOMAIN",
		"dns.cluster.local.":                          "NOERROR",
		"ns.dns.cluster.local.":                       "NOERROR",
		"dns-version.cluster.local.":                  "NOERROR",
		"cluster.local.":                              "NOERROR",
		"10.0.96.10.in-addr.arpa.":                    "NOERROR",
		"96.10.in-addr.arpa.":                         "NOERROR",
		"9.9.9.9.in-addr.arpa.":                       "NXDOMAIN",
		"in-addr.arpa.":                               "NOERROR",
		"zone-a.pin._zone.db.prod.svc.cluster.local.": "NOERROR",
		"zone-c.pin._zone.db.prod.svc.cluster.local.": "NOERROR",
		"_zone.db.prod.svc.cluster.local.":            "NOERROR",
	})
}

// expectExistence asks for every common type of each name: all must come to the
// rcode given.
func expectExistence(t *testing.T, k *Kubezone, rcodes map[string]string) {
	t.Helper()
	for name, rcode := range rcodes {
		for _, qtype := range []string{"A", "AAAA", "SRV", "TXT", "MX", "PTR", "NS", "SOA", "CNAME", "DS", "HTTPS", "CAA", "NAPTR", "ANY"} {
			r := new(dns.Msg)
			r.SetQuestion(name, typeOf(t, qtype))
			m := exchange(t, k, r)
			if got := dns.RcodeToString[m.Rcode]; got != rcode {
				t.Errorf("%s %s: %s; want %s, as existence does not depend on the type", name, qtype, got, rcode)
			}
			checkReply(t, name+" "+qtype, r, m)
			if len(m.Answer) == 0 && len(m.Ns) != 1 {
				t.Errorf("%s %s: a negative answer without SOA", name, qtype)
			}
		}
	}
}

func TestRDClearLeavesTheAliasAlone(t *testing.T) {
	k := start(t, "")
	r := new(dns.Msg)
	r.SetQuestion("extgone.prod.svc.cluster.local.", dns.TypeA)
	r.RecursionDesired = false
	m := exchange(t, k, r)
	if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 || len(m.Ns) != 0 {
		t.Errorf("got %v; want the CNAME alone", m)
	}
}

func TestNegativeTTL(t *testing.T) {
	for options, want := range map[string]uint32{"": 5, "negative_ttl 17": 17} {
		m := exchange(t, start(t, options), new(dns.Msg).SetQuestion("missing.prod.svc.cluster.local.", dns.TypeA))
		soa := m.Ns[0].(*dns.SOA)
		if soa.Hdr.Ttl != want || soa.Minttl != want {
			t.Errorf("%q: TTL %d, minimum %d; want %d", options, soa.Hdr.Ttl, soa.Minttl, want)
		}
	}
}

func TestTTL(t *testing.T) {
	m := exchange(t, start(t, ""), new(dns.Msg).SetQuestion("web.prod.svc.cluster.local.", dns.TypeA))
	if got := m.Answer[0].Header().Ttl; got != 30 {
		t.Errorf("TTL = %d; want 30", got)
	}
}

// An hour changes nothing in an answer: neither its TTL nor the serial is of the
// clock, whichever way that jumps.
func TestAnswersDoNotFollowTheClock(t *testing.T) {
	k := start(t, "")
	ask := func() string {
		var texts []string
		for _, question := range []string{"web.prod.svc.cluster.local.", "missing.prod.svc.cluster.local.", "cluster.local."} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeSOA} {
				m := exchange(t, k, new(dns.Msg).SetQuestion(question, qtype))
				m.Id = 0
				texts = append(texts, m.String())
			}
		}
		return strings.Join(texts, "\n")
	}
	synctest.Test(t, func(*testing.T) {
		before := ask()
		time.Sleep(time.Hour)
		if after := ask(); after != before {
			t.Errorf("after an hour:\n%s\nbefore:\n%s", after, before)
		}
	})
}

func TestRefusals(t *testing.T) {
	k := start(t, "")
	question := func(name string, qtype, class uint16, opcode int) *dns.Msg {
		r := new(dns.Msg).SetQuestion(name, qtype)
		r.Question[0].Qclass, r.Opcode = class, opcode
		return r
	}
	for name, c := range map[string]struct {
		r    *dns.Msg
		want int
	}{
		"class CH":           {question("web.prod.svc.cluster.local.", dns.TypeA, dns.ClassCHAOS, dns.OpcodeQuery), dns.RcodeRefused},
		"class ANY":          {question("web.prod.svc.cluster.local.", dns.TypeA, dns.ClassANY, dns.OpcodeQuery), dns.RcodeRefused},
		"NOTIFY":             {question("cluster.local.", dns.TypeSOA, dns.ClassINET, dns.OpcodeNotify), dns.RcodeNotImplemented},
		"UPDATE":             {question("cluster.local.", dns.TypeSOA, dns.ClassINET, dns.OpcodeUpdate), dns.RcodeNotImplemented},
		"AXFR at the apex":   {question("cluster.local.", dns.TypeAXFR, dns.ClassINET, dns.OpcodeQuery), dns.RcodeRefused},
		"IXFR at the apex":   {question("cluster.local.", dns.TypeIXFR, dns.ClassINET, dns.OpcodeQuery), dns.RcodeRefused},
		"AXFR below":         {question("svc.cluster.local.", dns.TypeAXFR, dns.ClassINET, dns.OpcodeQuery), dns.RcodeNotAuth},
		"AXFR, reverse zone": {question("in-addr.arpa.", dns.TypeAXFR, dns.ClassINET, dns.OpcodeQuery), dns.RcodeRefused},
	} {
		m := exchange(t, k, c.r)
		if m.Rcode != c.want || m.Authoritative {
			t.Errorf("%s: %s, AA %t; want %s without AA", name, dns.RcodeToString[m.Rcode], m.Authoritative, dns.RcodeToString[c.want])
		}
	}
}

func TestExplanations(t *testing.T) {
	for query, want := range map[string]string{
		"missing.prod.svc.cluster.local.":        "no such service in the namespace",
		"web.missing.svc.cluster.local.":         "no such namespace",
		"noready.prod.svc.cluster.local.":        "the service has no ready endpoint",
		"10-244-1-10.db.prod.svc.cluster.local.": "no ready endpoint of the service has this label: a pod needs hostname and subdomain set, and must be ready",
		"web.prod.svc.cluster.local.":            "the name has no record of this type",
	} {
		for options, wanted := range map[string]string{"": want, "explain off": ""} {
			r := new(dns.Msg).SetQuestion(query, dns.TypeTXT)
			r.SetEdns0(4096, true)
			m := exchange(t, start(t, options), r)
			opt := m.IsEdns0()
			if opt == nil || opt.UDPSize() != respond.MaxUDPSize || !opt.Do() {
				t.Fatalf("%s: OPT %v; want size %d and DO", query, opt, respond.MaxUDPSize)
			}
			text := ""
			for _, o := range opt.Option {
				text += o.(*dns.EDNS0_EDE).ExtraText
			}
			if text != wanted {
				t.Errorf("%s with %q: %q; want %q", query, options, text, wanted)
			}
		}
	}
}

// What went wrong behind an alias is told apart.
func TestAliasExplanations(t *testing.T) {
	k := start(t, "")
	for name, want := range map[string]uint16{
		"extfail.prod.svc.cluster.local.": dns.ExtendedErrorCodeNoReachableAuthority,
		"loop1.prod.svc.cluster.local.":   dns.ExtendedErrorCodeOther,
		"extback.prod.svc.cluster.local.": dns.ExtendedErrorCodeOther,
	} {
		r := new(dns.Msg).SetQuestion(name, dns.TypeA)
		r.SetEdns0(1232, false)
		opt := exchange(t, k, r).IsEdns0()
		if opt == nil || len(opt.Option) != 1 || opt.Option[0].(*dns.EDNS0_EDE).InfoCode != want {
			t.Errorf("%s: OPT %v; want the code %d alone", name, opt, want)
		}
	}
}

func TestNoOPTUnasked(t *testing.T) {
	m := exchange(t, start(t, ""), new(dns.Msg).SetQuestion("missing.prod.svc.cluster.local.", dns.TypeA))
	if m.IsEdns0() != nil {
		t.Error("an OPT record that was not asked for")
	}
}

func TestTransferEqualsQueries(t *testing.T) {
	k := start(t, "pods verified")
	for _, zone := range []string{"cluster.local.", "in-addr.arpa.", "ip6.arpa."} {
		seen := expectTransfer(t, k, zone)
		for _, want := range map[string][]string{
			"cluster.local.": {"web.prod.svc.cluster.local.A", "db.prod.svc.cluster.local.SRV", "_pg._tcp.db.prod.svc.cluster.local.SRV", "db-0.db.prod.svc.cluster.local.A", "ext.prod.svc.cluster.local.CNAME", "dns-version.cluster.local.TXT", "10-244-9-9.prod.pod.cluster.local.A", "cluster.local.NS"},
			"in-addr.arpa.":  {"10.1.244.10.in-addr.arpa.PTR", "10.0.96.10.in-addr.arpa.PTR"},
			"ip6.arpa.":      {"6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa.PTR"},
		}[zone] {
			if !seen[want] {
				t.Errorf("%s: %s is missing", zone, want)
			}
		}
	}
}

// expectTransfer compares a transfer of the zone with what queries are answered,
// and returns the names that it held, each with its type.
func expectTransfer(t *testing.T, k *Kubezone, zone string) map[string]bool {
	t.Helper()
	ch, err := k.Transfer(zone, 0)
	if err != nil {
		t.Fatal(err)
	}
	var rrsets [][]dns.RR
	for rrset := range ch {
		rrsets = append(rrsets, rrset)
	}
	first, last := rrsets[0][0], rrsets[len(rrsets)-1][0]
	if first.Header().Rrtype != dns.TypeSOA || !dns.IsDuplicate(first, last) {
		t.Errorf("%s: begins with %v and ends with %v; want the SOA", zone, first, last)
	}
	seen := map[string]bool{}
	for _, rrset := range rrsets[1 : len(rrsets)-1] {
		h := rrset[0].Header()
		if key := h.Name + dns.TypeToString[h.Rrtype]; seen[key] {
			t.Errorf("%s: %s comes twice", zone, key)
		} else {
			seen[key] = true
		}
		r := new(dns.Msg).SetQuestion(h.Name, h.Rrtype)
		r.RecursionDesired = false
		m := exchange(t, k, r)
		if !sameSet(m.Answer, rrset) {
			t.Errorf("%s: transferred %v; answered %v", zone, rrset, m.Answer)
		}
	}
	return seen
}

func sameSet(a, b []dns.RR) bool {
	text := func(rrs []dns.RR) []string {
		var s []string
		for _, rr := range rrs {
			s = append(s, rr.String())
		}
		slices.Sort(s)
		return s
	}
	return slices.Equal(text(a), text(b))
}

func TestTransferOfWhatTheClientHas(t *testing.T) {
	k := start(t, "")
	ch, err := k.Transfer("cluster.local.", k.Zones.Find("cluster.local.").Schema.SOA("cluster.local.").Serial)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for rrset := range ch {
		n += len(rrset)
	}
	if n != 1 {
		t.Errorf("%d records; want the SOA alone", n)
	}
}

func TestCacheIsBypassedWhereNothingFallsThrough(t *testing.T) {
	for options, want := range map[string][]string{
		"":                            {"cluster.local."},
		"fallthrough":                 nil,
		"fallthrough in-addr.arpa":    {"cluster.local."},
		"fallthrough x.cluster.local": nil,
	} {
		if got := start(t, options).CacheBypassZones(); !slices.Equal(got, want) {
			t.Errorf("%q: %v; want %v", options, got, want)
		}
	}
}

// What is denied is in no transfer, and metadata do not tell of it; who asks from
// there is still described.
func TestDeniedEverywhere(t *testing.T) {
	k := start(t, "pods verified\ndeny_namespaces public_suffixes\npod_ranges 10.244.0.0/16")
	for _, zone := range []string{"cluster.local.", "in-addr.arpa.", "ip6.arpa."} {
		for name := range expectTransfer(t, k, zone) {
			if strings.Contains(name, "prod") {
				t.Errorf("%s is transferred", name)
			}
		}
	}
	w := &test.ResponseWriter{RemoteIP: "10.244.9.9"}
	state := request.Request{W: w, Req: new(dns.Msg).SetQuestion("web.prod.svc.cluster.local.", dns.TypeA)}
	ctx := k.Metadata(metadata.ContextWithMetadata(context.Background()), state)
	if f := metadata.ValueFunc(ctx, "kubernetes/service"); f != nil {
		t.Errorf("metadata tells of service %q", f())
	}
	if f := metadata.ValueFunc(ctx, "kubernetes/client-namespace"); f == nil || f() != "prod" {
		t.Error("metadata do not say where the client is")
	}
	if path := k.AutoPath(state); path[0] != "prod.svc.cluster.local." {
		t.Errorf("AutoPath = %q; want that of the client's namespace, where nothing is found", path)
	}
}

func TestAutoPath(t *testing.T) {
	k := start(t, "pods verified")
	k.search = []string{"example.com."}
	state := request.Request{W: &test.ResponseWriter{RemoteIP: "10.244.9.9"}, Req: new(dns.Msg).SetQuestion("web.prod.svc.cluster.local.", dns.TypeA)}
	want := []string{"prod.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", "example.com.", ""}
	if got := k.AutoPath(state); !slices.Equal(got, want) {
		t.Errorf("AutoPath = %q; want %q", got, want)
	}
	state = request.Request{W: &test.ResponseWriter{RemoteIP: "10.244.9.11"}, Req: state.Req}
	if got := k.AutoPath(state); got != nil {
		t.Errorf("AutoPath of a stranger = %q; want none", got)
	}
}

func TestGate(t *testing.T) {
	k := start(t, "")
	g := respond.Gate{Next: k, Zones: k.Zones}
	w := dnstest.NewRecorder(&test.ResponseWriter{})
	r := new(dns.Msg).SetQuestion("web.prod.svc.cluster.local.", dns.TypeA)
	r.SetEdns0(4096, false)
	if _, err := g.ServeDNS(context.Background(), w, r); err != nil || r.IsEdns0().UDPSize() != respond.MaxUDPSize {
		t.Errorf("size %d, %v; want %d", r.IsEdns0().UDPSize(), err, respond.MaxUDPSize)
	}
	r.Extra = append(r.Extra, r.Extra[0])
	if rcode, _ := g.ServeDNS(context.Background(), w, r); rcode != dns.RcodeFormatError {
		t.Errorf("two OPT records: %s; want FORMERR", dns.RcodeToString[rcode])
	}
	out := new(dns.Msg).SetQuestion("example.com.", dns.TypeA)
	out.SetEdns0(4096, false)
	if _, err := g.ServeDNS(context.Background(), w, out); err != nil || out.IsEdns0().UDPSize() != 4096 {
		t.Errorf("outside our zones: size %d, %v; want 4096", out.IsEdns0().UDPSize(), err)
	}
}
