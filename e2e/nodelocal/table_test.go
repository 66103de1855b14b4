package nodelocal

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kubezone/kubezone/e2e/harness"
)

var lasts = flag.Int("seconds", 30, "how long BenchmarkTable asks for each number")

// A side is a way for a pod's queries.
type side struct {
	name     string
	corefile string // on the node; "" for none, which is kube-proxy's way
}

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

var sides = []side{
	{"kube-proxy to cluster DNS", ""},
	{"node, cache", nodeBegins + cacheMode},
	{"node, cache, udpbatch", nodeBegins + "\tudpbatch\n" + cacheMode},
	{"node, authority", nodeBegins + authorityMode},
	{"node, authority, udpbatch", nodeBegins + "\tudpbatch\n" + authorityMode},
}

// BenchmarkTable is the table of the tutorial: testdns in a pod, with 200 and 1,000 lookups at a time, on each side. In
// brackets is what that is of kube-proxy's way, with as many lookups at a time.
func BenchmarkTable(b *testing.B) {
	testdns := filepath.Join(b.TempDir(), "testdns")
	if output, err := exec.Command("go", "build", "-o", testdns, "../testdns").CombinedOutput(); err != nil {
		b.Fatalf("go build: %v: %s", err, output)
	}
	r := newRig(b)
	r.pod.WriteEtc(b, "resolv.conf", "nameserver "+cluster4+"\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n")
	var table strings.Builder
	table.WriteString("| lookups at a time | way | requests | average ms | maximum ms | over 5 s | failed | CPU of the servers, µs a request |\n" +
		"| --: | :-- | --: | --: | --: | --: | --: | --: |\n")
	for _, concurrency := range []int{200, 1000} {
		var direct row
		for _, s := range sides {
			processes := r.dns
			var node *harness.Process
			if s.corefile != "" {
				node = startDNS(b, r.node, strings.ReplaceAll(s.corefile, "MANIFESTS", manifests(b)))
				r.awaitSwitch(b, node)
				processes = append(processes[:len(processes):len(processes)], node)
			}
			row := r.measure(b, testdns, concurrency, processes)
			if node == nil {
				direct = row
			}
			fmt.Fprintf(&table, "| %d | %s | %.0f (%.2f) | %s | %s | %s | %s | %.0f (%.2f) |\n", concurrency, s.name, row.requests,
				row.requests/direct.requests, row.average, row.longest, row.over, row.failed, row.cpu, row.cpu/direct.cpu)
			if node != nil {
				node.Stop()
			}
		}
	}
	fmt.Printf("\n%s\n", &table)
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
