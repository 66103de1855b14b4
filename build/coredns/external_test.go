package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// A Corefile of stock CoreDNS that serves a cluster inside and outside means the same here, and what the load balancer
// gets is answered when it gets it.
func TestExternalNames(t *testing.T) {
	folder := t.TempDir()
	manifest := filepath.Join(folder, "web.yaml")
	before := `apiVersion: v1
kind: Service
metadata: {name: web, namespace: prod}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.10
  ports: [{name: https, port: 443}]
`
	write(t, manifest, before)
	corefile := filepath.Join(folder, "Corefile")
	write(t, corefile, fmt.Sprintf(`.:%d {
    bind 127.0.0.1
    errors
    cache 30
    loadbalance
    template IN A lb.example.net {
        answer "{{ .Name }} 60 IN A 203.0.113.7"
    }
    transfer example.org {
        to *
    }
    kubernetes cluster.local {
        manifests %s
    }
    k8s_external example.org 192.0.2.0/24
}
`, freePort(t), folder))
	server := start(t, corefile)
	server.wants(t, "web.prod.svc.cluster.local. A", "10.96.0.10")
	server.wants(t, "web.prod.example.org. A", "NXDOMAIN")
	server.wants(t, "ns1.dns.example.org. A", "127.0.0.1")

	write(t, manifest, before+"status: {loadBalancer: {ingress: [{ip: 192.0.2.1}, {ip: \"2001:db8::1\"}]}}\n")
	server.wants(t, "web.prod.example.org. A", "192.0.2.1")
	server.wants(t, "web.prod.example.org. AAAA", "2001:db8::1")
	server.wants(t, "_https._tcp.web.prod.example.org. SRV", "0 100 443 web.prod.example.org.")
	server.wants(t, "1.2.0.192.in-addr.arpa. PTR", "web.prod.example.org.")
	server.wants(t, "web.prod.svc.cluster.local. A", "10.96.0.10")

	write(t, manifest, before+"status: {loadBalancer: {ingress: [{hostname: lb.example.net}]}}\n")
	server.wants(t, "web.prod.example.org. A", "lb.example.net.", "203.0.113.7")
	server.wants(t, "1.2.0.192.in-addr.arpa. PTR", "NXDOMAIN")
}

// A reload may add external zones, for which what is followed has to be read anew, and may take them away.
func TestReloadOfExternalNames(t *testing.T) {
	folder := t.TempDir()
	write(t, filepath.Join(folder, "web.yaml"), `{apiVersion: v1, kind: Service, metadata: {name: web, namespace: prod},
  spec: {clusterIP: 10.96.0.10, externalIPs: [192.0.2.1], ports: [{name: https, port: 443}]}}
`)
	corefile := filepath.Join(t.TempDir(), "Corefile")
	before := fmt.Sprintf(".:%d {\n    bind 127.0.0.1\n    reload 2s 1s\n    kubezone cluster.local {\n        manifests %s\n    }\n}\n", freePort(t), folder)
	write(t, corefile, before)
	server := start(t, corefile)
	server.wants(t, "web.prod.svc.cluster.local. A", "10.96.0.10")
	server.wants(t, "web.prod.example.org. A", "SERVFAIL") // no plugin answers

	write(t, corefile, strings.Replace(before, "    reload", "    k8s_external example.org\n    reload", 1))
	server.wants(t, "web.prod.example.org. A", "192.0.2.1")
	server.wants(t, "web.prod.svc.cluster.local. A", "10.96.0.10")

	write(t, corefile, before)
	server.wants(t, "web.prod.example.org. A", "SERVFAIL")
	server.wants(t, "web.prod.svc.cluster.local. A", "10.96.0.10")
}

func TestExternalNamesNeedTheirPartner(t *testing.T) {
	corefile := filepath.Join(t.TempDir(), "Corefile")
	write(t, corefile, strings.Join([]string{".:0 {", "    bind 127.0.0.1", "    k8s_external example.org", "    whoami", "}", ""}, "\n"))
	refused(t, corefile, corefile+":3: want the kubernetes or kubezone directive of this project in the same server block")
}
