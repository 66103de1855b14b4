package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Every Corefile starts as it is shipped but for its ports, the place of the service account and the servers upstream:
// with a manifest it answers, and without an API server its port is open all the same.
func TestCorefilesStart(t *testing.T) {
	corefiles, err := filepath.Glob(filepath.Join(top, "corefile", "*", "Corefile*"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"demo/Corefile", "kube-system/Corefile", "kube-system/Corefile.classic", "kubeconfig/Corefile", "kubezone/Corefile", "node-local/Corefile", "node-local/Corefile.authority"}
	for _, shipped := range corefiles {
		name, err := filepath.Rel(filepath.Join(top, "corefile"), shipped)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(want, name) {
			t.Errorf("%s is not in this test's list %q", name, want)
		}
		want = slices.DeleteFunc(want, func(other string) bool { return other == name })

		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(shipped)
			if err != nil {
				t.Fatal(err)
			}
			folder := t.TempDir()
			kubeconfig := filepath.Join(folder, "kubeconfig")
			write(t, kubeconfig, unreachable)
			corefile := filepath.Join(folder, "Corefile")
			write(t, corefile, movedTo(t, folder, string(text)))
			environment := []string{"KUBECONFIG=" + kubeconfig}
			forwards := strings.Contains(string(text), "clusterdns")
			if forwards { // to the cluster's DNS, which is the demo here
				upstream, _ := startDemo(t)
				environment = append(environment, "KUBE_DNS_UPSTREAM_SERVICE_HOST="+upstream.address)
			}
			server := start(t, corefile, environment...)

			// Stock CoreDNS opens its port only after startup_timeout, 5 s, if the API server is away.
			server.wantsWithin(t, 4*time.Second, "dns-version.cluster.local. TXT", `"1.1.0"`)
			if forwards || strings.Contains(string(text), "manifests") {
				server.wants(t, "kubernetes.default.svc.cluster.local. A", "10.96.0.1")
			} else {
				server.wants(t, "kubernetes.default.svc.cluster.local. A", "SERVFAIL")
			}
		})
	}
	if len(want) > 0 {
		t.Errorf("corefile/ has no %q", want)
	}
}

// unreachable is a kubeconfig whose API server is not there: nobody listens on port 1.
const unreachable = `apiVersion: v1
kind: Config
clusters:
- name: away
  cluster:
    server: https://127.0.0.1:1
contexts:
- name: away
  context:
    cluster: away
    user: nobody
current-context: away
users:
- name: nobody
  user:
    token: none
`

// movedTo returns a Corefile changed so that it runs beside others on this machine: free ports, a kubeconfig in folder
// in place of a service account, and an upstream that is not there (RFC 5737).
func movedTo(t *testing.T, folder, corefile string) string {
	t.Helper()
	resolvConf := filepath.Join(folder, "resolv.conf")
	write(t, resolvConf, "nameserver 192.0.2.53\n")
	own := func() string { return "127.0.0.1:" + strconv.Itoa(freePort(t)) }

	moved := serverKey.ReplaceAllString(corefile, "$1:"+strconv.Itoa(freePort(t))+" {")
	for _, change := range []struct{ from, to string }{
		{`(?m)^    nodelocal .*`, "    bind 127.0.0.1"}, // its addresses and rules are tested in networks of their own
		{`(?m)^    health\b( 169\S+)?`, "    health " + own()},
		{`(?m)^    ready\b( 169\S+)?`, "    ready " + own()},
		{`(?m)^    prometheus :9[12]53$`, "    prometheus " + own()},
		{`/etc/resolv\.conf`, resolvConf},
	} {
		moved = regexp.MustCompile(change.from).ReplaceAllString(moved, change.to)
	}
	if !strings.Contains(moved, "manifests ") && !strings.Contains(moved, "kubeconfig ") {
		inCluster := regexp.MustCompile(`(?m)^    (kubernetes|kubezone|clusterdns) .* \{$`)
		if !inCluster.MatchString(moved) {
			t.Fatalf("no block of kubernetes, kubezone or clusterdns in\n%s", moved)
		}
		moved = inCluster.ReplaceAllString(moved, "$0\n        kubeconfig "+filepath.Join(folder, "kubeconfig"))
	}
	return moved
}

// What the comments in the demo's manifests say.
func TestDemoAnswers(t *testing.T) {
	server, _ := startDemo(t)
	for _, test := range []struct {
		question string
		want     []string
	}{
		{"kubernetes.default.svc.cluster.local. A", []string{"10.96.0.1"}},
		{"_https._tcp.kubernetes.default.svc.cluster.local. SRV", []string{"0 100 443 kubernetes.default.svc.cluster.local."}},
		{"1.0.96.10.in-addr.arpa. PTR", []string{"kubernetes.default.svc.cluster.local."}},

		{"kube-dns.kube-system.svc.cluster.local. A", []string{"10.96.0.10"}},
		{"_dns._udp.kube-dns.kube-system.svc.cluster.local. SRV", []string{"0 100 53 kube-dns.kube-system.svc.cluster.local."}},

		{"nginx-service.default.svc.cluster.local. A", []string{"10.96.45.12"}},
		{"nginx-service.default.svc.cluster.local. AAAA", []string{"NODATA"}},
		{"_http._tcp.nginx-service.default.svc.cluster.local. SRV", []string{"0 100 5000 nginx-service.default.svc.cluster.local."}},
		{"12.45.96.10.in-addr.arpa. PTR", []string{"nginx-service.default.svc.cluster.local."}},

		{"nginx.default.svc.cluster.local. A", []string{"10.244.1.11", "10.244.2.11"}},
		{"nginx-86c57bc6b8-5kqwz.nginx.default.svc.cluster.local. A", []string{"NXDOMAIN"}},
		{"10-244-1-11.nginx.default.svc.cluster.local. A", []string{"10.244.1.11"}},

		{"busybox-1.default-subdomain.default.svc.cluster.local. A", []string{"10.244.1.21"}},
		{"busybox-2.default-subdomain.default.svc.cluster.local. A", []string{"10.244.2.21"}},
		{"busybox1.default-subdomain.default.svc.cluster.local. A", []string{"NXDOMAIN"}},
		{"default-subdomain.default.svc.cluster.local. A", []string{"10.244.1.21", "10.244.2.21"}},
		{"21.2.244.10.in-addr.arpa. PTR", []string{"busybox-2.default-subdomain.default.svc.cluster.local."}},

		{"etcd-0.etcd-headless.default.svc.cluster.local. A", []string{"10.244.1.31"}},
		{"etcd-1.etcd-headless.default.svc.cluster.local. A", []string{"10.244.2.31"}},
		{"etcd-2.etcd-headless.default.svc.cluster.local. A", []string{"10.244.1.32"}},
		{"_peer._tcp.etcd-headless.default.svc.cluster.local. SRV", []string{
			"0 33 2380 etcd-0.etcd-headless.default.svc.cluster.local.",
			"0 33 2380 etcd-1.etcd-headless.default.svc.cluster.local.",
			"0 33 2380 etcd-2.etcd-headless.default.svc.cluster.local.",
		}},

		{"nginx.nginx.shared.svc.cluster.local. A", []string{"10.244.1.41", "10.244.2.41"}},

		{"database.default.svc.cluster.local. A", []string{"db.example.net.", "203.0.113.10"}},
		{"database.default.svc.cluster.local. AAAA", []string{"db.example.net.", "2001:db8::10"}},
		{"database.default.svc.cluster.local. CNAME", []string{"db.example.net."}},

		{"dual-stack.default.svc.cluster.local. A", []string{"10.96.200.7"}},
		{"dual-stack.default.svc.cluster.local. AAAA", []string{"fd00:10:96::c807"}},
		{"_http._tcp.dual-stack.default.svc.cluster.local. SRV", []string{"0 100 80 dual-stack.default.svc.cluster.local."}},

		{"10-244-1-11.default.pod.cluster.local. A", []string{"10.244.1.11"}},
		{"10-244-9-99.default.pod.cluster.local. A", []string{"NXDOMAIN"}},
		{"nothing.default.svc.cluster.local. A", []string{"NXDOMAIN"}},
		{"default.svc.cluster.local. A", []string{"NODATA"}},
	} {
		server.wants(t, test.question, test.want...)
	}
}

// An edit of a manifest shows within a second. A broken one is refused with its file and line, and nothing is lost.
func TestDemoFollowsEdits(t *testing.T) {
	server, manifests := startDemo(t)
	question := "nginx-service.default.svc.cluster.local. A"
	server.wants(t, question, "10.96.45.12")

	manifest := filepath.Join(manifests, "nginx-service.yaml")
	content, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.ReplaceAll(string(content), "10.96.45.12", "10.96.45.13")
	write(t, manifest, edited)
	server.wantsWithin(t, time.Second, question, "10.96.45.13")

	before, _, found := strings.Cut(edited, "  clusterIP: ")
	if !found {
		t.Fatalf("%s: no clusterIP", manifest)
	}
	broken := strings.Count(before, "\n") + 1
	write(t, manifest, strings.Replace(edited, "  clusterIP: ", " \tclusterIP: ", 1))
	server.logs(t, fmt.Sprintf("%s:%d", manifest, broken))
	server.wants(t, question, "10.96.45.13")

	write(t, manifest, string(content))
	server.wantsWithin(t, time.Second, question, "10.96.45.12")
}

// What `make run` proposes has an answer.
func TestProposedQueriesAreAnswered(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(top, "corefile", "demo", "try.txt"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 5 {
		t.Fatalf("%d lines; want five commands to try", len(lines))
	}
	server, _ := startDemo(t)
	proposal := regexp.MustCompile(`^dig @127\.0\.0\.1 -p 1053 \+short (?:-x (\S+)|(?:([A-Z]+) )?(\S+))$`)
	for _, line := range lines {
		part := proposal.FindStringSubmatch(line)
		if part == nil {
			t.Errorf("%q; want a dig command of the form %s", line, proposal)
			continue
		}
		question := part[3] + ". " + part[2]
		switch {
		case part[1] != "":
			question = reverse(t, part[1]) + " PTR"
		case part[2] == "":
			question += "A"
		}
		for _, rdata := range server.ask(question) {
			if slices.Contains([]string{"NODATA", "NXDOMAIN", "SERVFAIL", "REFUSED"}, rdata) {
				t.Errorf("%s: %s", line, rdata)
			}
		}
	}
}

// startDemo serves a copy of the demo on a port of its own, and returns the folder of the copied manifests.
func startDemo(t *testing.T) (*server, string) {
	t.Helper()
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS(filepath.Join(top, "corefile", "demo"))); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(folder, "Corefile"))
	if err != nil {
		t.Fatal(err)
	}
	corefile := filepath.Join(folder, "moved")
	write(t, corefile, strings.ReplaceAll(movedTo(t, folder, string(text)), "corefile/demo", folder))
	server := start(t, corefile)
	server.wants(t, "kubernetes.default.svc.cluster.local. A", "10.96.0.1")
	return server, filepath.Join(folder, "manifests")
}

// reverse returns the name under which PTR records of an address are found.
func reverse(t *testing.T, address string) string {
	t.Helper()
	name, err := dns.ReverseAddr(address)
	if err != nil {
		t.Fatal(err)
	}
	return name
}
