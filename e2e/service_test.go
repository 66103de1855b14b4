package e2e

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/kubelet/envvars"

	"github.com/kubezone/kubezone/e2e/harness"
)

// shownWithin is how soon a change in the API must show in the answers.
const shownWithin = time.Second

// plain serves the cluster and nothing else, with the rights of build/kube-system.
const plain = `.:{$DNS} {
	errors
	health :{$HEALTH}
	ready :{$READY}
	prometheus :{$METRICS}
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		kubeconfig {$KUBECONFIG}
		pods insecure
	}
}
`

// serve starts the server under test on a Corefile that names {$KUBECONFIG}, and waits until it is ready.
func serve(t *testing.T, c *harness.Cluster, corefile string) *harness.Server {
	t.Helper()
	kubeconfig, _ := c.Kubeconfig(t, "", "kube-system", "coredns")
	s := harness.StartServer(t, corefile, "KUBECONFIG="+kubeconfig)
	s.AwaitReady(t)
	return s
}

// servers are several of one cluster, each of which has to answer what the others do.
type servers []*harness.Server

// serveAll starts what the scenarios are asked of in the shared cluster: the binary on plain, and, where pods can be run, the
// deployment of the recommended overlay, from our image, with its own Corefile, rights and limits.
func serveAll(t *testing.T) servers {
	t.Helper()
	all := servers{serve(t, cluster, plain)}
	if err := podsRefused(); err != nil {
		t.Logf("not asked of the recommended deployment: %v", err)
		return all
	}
	return append(all, startPod(t, cluster).server)
}

// podsRefused is why the recommended deployment cannot run here, or nil.
func podsRefused() error {
	if binary := os.Getenv("KUBEZONE_BIN"); binary != "" {
		return fmt.Errorf("the image may have another binary than %s", binary)
	}
	return harness.NetnsRefused()
}

// uncached are those without the cache plugin. Another may say of a reverse name what was true within its TTL: the reverse
// zones are cached, as what the cluster does not know is asked elsewhere.
func (all servers) uncached() servers { return all[:1] }

// Expect asks each server and compares its answer with what is wanted.
func (all servers) Expect(t testing.TB, text, want string) {
	t.Helper()
	for _, s := range all {
		s.Expect(t, text, want)
	}
}

// ExpectWithin waits until all servers answer with what is wanted.
func (all servers) ExpectWithin(t testing.TB, within time.Duration, text, want string) {
	t.Helper()
	harness.Eventually(t, within, func() error {
		for _, s := range all {
			if err := s.Check(t, text, want); err != nil {
				return err
			}
		}
		return nil
	})
}

// Scenario a: a Deployment behind a service with a ClusterIP.
func TestServiceWithClusterIP(t *testing.T) {
	t.Parallel()
	const namespace = "shop"
	cluster.Apply(t, namespace, "testdata/nginx-service.yaml")
	cluster.Apply(t, namespace, "testdata/more-services.yaml")
	s := serveAll(t)
	pods := cluster.AwaitEndpoints(t, namespace, "nginx-service", discoveryv1.AddressTypeIPv4, 2)

	ip := cluster.Service(t, namespace, "nginx-service").Spec.ClusterIP
	several := cluster.Service(t, namespace, "metrics-and-web").Spec.ClusterIP
	unnamed := cluster.Service(t, namespace, "unnamed-port").Spec.ClusterIP
	both := cluster.Service(t, namespace, "both-families").Spec.ClusterIPs
	outside := cluster.Service(t, namespace, "from-outside").Spec.ClusterIP

	tests := []struct{ name, question, want string }{
		{"address", "nginx-service.shop.svc.cluster.local. A", "A " + ip},
		{"case of the question", "NGINX-service.Shop.svc.Cluster.Local. A", "A " + ip},
		{"the other family", "nginx-service.shop.svc.cluster.local. AAAA", "NODATA"},
		{"another type", "nginx-service.shop.svc.cluster.local. MX", "NODATA"},
		{"named port", "_web._tcp.nginx-service.shop.svc.cluster.local. SRV", "SRV 5000 nginx-service.shop.svc.cluster.local."},
		{"every port", "metrics-and-web.shop.svc.cluster.local. SRV", harness.Records("SRV",
			"80 metrics-and-web.shop.svc.cluster.local.", "9100 metrics-and-web.shop.svc.cluster.local.",
			"514 metrics-and-web.shop.svc.cluster.local.", "3868 metrics-and-web.shop.svc.cluster.local.")},
		{"UDP port", "_syslog._udp.metrics-and-web.shop.svc.cluster.local. SRV", "SRV 514 metrics-and-web.shop.svc.cluster.local."},
		{"SCTP port", "_diameter._sctp.metrics-and-web.shop.svc.cluster.local. SRV", "SRV 3868 metrics-and-web.shop.svc.cluster.local."},
		{"wrong protocol", "_syslog._tcp.metrics-and-web.shop.svc.cluster.local. SRV", "NXDOMAIN"},
		{"wrong port", "_smtp._tcp.nginx-service.shop.svc.cluster.local. SRV", "NXDOMAIN"},
		{"port name asked for an address", "_web._tcp.nginx-service.shop.svc.cluster.local. A", "NODATA"},
		{"above a port name", "_tcp.nginx-service.shop.svc.cluster.local. SRV", "NODATA"},
		{"above no port name", "_sctp.nginx-service.shop.svc.cluster.local. SRV", "NXDOMAIN"},
		{"port name without underscore", "web.tcp.nginx-service.shop.svc.cluster.local. SRV", "NXDOMAIN"},
		{"underscores alone", "_._tcp.nginx-service.shop.svc.cluster.local. SRV", "NXDOMAIN"},
		{"unnamed port", "unnamed-port.shop.svc.cluster.local. SRV", "SRV 6379 unnamed-port.shop.svc.cluster.local."},
		{"reverse", harness.Reverse(ip) + " PTR", "PTR nginx-service.shop.svc.cluster.local."},
		{"reverse of several ports", harness.Reverse(several) + " PTR", "PTR metrics-and-web.shop.svc.cluster.local."},
		{"reverse, no port name", harness.Reverse(unnamed) + " PTR", "PTR unnamed-port.shop.svc.cluster.local."},
		{"both families, IPv4", "both-families.shop.svc.cluster.local. A", "A " + both[0]},
		{"both families, IPv6", "both-families.shop.svc.cluster.local. AAAA", "AAAA " + both[1]},
		{"both families, one SRV", "_web._tcp.both-families.shop.svc.cluster.local. SRV", "SRV 80 both-families.shop.svc.cluster.local."},
		{"both families, reverse", harness.Reverse(both[1]) + " PTR", "PTR both-families.shop.svc.cluster.local."},
		{"NodePort: the ClusterIP", "from-outside.shop.svc.cluster.local. A", "A " + outside},
		{"endpoint by dashed address", strings.ReplaceAll(pods[0], ".", "-") + ".nginx-service.shop.svc.cluster.local. A", "A " + pods[0]},
		{"no such service", "nothing.shop.svc.cluster.local. A", "NXDOMAIN"},
		{"no such namespace", "nginx-service.nowhere.svc.cluster.local. A", "NXDOMAIN"},
		{"namespace", "shop.svc.cluster.local. A", "NODATA"},
		{"API server's own service", "kubernetes.default.svc.cluster.local. A", "A 10.96.0.1"},
		{"schema version", "dns-version.cluster.local. TXT", `TXT "1.1.0"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { s.Expect(t, test.question, test.want) })
	}

	t.Run("SRV brings the address along", func(t *testing.T) {
		for _, one := range s {
			reply := one.Ask(t, "_web._tcp.nginx-service.shop.svc.cluster.local. SRV")
			if len(reply.Extra) != 1 || !strings.HasSuffix(reply.Extra[0].String(), ip) {
				t.Errorf("additional section %v from %s; want the address %s of the target", reply.Extra, one.DNS, ip)
			}
		}
	})
	t.Run("over TCP", func(t *testing.T) {
		for _, one := range s {
			reply, err := one.Try(t, harness.Question{Text: "nginx-service.shop.svc.cluster.local. A", Network: "tcp"})
			if err != nil {
				t.Fatal(err)
			}
			if got := harness.Text(reply); got != "A "+ip {
				t.Errorf("got %s from %s; want %s", got, one.DNS, ip)
			}
		}
	})
}

// Environment variables are set when a container starts; DNS knows what came later.
func TestServiceMadeAfterTheClientStarted(t *testing.T) {
	t.Parallel()
	const namespace = "late"
	cluster.Apply(t, namespace, "testdata/nginx-service.yaml")
	s := serveAll(t)
	s.Expect(t, "cache.late.svc.cluster.local. A", "NXDOMAIN")

	services := cluster.Client.CoreV1().Services(namespace)
	made, err := services.Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "cache"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "redis", Port: 6379}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.ExpectWithin(t, shownWithin, "cache.late.svc.cluster.local. A", "A "+made.Spec.ClusterIP)
	s.ExpectWithin(t, shownWithin, "_redis._tcp.cache.late.svc.cluster.local. SRV", "SRV 6379 cache.late.svc.cluster.local.")
	s.ExpectWithin(t, shownWithin, harness.Reverse(made.Spec.ClusterIP)+" PTR", "PTR cache.late.svc.cluster.local.")

	made.Spec.Ports[0].Port = 6380
	if _, err := services.Update(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.ExpectWithin(t, shownWithin, "_redis._tcp.cache.late.svc.cluster.local. SRV", "SRV 6380 cache.late.svc.cluster.local.")

	if err := services.Delete(t.Context(), "cache", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.ExpectWithin(t, shownWithin, "cache.late.svc.cluster.local. A", "NXDOMAIN")
	s.uncached().ExpectWithin(t, shownWithin, harness.Reverse(made.Spec.ClusterIP)+" PTR", "NXDOMAIN")
}

// What the kubelet puts into a container's environment, DNS says too.
func TestEnvironmentVariablesAgreeWithDNS(t *testing.T) {
	t.Parallel()
	const namespace = "env"
	cluster.Apply(t, namespace, "testdata/nginx-service.yaml")
	cluster.Apply(t, namespace, "testdata/more-services.yaml")
	list, err := cluster.Client.CoreV1().Services(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	services := []*corev1.Service{cluster.Service(t, "default", "kubernetes")} // every pod gets this one
	for i := range list.Items {
		services = append(services, &list.Items[i])
	}
	s := serveAll(t)

	variables := envvars.FromServices(services)
	if len(variables) == 0 {
		t.Fatal("the kubelet would set no variable")
	}
	for _, variable := range variables {
		t.Run(variable.Name, func(t *testing.T) {
			service, rest := owner(t, services, variable.Name)
			name := service.Name + "." + service.Namespace + ".svc.cluster.local."
			host, port, check := meaning(t, service, rest, variable.Value)
			if check&checksHost != 0 {
				qtype := "A"
				if net.ParseIP(host).To4() == nil {
					qtype = "AAAA"
				}
				s.Expect(t, name+" "+qtype, qtype+" "+host)
			}
			if check&checksPort != 0 {
				question := name + " SRV" // of a single port that has no name
				if port.Name != "" {
					question = fmt.Sprintf("_%s._%s.%s SRV", port.Name, strings.ToLower(string(port.Protocol)), name)
				}
				s.Expect(t, question, fmt.Sprintf("SRV %d %s", port.Port, name))
			}
		})
	}
}

// owner finds the service that a variable is about, and what its name says behind the service's.
func owner(t *testing.T, services []*corev1.Service, variable string) (*corev1.Service, string) {
	t.Helper()
	for _, service := range services {
		if rest, found := strings.CutPrefix(variable, variableName(service.Name)+"_"); found {
			return service, rest
		}
	}
	t.Fatalf("variable %s belongs to no service", variable)
	return nil, ""
}

// variableName is how the kubelet spells the name of a service or port.
func variableName(name string) string {
	return strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// What a variable says.
const (
	checksHost = 1 << iota
	checksPort
)

var linkVariable = regexp.MustCompile(`^PORT_([0-9]+)_(TCP|UDP|SCTP)(|_PROTO|_PORT|_ADDR)$`)

// meaning reads the host and the port out of a variable, checking them against each other and the port's protocol.
func meaning(t *testing.T, service *corev1.Service, rest, value string) (host string, port corev1.ServicePort, check int) {
	t.Helper()
	ports := service.Spec.Ports
	number := func(text string) corev1.ServicePort {
		for _, port := range ports {
			if strconv.Itoa(int(port.Port)) == text {
				return port
			}
		}
		t.Fatalf("service %s has no port %s", service.Name, text)
		return corev1.ServicePort{}
	}
	url := func() (string, corev1.ServicePort) {
		protocol, address, _ := strings.Cut(value, "://")
		host, text, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatalf("%q: %v", value, err)
		}
		port := number(text)
		if !strings.EqualFold(protocol, string(port.Protocol)) {
			t.Errorf("%q: want protocol %s", value, port.Protocol)
		}
		return host, port
	}
	switch {
	case rest == "SERVICE_HOST":
		return value, port, checksHost
	case rest == "SERVICE_PORT":
		return "", number(value), checksPort
	case strings.HasPrefix(rest, "SERVICE_PORT_"):
		port := number(value)
		if rest != "SERVICE_PORT_"+variableName(port.Name) {
			t.Errorf("port %s is %s", value, port.Name)
		}
		return "", port, checksPort
	case rest == "PORT":
		host, port := url()
		return host, port, checksHost | checksPort
	}
	link := linkVariable.FindStringSubmatch(rest)
	if link == nil {
		t.Fatalf("the kubelet sets a variable that this test does not know: %s", rest)
	}
	port = number(link[1])
	if link[2] != string(port.Protocol) {
		t.Errorf("port %d is %s", port.Port, port.Protocol)
	}
	switch link[3] {
	case "":
		host, port := url()
		return host, port, checksHost | checksPort
	case "_PROTO":
		if !strings.EqualFold(value, string(port.Protocol)) {
			t.Errorf("%q: want %s", value, port.Protocol)
		}
		return "", port, checksPort
	case "_PORT":
		return "", number(value), checksPort
	default: // _ADDR
		return value, port, checksHost | checksPort
	}
}
