package harness

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Binary is the DNS server under test: $KUBEZONE_BIN, else what `make build` leaves.
func Binary() string {
	if path := os.Getenv("KUBEZONE_BIN"); path != "" {
		return path
	}
	path, err := filepath.Abs("../bin/coredns")
	if err != nil {
		return "../bin/coredns"
	}
	return path
}

// A Server is a DNS server under test, reached over the network only.
type Server struct {
	*Process
	DNS      string // address, for UDP and TCP
	Health   string // base URLs
	Ready    string
	Metrics  string
	Corefile string // path
	Started  time.Time
	Batched  bool // its blocks have udpbatch

	dial Dialer
}

// A Dialer opens a connection, perhaps in another network namespace.
type Dialer func(network, address string) (net.Conn, error)

// StartServer starts the server with a Corefile on free loopback ports, which the Corefile names as {$DNS}, {$HEALTH},
// {$READY} and {$METRICS}: CoreDNS itself puts them in from the environment, as it does with every other NAME=VALUE
// given here. It does not wait for anything.
func StartServer(t testing.TB, corefile string, environment ...string) *Server {
	t.Helper()
	ports, err := freePorts(4)
	if err != nil {
		t.Fatal(err)
	}
	address := func(i int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[i])) }
	s := &Server{
		DNS:     address(0),
		Health:  "http://" + address(1),
		Ready:   "http://" + address(2),
		Metrics: "http://" + address(3),
		dial:    net.Dial,
	}
	for i, name := range []string{"DNS", "HEALTH", "READY", "METRICS"} {
		environment = append(environment, fmt.Sprintf("%s=%d", name, ports[i]))
	}
	s.start(t, corefile, environment, func(name string, args ...string) *exec.Cmd { return exec.Command(name, args...) })
	return s
}

// StartServerIn starts the server in a network namespace, as a pod of a service account: the Corefile is not touched,
// so it may name the ports of a real deployment, and secrets is the folder that the server sees at
// /var/run/secrets/kubernetes.io/serviceaccount. The answers are asked for at address.
func StartServerIn(t testing.TB, ns *Netns, address, corefile, secrets string, environment ...string) *Server {
	t.Helper()
	s := ns.server(nil, address)
	s.start(t, corefile, environment, func(name string, args ...string) *exec.Cmd {
		// `ip netns exec` gives the program a mount namespace of its own, so the machine sees none of these mounts.
		const mounts = `mount -t tmpfs tmpfs /var/run/ && mkdir -p ` + accountPath + ` &&
			mount --bind "$0" ` + accountPath + ` && exec "$@"`
		return ns.Command("sh", append([]string{"-c", mounts, secrets, name}, args...)...)
	})
	return s
}

// At is a server that others run, as clients in the namespace see it at an address.
func (ns *Netns) At(address string) *Server { return ns.server(nil, address) }

// server is one in the namespace, at the ports of a real deployment.
func (ns *Netns) server(process *Process, address string) *Server {
	return &Server{
		Process: process,
		DNS:     address,
		Health:  "http://127.0.0.1:8080",
		Ready:   "http://127.0.0.1:8181",
		Metrics: "http://127.0.0.1:9153",
		Started: time.Now(),
		dial:    ns.Dial,
	}
}

func (s *Server) start(t testing.TB, corefile string, environment []string, command func(string, ...string) *exec.Cmd) {
	t.Helper()
	dir := t.TempDir()
	s.Corefile = filepath.Join(dir, "Corefile")
	s.Batched = wantsBatches()
	s.WriteCorefile(t, corefile)
	cmd := command(Binary(), "-conf", s.Corefile)
	cmd.Env = append(os.Environ(), environment...)
	cmd.Dir = dir
	s.Started = time.Now()
	var err error
	if s.Process, err = StartProcess(dir, "coredns", cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", Binary(), s.Tail(40))
		}
	})
}

// AwaitReady waits until the server says that it is ready, and answers.
func (s *Server) AwaitReady(t testing.TB) {
	t.Helper()
	Eventually(t, readyWithin, func() error {
		select {
		case <-s.Done():
			t.Fatalf("the server ended:\n%s", s.Tail(40))
		default:
		}
		// The page opens before the DNS port does, and says ready for a moment before it knows whom to ask.
		if _, err := s.Exchange(new(dns.Msg).SetQuestion(Domain+".", dns.TypeSOA), "udp"); err != nil {
			return err
		}
		status, body, err := s.Get(s.Ready + "/ready")
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return fmt.Errorf("/ready: %d %s", status, body)
		}
		return nil
	})
}

// Get fetches a page of the server.
func (s *Server) Get(url string) (status int, body string, err error) {
	transport := &http.Transport{
		DisableKeepAlives: true, // a connection must not outlive a reload
		DialContext:       func(_ context.Context, network, address string) (net.Conn, error) { return s.dial(network, address) },
	}
	response, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Get(url)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

// Reload makes the server read its Corefile again.
func (s *Server) Reload() { s.Signal(syscall.SIGUSR1) }
