package nodelocal

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/e2e/harness"
)

var lasts = flag.Int("seconds", 30, "how long BenchmarkTable asks for each number")

// A side is a way for a pod's queries.
type side struct {
	name     string
	cluster  string // the program of the cluster's DNS
	corefile string // on the node; "" for none, which is kube-proxy's way
}

// stockDNS is what kubeadm sets up, less what asks other servers: nothing else is asked here.
const stockDNS = `.:53 {
	errors
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		kubeconfig %s
		pods insecure
		fallthrough in-addr.arpa ip6.arpa
		ttl 30
	}
	prometheus :9153
	cache 30
	loadbalance
}
`

const (
	nodeBegins = `.:53 {
	nodelocal 169.254.20.10 10.96.0.10 fd00:169::10 fd00:10:96::a
	errors
	prometheus :9253
`
	cacheMode = `	cache {
		success 9984 30
		denial 9984 5
	}
	clusterdns cluster.local in-addr.arpa ip6.arpa {
		to 10.244.1.2 10.244.2.2
	}
}
`
	authorityMode = `	kubezone cluster.local in-addr.arpa ip6.arpa {
		manifests MANIFESTS
	}
}
`
)

const (
	stock = "CoreDNS"
	ours  = "kubezone"
)

var sides = []side{
	{"kube-proxy to CoreDNS", stock, ""},
	{"kube-proxy to kubezone", ours, ""},
	{"node, cache", ours, nodeBegins + cacheMode},
	{"node, cache, udpbatch", ours, nodeBegins + "\tudpbatch\n" + cacheMode},
	{"node, authority", ours, nodeBegins + authorityMode},
	{"node, authority, udpbatch", ours, nodeBegins + "\tudpbatch\n" + authorityMode},
}

// lookedUp is what testdns asks for, in full.
const lookedUp = "nginx-service.default.svc.cluster.local."

// BenchmarkTable is the table of the tutorial: testdns in a pod, with 200 and 1,000 lookups at a time, on each side. In
// brackets is what that is of kube-proxy's way to CoreDNS, and to kubezone, with as many lookups at a time.
func BenchmarkTable(b *testing.B) {
	testdns := filepath.Join(b.TempDir(), "testdns")
	if output, err := exec.Command("go", "build", "-o", testdns, "../testdns").CombinedOutput(); err != nil {
		b.Fatalf("go build: %v: %s", err, output)
	}
	r := newRig(b)
	r.pod.WriteEtc(b, "resolv.conf", "nameserver "+cluster4+"\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n")
	starts := map[string]func() []*harness.Process{ours: func() []*harness.Process { return r.startCluster(b) }, stock: r.stock(b)}
	var table strings.Builder
	table.WriteString("| lookups at a time | way | requests | average ms | maximum ms | over 5 s | failed | CPU of the servers, µs a request |\n" +
		"| --: | :-- | --: | --: | --: | --: | --: | --: |\n")
	for _, concurrency := range []int{200, 1000} {
		direct := make(map[string]row)
		for _, s := range sides {
			stop(r.dns)
			r.dns = starts[s.cluster]()
			r.awaitLookups(b)
			got := r.measureSide(b, testdns, concurrency, s)
			if s.corefile == "" {
				direct[s.cluster] = got
			}
			fmt.Fprintf(&table, "| %d | %s | %.0f (%s) | %s | %s | %s | %s | %.0f (%s) |\n", concurrency, s.name,
				got.requests, ratios(direct, func(d row) float64 { return got.requests / d.requests }), got.average, got.longest, got.over, got.failed,
				got.cpu, ratios(direct, func(d row) float64 { return got.cpu / d.cpu }))
		}
	}
	fmt.Printf("\n%s\n", &table)
}

// ratios are those to kube-proxy's way to each program that was measured so far.
func ratios(direct map[string]row, of func(row) float64) string {
	var texts []string
	for _, program := range []string{stock, ours} {
		if d, measured := direct[program]; measured {
			texts = append(texts, fmt.Sprintf("%.2f", of(d)))
		}
	}
	return strings.Join(texts, ", ")
}

// stock starts an API server with the Service that is asked for, and returns what starts the released CoreDNS as the
// cluster's DNS.
func (r *rig) stock(b *testing.B) func() []*harness.Process {
	b.Helper()
	programs := controlplane(b)
	cluster, err := harness.StartCluster(harness.Options{Families: harness.DualStack, Binaries: programs, Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(cluster.Stop)
	cluster.Apply(b, "default", filepath.Join(manifests(b), "nginx-service.yaml"))
	for _, ns := range r.servers {
		harness.StartProxy(b, ns.Listen(b, cluster.Address()), cluster.Address())
	}
	return func() (processes []*harness.Process) {
		for _, ns := range r.servers {
			processes = append(processes, startProgram(b, ns, filepath.Join(programs, "coredns-stock"), fmt.Sprintf(stockDNS, cluster.AdminKubeconfig())))
		}
		return processes
	}
}

func stop(processes []*harness.Process) {
	for _, p := range processes {
		p.Stop()
	}
}

// awaitLookups waits until each of the cluster's DNS servers answers.
func (r *rig) awaitLookups(b *testing.B) {
	b.Helper()
	for _, server := range []string{"10.244.1.2", "10.244.2.2"} {
		harness.Eventually(b, 20*time.Second, func() error {
			reply, err := exchange(r.pod, "udp", server, new(dns.Msg).SetQuestion(lookedUp, dns.TypeA))
			if err != nil {
				return err
			}
			if len(reply.Answer) != 1 {
				return fmt.Errorf("%s: %v", server, reply)
			}
			return nil
		})
	}
}

// measureSide is measure with the node's DNS of the side, if it has one.
func (r *rig) measureSide(b *testing.B, testdns string, concurrency int, s side) row {
	b.Helper()
	if s.corefile == "" {
		return r.measure(b, testdns, concurrency, r.dns)
	}
	node := startDNS(b, r.node, strings.ReplaceAll(s.corefile, "MANIFESTS", manifests(b)))
	defer node.Stop()
	r.awaitSwitch(b, node)
	return r.measure(b, testdns, concurrency, append(slices.Clone(r.dns), node))
}

// A row is what testdns says of one side, and what that cost.
type row struct {
	requests                       float64
	average, longest, over, failed string // as testdns prints them
	cpu                            float64
}

// measure runs testdns and returns its numbers and the servers' time.
func (r *rig) measure(b *testing.B, testdns string, concurrency int, servers []*harness.Process) row {
	b.Helper()
	used := func() (total time.Duration) {
		for _, p := range servers {
			total += p.CPU()
		}
		return total
	}
	before := used()
	cmd := r.pod.Command(testdns, "-host", "nginx-service.default", "-c", strconv.Itoa(concurrency), "-d", strconv.Itoa(*lasts))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) { // it also fails if a lookup did
		b.Fatal(err)
	}
	took := used() - before
	numbers := regexp.MustCompile(`request count: (\d+)\nerror count: (\d+)\nrequest time: min \S+ ms, max (\S+) ms, avg (\S+) ms\nover the limit: (\d+)`).FindSubmatch(output)
	if numbers == nil {
		b.Fatalf("testdns: %s%s", output, &stderr)
	}
	count, err := strconv.ParseFloat(string(numbers[1]), 64)
	if err != nil || count == 0 {
		b.Fatalf("testdns: %s%s", output, &stderr)
	}
	return row{
		requests: count, average: string(numbers[4]), longest: string(numbers[3]), over: string(numbers[5]), failed: string(numbers[2]),
		cpu: float64(took.Microseconds()) / count,
	}
}
