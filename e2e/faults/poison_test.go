package faults

import (
	"fmt"
	"strings"
	"time"

	"github.com/kubezone/kubezone/e2e/harness"
)

// atTheLimits are objects that the API server takes, each with something odd about it.
const atTheLimits = `
apiVersion: v1
kind: Service
metadata: {name: no-ports}
spec: {clusterIP: None}
---
apiVersion: v1
kind: Service
metadata: {name: looks-like-an-address}
spec: {type: ExternalName, externalName: 192.0.2.99}
---
apiVersion: v1
kind: Service
metadata: {name: LONGEST}
spec: {clusterIP: None, ports: [{name: web, port: 65535}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: nil-conditions, labels: {kubernetes.io/service-name: no-ports}}
addressType: IPv4
ports: []
endpoints:
- {addresses: [192.0.2.21]}
- {addresses: [192.0.2.21]}
- {addresses: [192.0.2.22], conditions: {ready: false, serving: true, terminating: true}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: null-ports, labels: {kubernetes.io/service-name: no-ports}}
addressType: IPv4
endpoints: []
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: nobody-ready, labels: {kubernetes.io/service-name: LONGEST}}
addressType: IPv4
ports: [{name: web, port: 65535}]
endpoints:
- {addresses: [192.0.2.23], hostname: LONGEST, conditions: {ready: false}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: of-nobody}
addressType: IPv4
endpoints:
- {addresses: [192.0.2.24]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: host-names, labels: {kubernetes.io/service-name: set}}
addressType: FQDN
endpoints:
- {addresses: [www.example.org]}
`

// pastTheLimits are objects that only etcd takes. NAMESPACE is that of the row.
var pastTheLimits = map[string]string{
	"services/specs/NAMESPACE/bad-ip": `{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bad-ip", "namespace": "NAMESPACE"},
		"spec": {"type": "ClusterIP", "clusterIP": "10.96.300.1", "clusterIPs": ["10.96.300.1"], "ports": [{"port": 0}, {"name": "` + strings.Repeat("p", 300) + `", "port": 80}]}}`,
	"services/specs/NAMESPACE/bad-alias": `{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bad-alias", "namespace": "NAMESPACE"},
		"spec": {"type": "ExternalName", "externalName": "` + strings.Repeat("x", 300) + `"}}`,
	"services/specs/NAMESPACE/" + strings.Repeat("n", 300): `{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "` + strings.Repeat("n", 300) + `", "namespace": "NAMESPACE"},
		"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77"], "ports": null}}`,
	"endpointslices/NAMESPACE/bad-addresses": `{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
		"metadata": {"name": "bad-addresses", "namespace": "NAMESPACE", "labels": {"kubernetes.io/service-name": "set"}},
		"addressType": "IPv4", "ports": [{"name": null, "port": null, "protocol": null}, {"port": 70000}],
		"endpoints": [{"addresses": ["192.0.2.300"]}, {"addresses": ["::ffff:192.0.2.1"]}, {"addresses": null}, {"addresses": ["192.0.2.1"], "hostname": "-bad.name"}, {}]}`,
	"endpointslices/NAMESPACE/bad-type": `{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
		"metadata": {"name": "bad-type", "namespace": "NAMESPACE", "labels": {"kubernetes.io/service-name": "set"}},
		"addressType": "IPX", "endpoints": [{"addresses": ["192.0.2.1"]}]}`,
}

// poison writes objects that are odd, and objects that are broken. They cost themselves only: what is beside them is
// answered as before, and goes on to be followed, by who was there before and by who comes later.
func (g *rig) poison() {
	longest := strings.Repeat("l", 63)
	if err := g.cluster.ApplyYAML(g.Context(), g.namespace, strings.ReplaceAll(atTheLimits, "LONGEST", longest)); err != nil {
		g.Fatal(err)
	}
	for key, object := range pastTheLimits {
		g.cluster.PutRaw(g, strings.ReplaceAll(key, "NAMESPACE", g.namespace), strings.ReplaceAll(object, "NAMESPACE", g.namespace))
	}
	g.create("late")
	g.converge(2 * time.Second)
	g.expectPoisonLeftOut(g.ours().server, longest)
	g.ours().logs(g, "Skipped in services "+g.namespace+"/bad-ip: ")
	second := &side{name: "second", proxy: g.ours().proxy, kubeconfig: g.ours().kubeconfig}
	second.server = g.serve(second, withOptions(""))
	second.server.AwaitReady(g)
	g.expectPoisonLeftOut(second.server, longest)
	time.Sleep(2 * time.Second) // asked meanwhile
}

func (g *rig) expectPoisonLeftOut(s *harness.Server, longest string) {
	g.Helper()
	suffix := "." + g.namespace + ".svc.cluster.local. "
	for question, want := range map[string]string{
		g.question("kept"):                     g.truth.now(g.question("kept")),
		g.question("late"):                     g.truth.now(g.question("late")),
		g.question("set"):                      g.truth.now(g.question("set")),
		"no-ports" + suffix + "A":              "A 192.0.2.21",
		"192-0-2-21.no-ports" + suffix + "A":   "A 192.0.2.21",
		"192-0-2-22.no-ports" + suffix + "A":   "NXDOMAIN",
		"looks-like-an-address" + suffix + "A": "NXDOMAIN",
		longest + suffix + "A":                 "NXDOMAIN",
		longest + "." + longest + suffix + "A": "NXDOMAIN",
		"bad-ip" + suffix + "A":                "NXDOMAIN",
		"bad-alias" + suffix + "A":             "NXDOMAIN",
		harness.Reverse("192.0.2.21") + " PTR": "PTR 192-0-2-21.no-ports." + g.namespace + ".svc.cluster.local.",
		harness.Reverse("192.0.2.24") + " PTR": "NXDOMAIN",
		harness.Reverse("10.96.0.77") + " PTR": "NXDOMAIN",
		harness.Reverse("192.0.2.1") + " PTR":  "PTR 192-0-2-1.set." + g.namespace + ".svc.cluster.local.",
	} {
		s.Expect(g, question, want)
	}
	for kind, atLeast := range map[string]float64{"services": 3, "endpointslices": 4} {
		name := fmt.Sprintf("coredns_kubezone_skipped_objects_total{kind=%q}", kind)
		if n := metric(g, s, name); n < atLeast {
			g.Errorf("%s is %g; want at least %g", name, n, atLeast)
		}
	}
}
