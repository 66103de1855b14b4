package harness

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	_ "embed" // stages.yaml
	"encoding/pem"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	certutil "k8s.io/client-go/util/cert"
)

// Families is the set of address families that a cluster gives its services and pods.
type Families string

// The three kinds of cluster that Kubernetes knows.
const (
	DualStack Families = "dual-stack" // IPv4 first
	IPv4Only  Families = "ipv4-only"
	IPv6Only  Families = "ipv6-only"
)

func (f Families) pick(v4, v6 string) []string {
	switch f {
	case IPv4Only:
		return []string{v4}
	case IPv6Only:
		return []string{v6}
	}
	return []string{v4, v6}
}

const (
	// Domain is the cluster domain of every cluster here.
	Domain = "cluster.local"

	adminToken  = "admin-of-a-cluster-that-lives-for-one-test-run"
	readyWithin = 60 * time.Second // a control plane is ready in about 3 s; two busy CPUs may need many times that

	// SettleWithin is the time that controllers, scheduler and simulated kubelets may take to act on a change.
	SettleWithin = 30 * time.Second
)

// auditPolicy notes each request of a service account when it comes; what admin and control plane do is of no interest.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [ResponseStarted, ResponseComplete]
rules:
- level: None
  users: [admin, "system:apiserver"]
- level: Metadata
`

//go:embed stages.yaml
var stages []byte

// Options say what kind of cluster to start.
type Options struct {
	Families  Families
	Binaries  string // the folder that e2e/controlplane/build.sh printed
	Dir       string // for data and logs; one of its own for each cluster
	Workloads bool   // run controllers, scheduler and simulated nodes: Deployments turn into ready pods and slices
}

// A Cluster is a Kubernetes control plane on loopback ports. Its methods may be used by several tests at once, but for
// StopAPIServer and StartAPIServer, which are for a cluster that a test has for itself.
type Cluster struct {
	Client  kubernetes.Interface
	Dynamic dynamic.Interface
	Etcd    string // client URL
	CA      string // the API server's certificate authority, a file

	options         Options
	port            int
	kubeconfig      string
	mapper          mapper
	clientAuthority *x509.Certificate // signs the certificates of ClientCertificate
	clientKey       crypto.Signer
	apiserver       *Process
	etcd            *Process
	processes       []*Process // in the order they were started; the API server is not among them
}

// StartCluster starts a control plane and returns once it serves. On an error whatever was started is stopped again.
func StartCluster(options Options) (_ *Cluster, err error) {
	c := &Cluster{options: options}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, c.Tails())
			c.Stop()
		}
	}()
	if err := os.MkdirAll(options.Dir, 0o755); err != nil {
		return nil, err
	}
	for _, step := range []func() error{c.writeKeys, c.startEtcd, c.StartAPIServer, c.connect, c.awaitOwnService, c.startWorkloads} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Stop ends every process of the cluster.
func (c *Cluster) Stop() {
	if c.apiserver != nil {
		c.apiserver.Kill() // its graceful stop would wait for watches to end
	}
	for i := len(c.processes) - 1; i >= 0; i-- {
		c.processes[i].Kill()
	}
}

// StopAPIServer kills the API server and leaves the rest of the cluster running.
func (c *Cluster) StopAPIServer() {
	c.apiserver.Kill()
}

// StartAPIServer starts the API server, on the port it had before if any, and returns once it is ready.
func (c *Cluster) StartAPIServer() error {
	if c.port == 0 {
		ports, err := freePorts(1)
		if err != nil {
			return err
		}
		c.port = ports[0]
	}
	ranges := c.options.Families.pick("10.96.0.0/12", "fd00:10:96::/112")
	var err error
	c.apiserver, err = c.start("kube-apiserver",
		"--etcd-servers="+c.Etcd,
		"--bind-address=127.0.0.1",
		// Of the family of the first service range, as the server demands. Nobody connects to it.
		"--advertise-address="+c.options.Families.pick("198.51.100.10", "2001:db8::10")[0],
		"--secure-port="+strconv.Itoa(c.port),
		"--tls-cert-file="+c.file("server.crt"),
		"--tls-private-key-file="+c.file("server.key"),
		"--service-account-key-file="+c.file("sa.key"),
		"--service-account-signing-key-file="+c.file("sa.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--token-auth-file="+c.file("tokens.csv"),
		"--client-ca-file="+c.file("clients.crt"),
		"--authorization-mode=RBAC",
		"--service-cluster-ip-range="+strings.Join(ranges, ","),
		"--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
		"--profiling=false",
		"--audit-policy-file="+c.file("audit.yaml"),
		"--audit-log-path="+c.file("audit.log"),
	)
	if err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(c.Config())
	if err != nil {
		return err
	}
	return c.await(c.apiserver, func() error {
		response, err := client.Get(c.URL() + "/readyz")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("kube-apiserver: %s", response.Status)
		}
		return nil
	})
}

// URL is where the API server listens, also while it is stopped.
func (c *Cluster) URL() string { return "https://" + c.Address() }

// Address is the host and port of URL.
func (c *Cluster) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)) }

// Config gives all rights.
func (c *Cluster) Config() *rest.Config {
	return &rest.Config{
		Host:            c.URL(),
		BearerToken:     adminToken,
		TLSClientConfig: rest.TLSClientConfig{CAFile: c.CA},
		QPS:             1000, // the tests are not what should be slow
		Burst:           1000,
	}
}

// Tails returns the end of every log.
func (c *Cluster) Tails() string {
	var text strings.Builder
	all := c.processes
	if c.apiserver != nil {
		all = append(all[:len(all):len(all)], c.apiserver)
	}
	for _, p := range all {
		fmt.Fprintf(&text, "--- %s (%s)\n%s\n", p.Name, c.options.Families, p.Tail(15))
	}
	return text.String()
}

func (c *Cluster) file(name string) string { return filepath.Join(c.options.Dir, name) }

func (c *Cluster) start(name string, args ...string) (*Process, error) {
	return StartProcess(c.options.Dir, name, exec.Command(filepath.Join(c.options.Binaries, name), args...))
}

// await polls check until it passes, and gives up early when the process ends.
func (c *Cluster) await(p *Process, check func() error) error {
	ended := false
	err := Poll(readyWithin, func() error {
		select {
		case <-p.Done():
			ended = true
			return nil
		default:
			return check()
		}
	})
	if ended {
		return fmt.Errorf("%s ended while starting", p.Name)
	}
	return err
}

// writeKeys makes the certificates, the key that signs service-account tokens, and the admin's credentials.
func (c *Cluster) writeKeys() error {
	// The addresses of the `kubernetes` service, for a server that reaches the API as a pod does.
	ips := []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP("10.96.0.1"), net.ParseIP("fd00:10:96::1")}
	cert, key, err := certutil.GenerateSelfSignedCertKey("kubernetes.default.svc", ips, []string{"kubernetes", "localhost"})
	if err != nil {
		return err
	}
	signer, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	signerDER, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return err
	}
	if err := c.writeClientAuthority(); err != nil {
		return err
	}
	c.CA = c.file("server.crt") // the file holds the authority's certificate behind the server's own
	for name, text := range map[string][]byte{
		"server.crt": cert,
		"server.key": key,
		"sa.key":     pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: signerDER}),
		"tokens.csv": []byte(adminToken + ",admin,1,system:masters\n"),
		"audit.yaml": []byte(auditPolicy),
	} {
		if err := os.WriteFile(c.file(name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) startEtcd() error {
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	c.Etcd = fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	peer := fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	p, err := c.start("etcd",
		"--data-dir="+c.file("etcd"),
		"--listen-client-urls="+c.Etcd, "--advertise-client-urls="+c.Etcd,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer,
		"--unsafe-no-fsync", "--log-level=error")
	if err != nil {
		return err
	}
	c.etcd, c.processes = p, append(c.processes, p)
	return c.await(p, func() error {
		response, err := http.Get(c.Etcd + "/health")
		if err != nil {
			return err
		}
		return response.Body.Close()
	})
}

func (c *Cluster) connect() error {
	var err error
	if c.Client, err = kubernetes.NewForConfig(c.Config()); err != nil {
		return err
	}
	if c.Dynamic, err = dynamic.NewForConfig(c.Config()); err != nil {
		return err
	}
	c.kubeconfig = c.file("admin.kubeconfig")
	if err := os.WriteFile(c.file("admin.token"), []byte(adminToken), 0o600); err != nil {
		return err
	}
	return WriteKubeconfig(c.kubeconfig, c.URL(), c.CA, c.file("admin.token"))
}

// AdminKubeconfig is a kubeconfig file of somebody who may do everything.
func (c *Cluster) AdminKubeconfig() string { return c.kubeconfig }

// awaitOwnService waits for what the API server creates by itself, a moment after it says that it is ready.
func (c *Cluster) awaitOwnService() error {
	return c.await(c.apiserver, func() error {
		_, err := c.Client.CoreV1().Services("default").Get(context.Background(), "kubernetes", metav1.GetOptions{})
		return err
	})
}

func (c *Cluster) startWorkloads() error {
	if !c.options.Workloads {
		return nil
	}
	if err := os.WriteFile(c.file("stages.yaml"), stages, 0o644); err != nil {
		return err
	}
	nodeIP := c.options.Families.pick("192.0.2.10", "2001:db8::20")[0]
	for _, command := range [][]string{
		{"kube-controller-manager", "--leader-elect=false", "--secure-port=0", "--kube-api-qps=200", "--kube-api-burst=400",
			"--controllers=endpointslice-controller,endpointslice-mirroring-controller,deployment-controller," +
				"replicaset-controller,statefulset-controller,namespace-controller,garbage-collector-controller,serviceaccount-controller"},
		{"kube-scheduler", "--leader-elect=false", "--secure-port=0", "--kube-api-qps=200", "--kube-api-burst=400"},
		{"kwok", "--manage-all-nodes=true", "--node-ip=" + nodeIP, "--config=" + c.file("stages.yaml")},
	} {
		p, err := c.start(command[0], append(command[1:], "--kubeconfig="+c.kubeconfig)...)
		if err != nil {
			return err
		}
		c.processes = append(c.processes, p)
	}
	return c.createNodes()
}

// createNodes makes two nodes in two topology zones, each with pod addresses of every family the cluster has.
func (c *Cluster) createNodes() error {
	for i, topologyZone := range []string{"west", "east"} {
		node := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{
				Name:   fmt.Sprintf("node-%d", i),
				Labels: map[string]string{corev1.LabelTopologyZone: topologyZone, corev1.LabelHostname: fmt.Sprintf("node-%d", i)},
			},
			Spec: corev1.NodeSpec{
				PodCIDRs: c.options.Families.pick(fmt.Sprintf("10.244.%d.0/24", i+1), fmt.Sprintf("fd00:10:244:%d::/64", i+1)),
			},
		}
		node.Spec.PodCIDR = node.Spec.PodCIDRs[0]
		// Right after a start the API server may still be busy creating what it needs itself.
		err := Poll(readyWithin, func() error {
			_, err := c.Client.CoreV1().Nodes().Create(context.Background(), node, metav1.CreateOptions{})
			if apierrors.IsAlreadyExists(err) {
				return nil
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("node %s: %w", node.Name, err)
		}
	}
	return nil
}

// WriteKubeconfig writes a kubeconfig whose token is in a file of its own, so that it can be rotated.
func WriteKubeconfig(path, server, caFile, tokenFile string) error {
	var text bytes.Buffer
	fmt.Fprintf(&text, `apiVersion: v1
kind: Config
clusters:
- name: e2e
  cluster: {server: %q, certificate-authority: %q}
users:
- name: e2e
  user: {tokenFile: %q}
contexts:
- name: e2e
  context: {cluster: e2e, user: e2e}
current-context: e2e
`, server, caFile, tokenFile)
	return os.WriteFile(path, text.Bytes(), 0o600)
}

// freePorts returns ports on loopback that neither UDP nor TCP used a moment ago. They lie below the ports that the
// kernel gives to clients: else a client could take the port of a server that is being restarted.
func freePorts(n int) ([]int, error) {
	var ports []int
	for tries := 0; len(ports) < n; tries++ {
		if tries > 1000 {
			return nil, errors.New("no free port between 10000 and 32000")
		}
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(10000+mathrand.IntN(22000)))
		tcp, err := net.Listen("tcp4", address)
		if err != nil {
			continue
		}
		defer tcp.Close() // held until all are found, so that they differ
		udp, err := net.ListenPacket("udp4", address)
		if err != nil {
			continue
		}
		defer udp.Close()
		ports = append(ports, tcp.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
