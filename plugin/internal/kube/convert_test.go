package kube

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

// text shows what the Index would be given, "" for nothing.
func (c converter) text(o runtime.Object, f *faults) string {
	var b strings.Builder
	switch o := o.(type) {
	case *corev1.Service:
		writeService(&b, c.service(o, f))
	case *mcs.ServiceImport:
		writeService(&b, c.serviceImport(o, f))
	case *discoveryv1.EndpointSlice:
		if o.Labels[mcs.LabelServiceName] != "" {
			writeSlice(&b, c.importedSlice(o, f))
		} else {
			writeSlice(&b, c.slice(o, f))
		}
	case *corev1.Pod:
		p := c.pod(o, f)
		if p == nil {
			return ""
		}
		fmt.Fprintf(&b, "%s@%d %v %v", keyText(p.ObjectKey), p.ResourceVersion, p.Addrs, maps.Collect(p.Labels.All))
		if p.Hidden {
			b.WriteString(" hidden")
		}
	case *corev1.Namespace:
		n := c.namespace(o, f)
		if n == nil {
			return ""
		}
		fmt.Fprintf(&b, "%s@%d", n.Name, n.ResourceVersion)
	}
	return b.String()
}

func writeService(b *strings.Builder, s *index.Service) {
	if s == nil {
		return
	}
	fmt.Fprintf(b, "%s@%d %s%v%s", keyText(s.ObjectKey), s.ResourceVersion,
		map[index.ServiceType]string{index.ClusterIP: "", index.Headless: "headless", index.ExternalName: "alias of "}[s.Type], s.ClusterIPs, s.ExternalName)
	writePorts(b, s.Ports)
	if s.External != nil {
		fmt.Fprintf(b, " from outside %v%v", s.External.Addrs, s.External.Hosts)
	}
}

func writeSlice(b *strings.Builder, s *index.Slice) {
	if s == nil {
		return
	}
	fmt.Fprintf(b, "%s@%d of %s", keyText(s.ObjectKey), s.ResourceVersion, s.Service)
	if s.Cluster != "" {
		fmt.Fprintf(b, " in %s", s.Cluster)
	}
	for i := range s.Len() {
		fmt.Fprintf(b, " %s=%s", s.Label(i), s.Addr(i))
	}
	writePorts(b, s.Ports)
}

func writePorts(b *strings.Builder, ports []index.Port) {
	for _, p := range ports {
		fmt.Fprintf(b, " %s:%d/%s", p.Name, p.Number, p.Protocol)
	}
}

func TestConvert(t *testing.T) {
	everything := Config{PodNames: true, TopologyZones: true, PodLabels: true}
	outside := Config{External: true}
	for _, c := range []struct {
		name   string
		config Config
		yaml   string
		want   string
		faults []reason
	}{
		// Services
		{"ClusterIP", Config{}, service(`clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1], ports: [{name: http, port: 80, protocol: TCP}]`),
			"prod/x@7 [10.0.0.1] http:80/tcp", nil},
		{"dual stack", Config{}, service(`clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, "fd00::1"]`), "prod/x@7 [10.0.0.1 fd00::1]", nil},
		{"clusterIP alone", Config{}, service(`clusterIP: 10.0.0.1`), "prod/x@7 [10.0.0.1]", nil},
		{"load balancer", Config{}, service(`type: LoadBalancer, clusterIP: 10.0.0.1, externalIPs: [192.0.2.1]`), "prod/x@7 [10.0.0.1]", nil},
		{"from outside", outside, ingress(service(`type: LoadBalancer, clusterIP: 10.0.0.1, externalIPs: [192.0.2.1, "2001:db8::1"]`), `{ip: 192.0.2.2}, {ip: 192.0.2.1}, {ip: 192.0.2.3, hostname: no.example.org}`),
			"prod/x@7 [10.0.0.1] from outside [192.0.2.1 2001:db8::1 192.0.2.2 192.0.2.3][]", nil},
		{"from outside, host names", outside, ingress(service(`type: LoadBalancer, clusterIP: 10.0.0.1`), `{hostname: b.example.org}, {hostname: A.example.org.}, {hostname: b.example.org}`),
			"prod/x@7 [10.0.0.1] from outside [][b.example.org. A.example.org.]", nil},
		{"from outside, headless", outside, service(`clusterIP: None, externalIPs: [192.0.2.1]`), "prod/x@7 headless[] from outside [192.0.2.1][]", nil},
		{"from outside, invalid", outside, ingress(service(`type: LoadBalancer, clusterIP: 10.0.0.1, externalIPs: [192.0.2.01]`), `{ip: x}, {hostname: "*.example.org"}, {}, {hostname: 192.0.2.9}`),
			"prod/x@7 [10.0.0.1]", []reason{badAddress, badAddress, badAddress, badAddress}},
		{"from outside, nowhere", outside, service(`clusterIP: 10.0.0.1`), "prod/x@7 [10.0.0.1]", nil},
		{"from outside, alias", outside, service(`type: ExternalName, externalName: example.org, externalIPs: [192.0.2.1]`), "prod/x@7 alias of []example.org.", nil},
		{"from outside, not asked for", Config{}, ingress(service(`type: LoadBalancer, clusterIP: 10.0.0.1, externalIPs: [x]`), `{ip: x}`), "prod/x@7 [10.0.0.1]", nil},
		{"protocols and case", Config{}, service(`clusterIP: 10.0.0.1, ports: [{port: 1}, {name: B, port: 2, protocol: UDP}, {name: c, port: 65535, protocol: SCTP}]`),
			"prod/x@7 [10.0.0.1] :1/tcp b:2/udp c:65535/sctp", nil},
		{"bad ports", Config{}, service(`clusterIP: 10.0.0.1, ports: [{port: 0}, {port: 65536}, {port: -1}, {port: 5, protocol: ICMP}, {port: 6, name: a_b}, {port: 7, name: ` + strings.Repeat("a", 63) + `}, {port: 80}]`),
			"prod/x@7 [10.0.0.1] :80/tcp", []reason{badPort, badPort, badPort, badPort, badPort, badPort}},
		{"headless", Config{}, service(`clusterIP: None, clusterIPs: [None], ports: [{name: sql, port: 5432}]`), "prod/x@7 headless[] sql:5432/tcp", nil},
		{"leading zeros", Config{}, service(`clusterIP: 010.0.0.1`), "", []reason{badClusterIP}},
		{"one bad address of two", Config{}, service(`clusterIPs: ["10.0.0.1", "fd00::g"]`), "prod/x@7 [10.0.0.1]", []reason{badClusterIP}},
		{"IPv4-mapped", Config{}, service(`clusterIP: "::ffff:10.0.0.1"`), "", []reason{badClusterIP}},
		{"IPv6 zone", Config{}, service(`clusterIP: "fe80::1%eth0"`), "", []reason{badClusterIP}},
		{"no address", Config{}, service(`type: ClusterIP`), "", []reason{badClusterIP}},
		{"ExternalName", Config{}, service(`type: ExternalName, externalName: Example.org`), "prod/x@7 alias of []Example.org.", nil},
		{"ExternalName, final dot", Config{}, service(`type: ExternalName, externalName: example.org., ports: [{port: 80}]`), "prod/x@7 alias of []example.org.", nil},
		{"ExternalName, underscore", Config{}, service(`type: ExternalName, externalName: _a.example.org`), "prod/x@7 alias of []_a.example.org.", nil},
		{"ExternalName, IPv4", Config{}, service(`type: ExternalName, externalName: 192.0.2.1`), "prod/x@7 alias of []192.0.2.1.", nil},
		{"ExternalName, two dots", Config{}, service(`type: ExternalName, externalName: example.org..`), "", []reason{badExternalName}},
		{"ExternalName, empty", Config{}, service(`type: ExternalName`), "", []reason{badExternalName}},
		{"ExternalName, root", Config{}, service(`type: ExternalName, externalName: .`), "", []reason{badExternalName}},
		{"ExternalName, label too long", Config{}, service(`type: ExternalName, externalName: ` + strings.Repeat("a", 64) + `.org`), "", []reason{badExternalName}},
		{"ExternalName, just short enough", Config{}, service(`type: ExternalName, externalName: ` + strings.Repeat("a.", 127)), "prod/x@7 alias of []" + strings.Repeat("a.", 127), nil},
		{"ExternalName, too long", Config{}, service(`type: ExternalName, externalName: ` + strings.Repeat("a.", 127) + "a"), "", []reason{badExternalName}},
		{"ExternalName, wildcard", Config{}, service(`type: ExternalName, externalName: "*.example.org"`), "", []reason{badExternalName}},
		{"name too long", Config{}, strings.ReplaceAll(service(`clusterIP: 10.0.0.1`), "name: x", "name: "+strings.Repeat("x", 300)), "", []reason{badName}},
		{"name with a dot", Config{}, strings.ReplaceAll(service(`clusterIP: 10.0.0.1`), "name: x", "name: x.y"), "", []reason{badName}},
		{"name in capitals", Config{}, strings.ReplaceAll(service(`clusterIP: 10.0.0.1`), "name: x", "name: X"), "", []reason{badName}},
		{"name that begins with a digit", Config{}, strings.ReplaceAll(service(`clusterIP: 10.0.0.1`), "name: x", "name: 1x"), "prod/1x@7 [10.0.0.1]", nil},
		{"bad namespace", Config{}, strings.ReplaceAll(service(`clusterIP: 10.0.0.1`), "prod", "pr_od"), "", []reason{badName}},
		{"odd resource version", Config{}, strings.ReplaceAll(service(`clusterIP: 10.0.0.1`), `"7"`, `"7a"`), "prod/x@0 [10.0.0.1]", nil},
		{"namespace that is not shown", Config{Namespaces: []string{"dev"}}, service(`clusterIP: 10.0.0.1`), "", nil},
		{"namespace that is shown", Config{Namespaces: []string{"prod"}}, service(`clusterIP: 10.0.0.1`), "prod/x@7 [10.0.0.1]", nil},

		// EndpointSlices
		{"slice", Config{}, slice(`IPv4`, `[{name: http, port: 80, protocol: TCP}]`, `{addresses: [10.0.0.2]}, {addresses: [10.0.0.1]}`),
			"prod/x-1@7 of x =10.0.0.1 =10.0.0.2 http:80/tcp", nil},
		{"conditions", Config{}, slice(`IPv4`, `null`, `{addresses: [10.0.0.1], conditions: {ready: true}}, {addresses: [10.0.0.2], conditions: {ready: false, serving: true}}, {addresses: [10.0.0.3], conditions: {terminating: true}}`),
			"prod/x-1@7 of x =10.0.0.1 =10.0.0.3", nil},
		{"several addresses of an endpoint", Config{}, slice(`IPv4`, `null`, `{addresses: [10.0.0.1, 10.0.0.2], hostname: A}`), "prod/x-1@7 of x a=10.0.0.1 a=10.0.0.2", nil},
		{"IPv6", Config{}, slice(`IPv6`, `null`, `{addresses: ["fd00::1"]}`), "prod/x-1@7 of x =fd00::1", nil},
		{"IPv6 in many spellings", Config{}, slice(`IPv6`, `null`, `{addresses: ["FD00:0:0::0001"]}, {addresses: ["fd00::1"]}`), "prod/x-1@7 of x =fd00::1", nil},
		{"wrong family", Config{}, slice(`IPv6`, `null`, `{addresses: [10.0.0.1]}, {addresses: ["fd00::1"]}`), "prod/x-1@7 of x =fd00::1", []reason{badAddress}},
		{"IPv4-mapped in IPv6", Config{}, slice(`IPv6`, `null`, `{addresses: ["::ffff:10.0.0.1"]}`), "prod/x-1@7 of x", []reason{badAddress}},
		{"zone", Config{}, slice(`IPv6`, `null`, `{addresses: ["fe80::1%eth0"]}`), "prod/x-1@7 of x", []reason{badAddress}},
		{"leading zeros in a slice", Config{}, slice(`IPv4`, `null`, `{addresses: [010.0.0.1]}, {addresses: [10.0.0.1]}`), "prod/x-1@7 of x =10.0.0.1", []reason{badAddress}},
		{"host names", Config{}, slice(`FQDN`, `null`, `{addresses: [example.org]}`), "", nil},
		{"unknown address type", Config{}, slice(`IPX`, `null`, `{addresses: [a]}`), "", []reason{badAddress}},
		{"no Service", Config{}, strings.ReplaceAll(slice(`IPv4`, `null`, `{addresses: [10.0.0.1]}`), "kubernetes.io/service-name", "app"), "", nil},
		{"no endpoints", Config{}, slice(`IPv4`, `null`, ``), "prod/x-1@7 of x", nil},
		{"null ports", Config{}, slice(`IPv4`, `[{name: null, port: null, protocol: null}, {port: 53}]`, `{addresses: [10.0.0.1]}`), "prod/x-1@7 of x =10.0.0.1 :53/tcp", nil},
		{"bad hostname", Config{}, slice(`IPv4`, `null`, `{addresses: [10.0.0.1], hostname: a.b}, {addresses: [10.0.0.2], hostname: b}`), "prod/x-1@7 of x b=10.0.0.2", []reason{badName}},
		{"pod name not asked for", Config{}, slice(`IPv4`, `null`, `{addresses: [10.0.0.1], targetRef: {kind: Pod, name: web-1}}`), "prod/x-1@7 of x =10.0.0.1", nil},
		{"pod name", everything, slice(`IPv4`, `null`, `{addresses: [10.0.0.1], targetRef: {kind: Pod, name: web-1}}`), "prod/x-1@7 of x web-1=10.0.0.1", nil},
		{"pod name and hostname", everything, slice(`IPv4`, `null`, `{addresses: [10.0.0.1], hostname: h, targetRef: {kind: Pod, name: web-1}}`), "prod/x-1@7 of x h=10.0.0.1", nil},
		{"pod name of two labels", everything, slice(`IPv4`, `null`, `{addresses: [10.0.0.1], targetRef: {kind: Pod, name: web.1}}`), "prod/x-1@7 of x =10.0.0.1", nil},
		{"target that is no pod", everything, slice(`IPv4`, `null`, `{addresses: [10.0.0.1], targetRef: {kind: Node, name: web-1}}`), "prod/x-1@7 of x =10.0.0.1", nil},

		// ServiceImports
		{"ClusterSet IP", Config{}, serviceImport(`type: ClusterSetIP, ips: [10.0.0.1], ports: [{name: HTTP, port: 80}]`), "prod/x@7 [10.0.0.1] http:80/tcp", nil},
		{"ClusterSet IP, dual stack", Config{}, serviceImport(`type: ClusterSetIP, ips: [10.0.0.1, "fd00::1"]`), "prod/x@7 [10.0.0.1 fd00::1]", nil},
		{"ClusterSet IP, none yet", Config{}, serviceImport(`type: ClusterSetIP`), "", nil},
		{"ClusterSet IP, bad", Config{}, serviceImport(`type: ClusterSetIP, ips: [010.0.0.1]`), "", []reason{badClusterIP}},
		{"ClusterSet IP, one bad of two", Config{}, serviceImport(`type: ClusterSetIP, ips: [10.0.0.1, x], ports: [{port: 0}]`), "prod/x@7 [10.0.0.1]", []reason{badPort, badClusterIP}},
		{"headless import", Config{}, serviceImport(`type: Headless, ips: [10.0.0.1]`), "prod/x@7 headless[]", nil},
		{"headless import of the older version", Config{}, strings.ReplaceAll(serviceImport(`type: Headless, ports: [{name: a, port: 1, protocol: UDP}]`), "v1beta1", "v1alpha1"), "prod/x@7 headless[] a:1/udp", nil},
		{"import of no known type", Config{}, serviceImport(`type: SuperclusterIP, ips: [10.0.0.1]`), "", []reason{badType}},
		{"import without type", Config{}, serviceImport(`ips: [10.0.0.1]`), "", []reason{badType}},
		{"import, name with a dot", Config{}, strings.ReplaceAll(serviceImport(`type: Headless`), "name: x", "name: x.y"), "", []reason{badName}},
		{"import of a namespace that is not shown", Config{Namespaces: []string{"dev"}}, serviceImport(`type: ""`), "", nil},

		// EndpointSlices of ServiceImports
		{"imported slice", Config{}, importedSlice("east", `{addresses: [10.0.0.2]}, {addresses: [10.0.0.1], hostname: A}`), "prod/x-1@7 of x in east a.east=10.0.0.1 10-0-0-2.east=10.0.0.2", nil},
		{"cluster ID of two labels", Config{}, importedSlice("west.eu", `{addresses: [10.0.0.1], hostname: a}`), "prod/x-1@7 of x in west.eu a.west.eu=10.0.0.1", nil},
		{"cluster ID in capitals", Config{}, importedSlice("East", `{addresses: [10.0.0.1], hostname: a}`), "prod/x-1@7 of x in east a.east=10.0.0.1", nil},
		{"cluster ID of three labels", Config{}, importedSlice("a.b.c", `{addresses: [10.0.0.1]}`), "", []reason{badCluster}},
		{"cluster ID with an underscore", Config{}, importedSlice("a_b", `{addresses: [10.0.0.1]}`), "", []reason{badCluster}},
		{"no cluster ID", Config{}, strings.ReplaceAll(importedSlice("east", `{addresses: [10.0.0.1]}`), "source-cluster", "other"), "", []reason{badCluster}},
		{"imported slice, not ready", Config{}, importedSlice("east", `{addresses: [10.0.0.1], conditions: {ready: false}}`), "prod/x-1@7 of x in east", nil},
		{"imported slice, pod name", everything, importedSlice("east", `{addresses: [10.0.0.1], targetRef: {kind: Pod, name: web-1}}`), "prod/x-1@7 of x in east web-1.east=10.0.0.1", nil},
		{"imported slice of a namespace that is not shown", Config{Namespaces: []string{"dev"}}, importedSlice("", `{addresses: [x]}`), "", nil},

		// Pods
		{"pod", Config{}, pod(`phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]`), "prod/x@7 [10.0.0.1 fd00::1] map[]", nil},
		{"podIP alone", Config{}, pod(`phase: Running, podIP: 10.0.0.1`), "prod/x@7 [10.0.0.1] map[]", nil},
		{"no address yet", Config{}, pod(`phase: Pending`), "", nil},
		{"pod that succeeded", Config{}, pod(`phase: Succeeded, podIP: 10.0.0.1`), "", nil},
		{"pod that failed", Config{}, pod(`phase: Failed, podIP: 10.0.0.1`), "", nil},
		{"pod of an unknown fate", Config{}, pod(`phase: Unknown, podIP: 10.0.0.1`), "", nil},
		{"terminating pod", Config{}, strings.ReplaceAll(pod(`phase: Running, podIP: 10.0.0.1`), "name: x", "name: x, deletionTimestamp: '2026-01-01T00:00:00Z'"), "", nil},
		{"bad podIP", Config{}, pod(`podIPs: [{ip: 010.0.0.1}, {ip: "fd00::1"}]`), "prod/x@7 [fd00::1] map[]", []reason{badAddress}},
		{"pod labels", everything, pod(`podIP: 10.0.0.1`), "prod/x@7 [10.0.0.1] map[app:web]", nil},
		{"pod that is selected", Config{Labels: "app=web"}, pod(`podIP: 10.0.0.1`), "prod/x@7 [10.0.0.1] map[]", nil},
		{"pod that is not selected", Config{Labels: "app=db"}, pod(`podIP: 10.0.0.1`), "prod/x@7 [10.0.0.1] map[] hidden", nil},
		{"pod of a namespace that is not shown", Config{Namespaces: []string{"dev"}}, pod(`podIP: 10.0.0.1`), "prod/x@7 [10.0.0.1] map[]", nil},

		// Namespaces
		{"namespace", Config{}, `{apiVersion: v1, kind: Namespace, metadata: {name: prod, resourceVersion: "7"}}`, "prod@7", nil},
		{"namespace in capitals", Config{}, `{apiVersion: v1, kind: Namespace, metadata: {name: Prod}}`, "", []reason{badName}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, selector, err := c.config.selectors()
			if err != nil {
				t.Fatal(err)
			}
			var f faults
			if got := (converter{config: c.config, labels: selector}).text(decode(t, c.yaml)[0], &f); got != c.want {
				t.Errorf("%s; want %s", got, c.want)
			}
			var got []reason
			for _, fault := range f {
				got = append(got, fault.reason)
			}
			if !slices.Equal(got, c.faults) {
				t.Errorf("faults = %v (%v); want %v", got, f, c.faults)
			}
		})
	}
}

func service(spec string) string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Service, metadata: {name: x, namespace: prod, resourceVersion: "7"}, spec: {%s}}`, spec)
}

// ingress ends a service that has a load balancer.
func ingress(service, list string) string {
	return strings.TrimSuffix(service, "}") + fmt.Sprintf(`, status: {loadBalancer: {ingress: [%s]}}}`, list)
}

func slice(family, ports, endpoints string) string {
	return fmt.Sprintf(`{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: x-1, namespace: prod, resourceVersion: "7", labels: {kubernetes.io/service-name: x}}, addressType: %s, ports: %s, endpoints: [%s]}`,
		family, ports, endpoints)
}

func serviceImport(spec string) string {
	return fmt.Sprintf(`{apiVersion: multicluster.x-k8s.io/v1beta1, kind: ServiceImport, metadata: {name: x, namespace: prod, resourceVersion: "7"}, spec: {%s}}`, spec)
}

func importedSlice(cluster, endpoints string) string {
	return fmt.Sprintf(`{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: x-1, namespace: prod, resourceVersion: "7", labels: {multicluster.kubernetes.io/service-name: x, multicluster.kubernetes.io/source-cluster: %q}}, addressType: IPv4, endpoints: [%s]}`,
		cluster, endpoints)
}

func pod(status string) string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: x, namespace: prod, resourceVersion: "7", labels: {app: web}}, status: {%s}}`, status)
}

// A namespace that the Namespaces or Denied option leaves out is passed over on arrival,
// as what is in it is: the Index would not hold it, and the self-check would
// miss it for ever.
func TestNamespaceLeftOut(t *testing.T) {
	c := converter{config: Config{Namespaces: []string{"prod", "com", "io"}, Denied: index.Denial{Names: []string{"com"}, PublicSuffixes: true, Except: []string{"prod"}}}}
	for name, want := range map[string]bool{"prod": true, "kube-system": false, "com": false, "io": false} {
		var f faults
		o := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if got := c.namespace(o, &f); (got != nil) != want || len(f) > 0 {
			t.Errorf("namespace %s: %v, %v; want it kept: %t", name, got, f, want)
		}
	}
}
