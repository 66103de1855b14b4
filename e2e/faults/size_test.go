package faults

import (
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubezone/kubezone/e2e/bench/population"
	"github.com/kubezone/kubezone/e2e/harness"
)

// A crowd is a headless service of very many endpoints, whose addresses follow one another.
type crowd struct {
	fqdn  string
	count int
	addr  func(int) netip.Addr
	has   func(netip.Addr) bool
}

// ask asks for a crowd in every way that there is, and counts what is not as it must be: a part of the endpoints with TC
// over UDP, another part each time, and as many as a message can hold over TCP; each endpoint by its own name and
// address.
func (c crowd) ask(t *testing.T, s *harness.Server, rounds int) (sum tally, slowest map[string]time.Duration) {
	t.Helper()
	slowest = make(map[string]time.Duration)
	seen := make(map[netip.Addr]bool)
	try := func(kind string, q harness.Question, right func(*dns.Msg) error) {
		began := time.Now()
		reply, err := s.Try(t, q)
		slowest[kind] = max(slowest[kind], time.Since(began))
		sum.asked++
		if err != nil {
			sum.lost++
			t.Logf("%s: %v", s.Name, err)
		} else if err := right(reply); err != nil {
			sum.wrong++
			t.Logf("%s: %s: %v", s.Name, q.Text, err)
		} else {
			sum.right++
		}
	}
	part := func(least int) func(*dns.Msg) error {
		return func(reply *dns.Msg) error {
			for _, rr := range reply.Answer {
				a, ok := netip.AddrFromSlice(rr.(*dns.A).A.To4())
				if !ok || !c.has(a) {
					return fmt.Errorf("%s is none of its endpoints", a)
				}
				seen[a] = true
			}
			if !reply.Truncated || len(reply.Answer) < least {
				return fmt.Errorf("%d of %d addresses, TC %t; want at least %d, and TC", len(reply.Answer), c.count, reply.Truncated, least)
			}
			return nil
		}
	}
	is := func(want string) func(*dns.Msg) error {
		return func(reply *dns.Msg) error {
			if got := harness.Text(reply); got != want {
				return fmt.Errorf("%s; want %s", got, want)
			}
			return nil
		}
	}
	for n := range rounds {
		a := c.addr(n * (c.count / rounds))
		label := fmt.Sprintf("%d-%d-%d-%d", a.As4()[0], a.As4()[1], a.As4()[2], a.As4()[3])
		try("A over UDP", harness.Question{Text: c.fqdn + " A", UDPSize: 1232}, part(20))
		try("AAAA", harness.Question{Text: c.fqdn + " AAAA"}, is("NODATA"))
		try("A of an endpoint", harness.Question{Text: label + "." + c.fqdn + " A"}, is("A "+a.String()))
		try("PTR of an endpoint", harness.Question{Text: harness.Reverse(a.String()) + " PTR"}, is("PTR "+label+"."+c.fqdn))
		if n%10 == 0 {
			try("A over TCP", harness.Question{Text: c.fqdn + " A", Network: "tcp"}, part(4000))
		}
	}
	t.Logf("%s: slowest replies %v; %d of %d addresses were seen", s.Name, slowest, len(seen), c.count)
	return sum, slowest
}

// Row 20: a service of 10,000 endpoints on a real API server.
func TestTenThousandEndpoints(t *testing.T) {
	r := row{id: "20a", fault: "a service of 10,000 endpoints in slices of 1,000"}
	g := newRig(t, cluster, r)
	const count, most = 10_000, 1000
	g.make("crowd", corev1.ClusterIPNone)
	addr := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 129, byte(n >> 8), byte(n)}) }
	began := time.Now()
	var writers sync.WaitGroup
	for n := range count / most {
		writers.Go(func() {
			slice := &discoveryv1.EndpointSlice{
				ObjectMeta:  metav1.ObjectMeta{Name: fmt.Sprintf("crowd-%d", n), Labels: map[string]string{discoveryv1.LabelServiceName: "crowd"}},
				AddressType: discoveryv1.AddressTypeIPv4,
			}
			for i := range most {
				slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{addr(n*most + i).String()}})
			}
			if _, err := g.cluster.Client.DiscoveryV1().EndpointSlices(g.namespace).Create(g.Context(), slice, metav1.CreateOptions{}); err != nil {
				g.Error(err)
			}
		})
	}
	writers.Wait()
	t.Logf("written in %.1fs", time.Since(began).Seconds())
	c := crowd{fqdn: "crowd." + g.namespace + ".svc.cluster.local.", count: count, addr: addr}
	c.has = func(a netip.Addr) bool {
		return a.As4()[0] == 10 && a.As4()[1] == 129 && int(a.As4()[2])<<8+int(a.As4()[3]) < count
	}
	for _, s := range g.sides {
		for n := range count / most { // each slice has come
			a := addr(n * most)
			label := fmt.Sprintf("10-129-%d-%d.", a.As4()[2], a.As4()[3])
			s.server.ExpectWithin(t, 10*time.Second, harness.Reverse(a.String())+" PTR", "PTR "+label+c.fqdn)
		}
		sum, _ := c.ask(t, s.server, 50)
		s.flooded.add(sum)
	}
	g.finish(r)
}

// Row 20: a service of 1,000 slices, which no API server could write in the time of a test. They are full ones under
// -long: a million endpoints.
func TestThousandSlices(t *testing.T) {
	name := "wide"
	if *long {
		name = "widest"
	}
	feeder := filepath.Join(t.TempDir(), "feeder")
	if output, err := exec.Command("go", "build", "-o", feeder, "../bench/feeder").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	p, err := harness.StartProcess(t.TempDir(), "feeder", exec.Command(feeder, "-population", name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	var api, control string
	harness.Eventually(t, time.Minute, func() error {
		_, err := fmt.Sscanf(p.Log(), "api=%s control=%s", &api, &control)
		return err
	})
	wide, err := population.New(name)
	if err != nil {
		t.Fatal(err)
	}
	service, _ := wide.Find(population.Wide)
	first, end := population.Addr(service.First), population.Addr(service.First+service.Count)
	c := crowd{fqdn: service.FQDN(), count: service.Count,
		addr: func(n int) netip.Addr { return population.Addr(service.First + n) },
		has:  func(a netip.Addr) bool { return !a.Less(first) && a.Less(end) },
	}

	s := &side{name: "kubezone"}
	s.server = startServer(t, ours, fromFeeder, "API=http://"+api)
	const within = time.Minute // a few seconds on a machine that has nothing else to do
	harness.Eventually(t, within, func() error {
		_, body, err := s.server.Get(s.server.Ready + "/ready")
		if err == nil && body != "OK" {
			err = fmt.Errorf("ready: %s", body)
		}
		return err
	})
	t.Logf("ready after %.1fs", time.Since(s.server.Started).Seconds())
	s.sum, _ = c.ask(t, s.server, 50)
	record(row{id: "20b", fault: fmt.Sprintf("a service of 1,000 slices of %d endpoints", service.Count/1000)}, s.name, s.sum)
	if s.sum.wrong+s.sum.lost > 0 {
		t.Errorf("%d wrong, %d lost of %d; want none", s.sum.wrong, s.sum.lost, s.sum.asked)
	}
	resident := metric(t, s.server, "process_resident_memory_bytes")
	t.Logf("resident %.0f MiB, %.0f octets an endpoint", resident/(1<<20), resident/float64(service.Count))
}

const fromFeeder = `.:{$DNS} {
	errors
	health :{$HEALTH}
	ready :{$READY}
	prometheus :{$METRICS}
	kubernetes cluster.local in-addr.arpa {
		endpoint {$API}
	}
}
`
