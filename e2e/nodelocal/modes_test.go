package nodelocal

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/e2e/harness"
)

// cacheDNS is a cache on the node whose positive answers are old after a second.
const cacheDNS = `.:53 {
	nodelocal 169.254.20.10 10.96.0.10 fd00:169::10 fd00:10:96::a {
		fallback 10.244.1.2 10.244.2.2 fd00:244:1::2 fd00:244:2::2
	}
	udpbatch
	errors
	cache {
		success 1000 1 1
		serve_stale 1h verify 200ms
	}
	clusterdns cluster.local {
		to 10.244.1.2 10.244.2.2
	}
}
`

// lookUp asks from the pod and returns the answer as text.
func (r *rig) lookUp(t *testing.T, name, to string) (answer string, took time.Duration) {
	t.Helper()
	began := time.Now()
	reply, err := exchange(r.pod, "udp", to, new(dns.Msg).SetQuestion(name, dns.TypeA))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return harness.Text(reply), time.Since(began)
}

// With one of the cluster's DNS servers gone the cache asks the other, and with both gone it answers what it knows.
func TestCacheOutlivesClusterDNS(t *testing.T) {
	const known, unknown = "kubernetes.default.svc.cluster.local.", "nginx-service.default.svc.cluster.local."
	r := newRig(t)
	r.awaitSwitch(t, startDNS(t, r.node, cacheDNS))
	for _, to := range asked {
		if got, _ := r.lookUp(t, known, to); got != "A 10.96.0.1" {
			t.Errorf("%s at %s: %s", known, to, got)
		}
	}
	r.dns[0].Kill()
	for range 10 {
		if got, _ := r.lookUp(t, unknown, cluster4); got != "A 10.96.45.12" {
			t.Errorf("%s with one server: %s", unknown, got)
		}
	}
	r.dns[1].Kill()
	time.Sleep(time.Second) // until what is known is old
	if got, took := r.lookUp(t, known, own4); got != "A 10.96.0.1" {
		t.Errorf("%s without servers: %s after %s", known, got, took)
	}
	if got, _ := r.lookUp(t, "dual-stack.default.svc.cluster.local.", own4); got != "SERVFAIL" {
		t.Errorf("a name that was never asked for: %s; want SERVFAIL", got)
	}
}

// officialTemplate is the cluster's part of the template in node-cache's manifest.
const officialTemplate = `cluster.local:53 {
    errors
    cache {
            success 9984 30
            denial 9984 5
    }
    reload
    loop
    bind __PILLAR__LOCAL__DNS__
    forward . __PILLAR__CLUSTER__DNS__ {
            force_tcp
    }
    prometheus :9253
    health 169.254.20.10:8080
    }
in-addr.arpa:53 {
    errors
    cache 30
    reload
    loop
    bind __PILLAR__LOCAL__DNS__
    forward . __PILLAR__CLUSTER__DNS__ {
            force_tcp
    }
    prometheus :9253
    }
`

// The arguments of node-cache's DaemonSet and its template give a node's DNS that fails open.
func TestNodeCacheArguments(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	base, corefile := filepath.Join(dir, "Corefile.base"), filepath.Join(dir, "Corefile")
	harness.WriteFile(t, base, officialTemplate)
	cmd := r.node.Command("env", "KUBE_DNS_UPSTREAM_SERVICE_HOST=10.244.1.2", harness.Binary(),
		"-localip", own4+","+cluster4, "-conf", corefile, "-basecorefile", base, "-upstreamsvc", "kube-dns-upstream", "-pidfile", filepath.Join(dir, "pid"))
	cmd.Dir = dir
	p, err := harness.StartProcess(dir, "coredns", cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Log(p.Tail(40))
		}
	})
	for _, a := range []string{own4, cluster4} {
		awaitLog(t, p, 20*time.Second, "Queries for "+a+" come here", 1)
	}
	r.node.Run(t, "conntrack", "-F")
	for _, to := range []string{own4, cluster4} {
		if got, _ := r.lookUp(t, "kubernetes.default.svc.cluster.local.", to); got != "A 10.96.0.1" {
			t.Errorf("at %s: %s", to, got)
		}
		if got, _ := r.lookUp(t, "1.0.96.10.in-addr.arpa.", to); got != "NODATA" {
			t.Errorf("a reverse name at %s: %s; want no address", to, got)
		}
	}
	if table := r.node.Run(t, "sh", "-c", "conntrack -L 2>/dev/null"); strings.Contains(table, "src=10.244.0.2 ") {
		t.Errorf("the pod's queries are tracked:\n%s", table)
	}
	p.Kill()
	harness.Eventually(t, time.Second, func() error {
		got, err := who(r.pod, "udp", cluster4)
		if err == nil && !strings.HasPrefix(got, "dns") {
			err = fmt.Errorf("%s answers", got)
		}
		return err
	})
}
