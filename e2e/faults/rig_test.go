package faults

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubezone/kubezone/e2e/harness"
)

const corefile = `.:{$DNS} {
	errors
	health :{$HEALTH}
	ready :{$READY} {
		monitor continuously
	}
	prometheus :{$METRICS}
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		kubeconfig {$KUBECONFIG}
		fallthrough in-addr.arpa ip6.arpa
		#options
	}
	forward . {$UPSTREAM}
}
`

// withOptions adds lines to the block of the kubernetes directive.
func withOptions(options string) string { return strings.Replace(corefile, "#options", options, 1) }

// A rig is what a row works with: servers behind proxies, and questions that are asked all the time.
type rig struct {
	*testing.T
	cluster   *harness.Cluster
	namespace string
	truth     *truth
	sides     []*side
	upstream  *harness.Upstream // for what is not in the cluster
	resolver  string            // its address
}

// newRig starts the servers on what every row has: a service, a headless one, a name that is missing, and one outside.
func newRig(t *testing.T, c *harness.Cluster, r row) *rig {
	t.Helper()
	g := newEmptyRig(t, c, "row-"+r.id, r.healing.now())
	for n := range r.services {
		g.make(fmt.Sprintf("many-%d", n), "")
	}
	g.create("kept")
	g.headless("set", "192.0.2.1", "192.0.2.2")
	g.truth.write(g.question("missing"), "NXDOMAIN", func() {})
	g.truth.write(g.question("late"), "NXDOMAIN", func() {})
	g.truth.write(outside, outsideAnswer, func() {})
	g.create("doomed")
	g.add(ours, r)
	if _, err := os.Stat(stock); err == nil && !r.oursOnly {
		g.add(stock, r)
	}
	for _, s := range g.sides {
		s.open(g, r)
	}
	return g
}

// What is asked of the world outside.
const (
	outside       = "www.example.org. A"
	outsideAnswer = "A 198.51.100.80"
	publicAddress = "198.51.100.80"
)

// newEmptyRig has a namespace, and no servers yet.
func newEmptyRig(t *testing.T, c *harness.Cluster, namespace string, healing time.Duration) *rig {
	t.Helper()
	g := &rig{T: t, cluster: c, namespace: namespace, truth: newTruth(healing)}
	g.makeNamespace()
	g.upstream, g.resolver = harness.ServeUpstream(t, "www.example.org. A "+publicAddress, harness.Reverse(publicAddress)+" PTR www.example.org.")
	return g
}

// opened is how long a process may take to start on a busy machine.
const opened = 3 * time.Second

// open waits until a server can be asked, and begins to ask it.
func (s *side) open(g *rig, r row) {
	g.Helper()
	if r.starting == nil {
		s.server.AwaitReady(g)
	} else if s.name == "kubezone" {
		s.server.ExpectWithin(g, opened, "dns-version.cluster.local. TXT", `TXT "1.1.0"`)
	}
	s.client = startClient(g.T, s.server, g.truth)
	s.pages = watchPages(g.T, s.server)
}

func (g *rig) makeNamespace() {
	g.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: g.namespace}}
	if _, err := g.cluster.Client.CoreV1().Namespaces().Create(g.Context(), namespace, metav1.CreateOptions{}); err != nil {
		g.Fatal(err)
	}
}

// add starts a server behind a proxy.
func (g *rig) add(binary string, r row) *side {
	g.Helper()
	s := &side{proxy: startProxy(g.T, g.cluster)}
	if r.starting != nil {
		r.starting(s.proxy)
	}
	s.kubeconfig, _ = g.cluster.Kubeconfig(g, s.proxy.url, "kube-system", cmp.Or(r.account, "coredns"))
	return g.addWith(binary, s, r)
}

// addWith starts a server with the kubeconfig of a side.
func (g *rig) addWith(binary string, s *side, r row) *side {
	g.Helper()
	text := corefile
	s.name = "stock"
	if binary != stock {
		s.name, text = "kubezone", withOptions(r.options)
	}
	s.server = startServer(g.T, binary, text, s.environment(g)...)
	g.sides = append(g.sides, s)
	return s
}

func (s *side) environment(g *rig) []string {
	return []string{"KUBECONFIG=" + s.kubeconfig, "UPSTREAM=" + g.resolver}
}

// serve starts one of our servers once more, with the same credentials.
func (g *rig) serve(s *side, corefile string) *harness.Server {
	g.Helper()
	return startServer(g.T, ours, corefile, s.environment(g)...)
}

func startServer(t *testing.T, binary, corefile string, environment ...string) *harness.Server {
	t.Helper()
	t.Setenv("KUBEZONE_BIN", binary)
	return harness.StartServer(t, corefile, environment...)
}

func (g *rig) question(name string) string {
	return fmt.Sprintf("%s.%s.svc.cluster.local. A", name, g.namespace)
}

// each does something to every proxy.
func (g *rig) each(do func(*proxy)) {
	for _, s := range g.sides {
		do(s.proxy)
	}
}

// make creates a Service and returns its address.
func (g *rig) make(name, clusterIP string) string {
	g.Helper()
	made, err := g.cluster.Client.CoreV1().Services(g.namespace).Create(g.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: clusterIP, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		g.Fatal(err)
	}
	return made.Spec.ClusterIP
}

// create makes a Service and adds its names to the truth.
func (g *rig) create(name string) {
	g.Helper()
	began := time.Now()
	ip := g.make(name, "")
	g.truth.since(began, g.question(name), "A "+ip)
	g.truth.since(time.Time{}, harness.Reverse(ip)+" PTR", "NXDOMAIN")
	g.truth.since(began, harness.Reverse(ip)+" PTR", fmt.Sprintf("PTR %s.%s.svc.cluster.local.", name, g.namespace))
}

// remove deletes a Service; what asks for its address is no question then.
func (g *rig) remove(name string) {
	g.Helper()
	ip := g.cluster.Service(g, g.namespace, name).Spec.ClusterIP
	g.truth.write(harness.Reverse(ip)+" PTR", "NXDOMAIN", func() {})
	g.truth.write(g.question(name), "NXDOMAIN", func() {
		if err := g.cluster.Client.CoreV1().Services(g.namespace).Delete(g.Context(), name, metav1.DeleteOptions{}); err != nil {
			g.Fatal(err)
		}
	})
}

// headless makes a headless Service with endpoints.
func (g *rig) headless(name string, addresses ...string) *set {
	g.Helper()
	began := time.Now()
	g.make(name, corev1.ClusterIPNone)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   endpoints(addresses),
	}
	made, err := g.cluster.Client.DiscoveryV1().EndpointSlices(g.namespace).Create(g.Context(), slice, metav1.CreateOptions{})
	if err != nil {
		g.Fatal(err)
	}
	g.truth.since(began, g.question(name), harness.Records("A", addresses...))
	return &set{name, made}
}

// converge measures how long every side takes from now until all its answers are the newest, and fails if ours takes
// longer than it may.
func (g *rig) converge(within time.Duration) {
	g.Helper()
	const patience = 12 * time.Second // for the stock server
	var sides sync.WaitGroup
	for _, s := range g.sides {
		sides.Go(func() {
			began := time.Now()
			err := harness.Poll(max(within, patience), func() error { return g.isNewest(s) })
			s.sum.converged = time.Since(began)
			switch {
			case s.name == "kubezone" && (err != nil || s.sum.converged > within):
				g.Errorf("not converged after %.1fs: %v; want %.0fs", s.sum.converged.Seconds(), err, within.Seconds())
			case err != nil:
				s.sum.converged = never
			}
		})
	}
	sides.Wait()
}

// isNewest tells whether a side answers every question as the newest state has it.
func (g *rig) isNewest(s *side) error {
	for _, question := range g.truth.questions() {
		if a := ask(g.T, s.server, question); a.text != g.truth.now(question) {
			return fmt.Errorf("%s; want %s", a, g.truth.now(question))
		}
	}
	return nil
}

const never = time.Duration(-1)

// finish judges what was answered.
func (g *rig) finish(r row) {
	g.Helper()
	for _, s := range g.sides {
		s.client.stop()
		s.pages.stop()
		converged := s.sum.converged
		s.sum = s.client.sum()
		s.sum.add(s.flooded)
		s.sum.converged = converged
		record(r, s.name, s.sum)
		if s.name == "kubezone" {
			s.judge(g.T, r)
		}
	}
}

// judge fails if a server did what ours must not.
func (s *side) judge(t *testing.T, r row) {
	t.Helper()
	bad := s.sum.wrong + s.sum.lost
	if r.starting == nil {
		bad += s.sum.servfail // all was known once
		if s.pages.unready > 0 {
			t.Errorf("ready: %d times not 200; want it to stay", s.pages.unready)
		}
	}
	if bad > 0 {
		t.Errorf("%d wrong, %d lost, %d SERVFAIL of %d; want none", s.sum.wrong, s.sum.lost, s.sum.servfail, s.sum.asked)
		for _, a := range s.sum.worst[:min(len(s.sum.worst), 5)] {
			t.Log(a)
		}
	}
	if s.sum.asked < 100 {
		t.Errorf("%d questions are no test", s.sum.asked)
	}
}

// A result is a line of the matrix.
type result struct {
	row  row
	side string
	sum  tally
}

var results []result

func record(r row, side string, sum tally) { results = append(results, result{r, side, sum}) }

// matrix prints the results.
func matrix() string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "row\tfault\tserver\tasked\tright\tstale-marked\tSERVFAIL\twrong\tlost\tconverged")
	for _, r := range results {
		converged := fmt.Sprintf("%.1fs", r.sum.converged.Seconds())
		switch r.sum.converged {
		case 0:
			converged = "-"
		case never:
			converged = "not"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", r.row.id, r.row.fault, r.side,
			r.sum.asked, r.sum.right, r.sum.stale, r.sum.servfail, r.sum.wrong, r.sum.lost, converged)
	}
	_ = w.Flush() // to memory
	return text.String()
}
