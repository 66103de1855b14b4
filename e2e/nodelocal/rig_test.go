package nodelocal

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/e2e/harness"
)

// The addresses that pods ask, and those of the cluster's DNS servers.
const (
	own4, cluster4 = "169.254.20.10", "10.96.0.10"
	own6, cluster6 = "fd00:169::10", "fd00:10:96::a"
)

var (
	asked     = []string{own4, cluster4, own6, cluster6}
	clusterIP = []string{cluster4, cluster6}
	networks  = []string{"udp", "tcp"}
)

// A rig is a node with one pod, and the cluster's DNS on two other nodes.
type rig struct {
	pod, node *harness.Netns
	servers   []*harness.Netns
	dns       []*harness.Process // on servers
}

// clusterDNS tells who it is, and all of a cluster's names.
const clusterDNS = `.:53 {
	errors
	template IN TXT who.test who.cluster.local {
		answer "{{ .Name }} 0 IN TXT %s"
	}
	kubezone cluster.local in-addr.arpa ip6.arpa {
		manifests %s
	}
}
`

// nodeDNS is clusterDNS on the node, with options of nodelocal.
const nodeDNS = `.:53 {
	nodelocal 169.254.20.10 10.96.0.10 fd00:169::10 fd00:10:96::a {
		fallback 10.244.1.2 10.244.2.2 fd00:244:1::2 fd00:244:2::2
		%s
	}
	udpbatch
	errors
	health
	ready
	prometheus :9153
	template IN TXT who.test {
		answer "{{ .Name }} 0 IN TXT node"
	}
	kubezone cluster.local in-addr.arpa ip6.arpa {
		manifests %s
	}
}
`

func manifests(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs("../../corefile/demo/manifests")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// newRig makes the namespaces, starts the cluster's DNS, and leads to it as kube-proxy does. Nothing of ours is on the
// node yet.
func newRig(t testing.TB) *rig {
	t.Helper()
	r := newNodes(t)
	r.nft(t, kubeProxy())
	for _, to := range clusterIP {
		for _, network := range networks {
			harness.Eventually(t, 20*time.Second, func() error {
				_, err := who(r.pod, network, to)
				return err
			})
		}
	}
	return r
}

// newNodes makes the namespaces and starts the cluster's DNS. There are no rules yet.
func newNodes(t testing.TB) *rig {
	t.Helper()
	need(t, "nft", "iptables-nft", "iptables-legacy", "conntrack")
	r := &rig{node: harness.NewNetns(t), pod: harness.NewNetns(t)}
	r.link(t, r.pod, 0)
	for i := range 2 {
		ns := harness.NewNetns(t)
		r.link(t, ns, i+1)
		r.servers = append(r.servers, ns)
	}
	r.dns = r.startCluster(t)
	for _, setting := range []string{"net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"} {
		r.node.Run(t, "sysctl", "-qw", setting)
	}
	for _, gateway := range []string{"10.244.1.2", "fd00:244:1::2"} { // the node's way out, which its own queries need before they are led elsewhere
		r.node.Run(t, "ip", "route", "add", "default", "via", gateway)
	}
	return r
}

// startCluster starts the cluster's DNS servers, which are called dns1 and dns2.
func (r *rig) startCluster(t testing.TB) (processes []*harness.Process) {
	t.Helper()
	for i, ns := range r.servers {
		processes = append(processes, startDNS(t, ns, fmt.Sprintf(clusterDNS, fmt.Sprintf("dns%d", i+1), manifests(t))))
	}
	return processes
}

// link joins the node and another namespace by a network of their own.
func (r *rig) link(t testing.TB, ns *harness.Netns, number int) {
	t.Helper()
	r.node.Link(t, fmt.Sprintf("veth%d", number), ns, "veth0")
	for _, network := range []string{"10.244.%d.%d/24", "fd00:244:%d::%d/64"} {
		r.node.Run(t, "ip", "address", "add", fmt.Sprintf(network, number, 1), "dev", fmt.Sprintf("veth%d", number), "nodad")
		ns.Run(t, "ip", "address", "add", fmt.Sprintf(network, number, 2), "dev", "veth0", "nodad")
	}
	ns.Run(t, "ip", "route", "add", "default", "via", fmt.Sprintf("10.244.%d.1", number))
	ns.Run(t, "ip", "route", "add", "default", "via", fmt.Sprintf("fd00:244:%d::1", number))
}

// kubeProxy is what kube-proxy's rules for the ClusterIPs come to: one of the servers at random, for pods and for the
// node, and a source that can be answered.
func kubeProxy() string {
	var text strings.Builder
	for _, f := range []struct{ family, to, pods, servers string }{
		{"ip", cluster4, "10.244.0.0/16", "0 : 10.244.1.2, 1 : 10.244.2.2"},
		{"ip6", cluster6, "fd00:244::/32", "0 : fd00:244:1::2, 1 : fd00:244:2::2"},
	} {
		fmt.Fprintf(&text, "table %s like-kube-proxy {\n", f.family)
		for _, hook := range []string{"prerouting", "output"} {
			fmt.Fprintf(&text, "chain %s {\ntype nat hook %[1]s priority -100\n", hook)
			for _, network := range networks {
				fmt.Fprintf(&text, "%s daddr %s %s dport 53 dnat to numgen random mod 2 map { %s }\n", f.family, f.to, network, f.servers)
			}
			text.WriteString("}\n")
		}
		fmt.Fprintf(&text, "chain postrouting {\ntype nat hook postrouting priority 100\n%s saddr != %s oifname != lo masquerade\n}\n}\n", f.family, f.pods)
	}
	return text.String()
}

// nft changes the node's rules.
func (r *rig) nft(t testing.TB, commands string) {
	t.Helper()
	c := r.node.Command("nft", "-f", "-")
	c.Stdin = strings.NewReader(commands)
	if output, err := c.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s\n%s", err, output, commands)
	}
}

// rules are all rules on the node.
func (r *rig) rules(t testing.TB) string {
	t.Helper()
	return r.node.Run(t, "nft", "list", "ruleset")
}

// start starts a server on the node with options of nodelocal, and waits until queries come to it.
func (r *rig) start(t testing.TB, options string) *harness.Process {
	t.Helper()
	p := startDNS(t, r.node, fmt.Sprintf(nodeDNS, options, manifests(t)))
	r.awaitSwitch(t, p)
	return p
}

// startPlain starts a server on the node without udpbatch, and does not wait.
func (r *rig) startPlain(t testing.TB) *harness.Process {
	t.Helper()
	return startDNS(t, r.node, strings.Replace(fmt.Sprintf(nodeDNS, "", manifests(t)), "\tudpbatch\n", "", 1))
}

// awaitSwitch waits until a server says that queries for all addresses come to it.
func (r *rig) awaitSwitch(t testing.TB, p *harness.Process) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, func() error {
		for _, a := range asked {
			if !strings.Contains(p.Log(), "Queries for "+a+" come here") {
				return fmt.Errorf("queries for %s do not come to the server on the node:\n%s", a, p.Tail(20))
			}
		}
		return nil
	})
}

// awaitLog waits until a text is so often in a log.
func awaitLog(t testing.TB, p *harness.Process, within time.Duration, text string, times int) {
	t.Helper()
	harness.Eventually(t, within, func() error {
		if n := strings.Count(p.Log(), text); n < times {
			return fmt.Errorf("%q is %d times in the log; want %d:\n%s", text, n, times, p.Tail(20))
		}
		return nil
	})
}

// startDNS starts our binary in a namespace.
func startDNS(t testing.TB, ns *harness.Netns, corefile string) *harness.Process {
	t.Helper()
	return startProgram(t, ns, harness.Binary(), corefile)
}

// startProgram starts a CoreDNS in a namespace.
func startProgram(t testing.TB, ns *harness.Netns, program, corefile string) *harness.Process {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "Corefile")
	harness.WriteFile(t, path, corefile)
	cmd := ns.Command(program, "-conf", path)
	cmd.Dir = dir
	p, err := harness.StartProcess(dir, "coredns", cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Signal(syscall.SIGCONT) // a process that is stopped is killed all the same, but its death is seen later
		p.Kill()
		if t.Failed() {
			t.Logf("log of %s in %s:\n%s", program, ns.Name, p.Tail(40))
		}
	})
	return p
}

// patience is how long a reply may take: as long as a resolver waits. Nothing here is far away, but the machine has other
// things to do.
const patience = 5 * time.Second

// who asks from a namespace and returns who answers: node, dns1 or dns2.
func who(from *harness.Netns, network, to string) (string, error) {
	reply, err := exchange(from, network, to, new(dns.Msg).SetQuestion("who.test.", dns.TypeTXT))
	if err != nil {
		return "", err
	}
	if len(reply.Answer) != 1 {
		return "", fmt.Errorf("%s over %s: %v", to, network, reply)
	}
	return reply.Answer[0].(*dns.TXT).Txt[0], nil
}

// exchange asks once, from a socket of its own as resolvers do.
func exchange(from *harness.Netns, network, to string, m *dns.Msg) (*dns.Msg, error) {
	conn, err := from.Dial(network, net.JoinHostPort(to, "53"))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	client := &dns.Client{Net: network, Timeout: patience}
	reply, _, err := client.ExchangeWithConn(m, &dns.Conn{Conn: conn})
	return reply, err
}

// expect checks who answers at addresses over UDP and TCP, to the pod and to the node itself.
func (r *rig) expect(t testing.TB, addresses []string, want ...string) {
	t.Helper()
	for name, from := range map[string]*harness.Netns{"the pod": r.pod, "the node": r.node} {
		for _, to := range addresses {
			for _, network := range networks {
				for range 4 { // the choice of a server is by chance
					got, err := who(from, network, to)
					if err != nil {
						t.Errorf("%s asks %s over %s: %v", name, to, network, err)
					} else if !slices.Contains(want, got) {
						t.Errorf("%s asks %s over %s: %q answers; want one of %q", name, to, network, got, want)
					}
				}
			}
		}
	}
}

// expectWithin waits until all of the addresses are answered by one of those wanted.
func (r *rig) expectWithin(t testing.TB, within time.Duration, addresses []string, want ...string) {
	t.Helper()
	harness.Eventually(t, within, func() error {
		for _, to := range addresses {
			for _, from := range []*harness.Netns{r.pod, r.node} {
				if got, err := who(from, "udp", to); err != nil {
					return fmt.Errorf("%s: %w", to, err)
				} else if !slices.Contains(want, got) {
					return fmt.Errorf("%s: %q answers; want one of %q", to, got, want)
				}
			}
		}
		return nil
	})
}

// need fails the test if a program is not there.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil && os.Geteuid() == 0 { // others skip the test for want of a namespace
			t.Fatalf("%v: run it by `make e2e`, which installs what is missing", err)
		}
	}
}
