package faults

import (
	"fmt"
	"os"
	"strings"
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
	ready :{$READY}
	prometheus :{$METRICS}
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		kubeconfig {$KUBECONFIG}
		#options
	}
}
`

// withOptions adds lines to the block of the kubernetes directive.
func withOptions(options string) string { return strings.Replace(corefile, "#options", options, 1) }

// A side is one of the servers that are compared.
type side struct {
	name   string
	proxy  *proxy
	server *harness.Server
	client *client
	sum    tally
}

// A rig is what a row works with: servers behind proxies, and questions that are asked all the time.
type rig struct {
	*testing.T
	namespace string
	truth     *truth
	sides     []*side
}

// newRig starts the servers on what every row has: a service, a headless one, and a name that is missing.
func newRig(t *testing.T, r row) *rig {
	t.Helper()
	g := &rig{T: t, namespace: fmt.Sprintf("row-%s", r.id), truth: newTruth(r.healing)}
	g.makeNamespace()
	for n := range r.services {
		g.make(fmt.Sprintf("many-%d", n), "")
	}
	g.create("kept")
	g.headless("set", "192.0.2.1", "192.0.2.2")
	g.truth.write(g.question("missing"), "NXDOMAIN", func() {})
	g.truth.write(g.question("late"), "NXDOMAIN", func() {})
	g.create("doomed")
	g.add("kubezone", ours, withOptions(r.options))
	if _, err := os.Stat(stock); err == nil && !r.oursOnly {
		g.add("stock", stock, corefile)
	}
	for _, s := range g.sides {
		s.server.AwaitReady(t)
		s.client = startClient(t, s.server, g.truth)
	}
	return g
}

func (g *rig) makeNamespace() {
	g.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: g.namespace}}
	if _, err := cluster.Client.CoreV1().Namespaces().Create(g.Context(), namespace, metav1.CreateOptions{}); err != nil {
		g.Fatal(err)
	}
}

// add starts a server behind a proxy.
func (g *rig) add(name, binary, corefile string) {
	g.Helper()
	s := &side{name: name, proxy: startProxy(g.T, cluster)}
	kubeconfig, _ := cluster.Kubeconfig(g, s.proxy.url, "kube-system", "coredns")
	s.server = startServer(g.T, binary, corefile, "KUBECONFIG="+kubeconfig)
	g.sides = append(g.sides, s)
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
	made, err := cluster.Client.CoreV1().Services(g.namespace).Create(g.Context(), &corev1.Service{
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
	ip := cluster.Service(g, g.namespace, name).Spec.ClusterIP
	g.truth.write(harness.Reverse(ip)+" PTR", "NXDOMAIN", func() {})
	g.truth.write(g.question(name), "NXDOMAIN", func() {
		if err := cluster.Client.CoreV1().Services(g.namespace).Delete(g.Context(), name, metav1.DeleteOptions{}); err != nil {
			g.Fatal(err)
		}
	})
}

// headless makes a headless Service with endpoints.
func (g *rig) headless(name string, addresses ...string) {
	g.Helper()
	began := time.Now()
	g.make(name, corev1.ClusterIPNone)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, address := range addresses {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{address}})
	}
	if _, err := cluster.Client.DiscoveryV1().EndpointSlices(g.namespace).Create(g.Context(), slice, metav1.CreateOptions{}); err != nil {
		g.Fatal(err)
	}
	g.truth.since(began, g.question(name), harness.Records("A", addresses...))
}

// converge measures how long every side takes from now until all its answers are the newest, and fails if ours takes
// longer than it may.
func (g *rig) converge(within time.Duration) {
	g.Helper()
	const patience = 12 * time.Second // for the stock server
	began := time.Now()
	for _, s := range g.sides {
		err := harness.Poll(max(within, patience)-time.Since(began), func() error {
			for _, question := range g.truth.questions() {
				if a := ask(g.T, s.server, question); a.text != g.truth.now(question) {
					return fmt.Errorf("%s; want %s", a, g.truth.now(question))
				}
			}
			return nil
		})
		s.sum.converged = time.Since(began)
		if s.name != "kubezone" {
			if err != nil {
				s.sum.converged = never
			}
			continue
		}
		if err != nil || s.sum.converged > within {
			g.Errorf("not converged after %.1fs: %v; want %.0fs", s.sum.converged.Seconds(), err, within.Seconds())
		}
	}
}

const never = time.Duration(-1)

// finish judges what was answered.
func (g *rig) finish(r row) {
	g.Helper()
	for _, s := range g.sides {
		s.client.stop()
		converged := s.sum.converged
		s.sum = s.client.sum()
		s.sum.converged = converged
		results = append(results, result{r, s.name, s.sum})
		if s.name != "kubezone" {
			continue
		}
		if s.sum.wrong+s.sum.lost+s.sum.servfail > 0 {
			g.Errorf("%d wrong, %d lost, %d SERVFAIL of %d; want none", s.sum.wrong, s.sum.lost, s.sum.servfail, s.sum.asked)
			for _, a := range s.sum.worst[:min(len(s.sum.worst), 5)] {
				g.Log(a)
			}
		}
		if s.sum.asked < 100 {
			g.Errorf("%d questions are no test", s.sum.asked)
		}
	}
}

// A result is a line of the matrix.
type result struct {
	row  row
	side string
	sum  tally
}

var results []result

// matrix prints the results.
func matrix() string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "row\tfault\tserver\tasked\tright\tstale-marked\tSERVFAIL\twrong\tlost\tconverged")
	for _, r := range results {
		converged := fmt.Sprintf("%.1fs", r.sum.converged.Seconds())
		if r.sum.converged == never {
			converged = "not"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", r.row.id, r.row.fault, r.side,
			r.sum.asked, r.sum.right, r.sum.stale, r.sum.servfail, r.sum.wrong, r.sum.lost, converged)
	}
	_ = w.Flush() // to memory
	return text.String()
}
