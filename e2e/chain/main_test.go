package chain

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/e2e/harness"
)

func TestMain(m *testing.M) {
	if os.Getenv("KUBEZONE_BIN") == "" {
		path, err := filepath.Abs("../../bin/coredns")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_ = os.Setenv("KUBEZONE_BIN", path) // the name is a valid one
	}
	os.Exit(m.Run())
}

// serve starts the server on a Corefile whose first block has the ready plugin, and waits until it is ready. The folder
// testdata is {$DATA}.
func serve(t *testing.T, corefile string, environment ...string) *harness.Server {
	t.Helper()
	data, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	s := harness.StartServer(t, corefile, append(environment, "DATA="+data)...)
	s.AwaitReady(t)
	return s
}

// block is a server block for everything, with the plugins that are given, ready, and our own plugin with its options.
func block(plugins, options string) string {
	return ".:{$DNS} {\n\terrors\n\tready :{$READY}\n\tprometheus :{$METRICS}\n" + plugins +
		"\n\tkubernetes cluster.local in-addr.arpa ip6.arpa {\n\t\tmanifests {$DATA}/cluster.yaml\n\t\t" + options +
		"\n\t}\n\tfile {$DATA}/example.org.zone example.org\n}\n"
}

// askFrom asks from an address on loopback.
func askFrom(t *testing.T, s *harness.Server, source, text string) string {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(source)}}
	reply, _, err := (&dns.Client{Dialer: &dialer, Timeout: 5 * time.Second}).Exchange(harness.Question{Text: text}.Message(t), s.DNS)
	if err != nil {
		t.Fatalf("%s from %s: %v", text, source, err)
	}
	return harness.Text(reply)
}

// startCluster starts an API server with the rights that an operator would install, and no controllers.
func startCluster(t *testing.T) *harness.Cluster {
	t.Helper()
	dir := os.Getenv("KUBEZONE_CONTROLPLANE")
	if dir == "" {
		output, err := exec.Command(filepath.Join("..", "controlplane", "build.sh")).Output()
		if err != nil {
			t.Fatalf("controlplane/build.sh: %v", err)
		}
		dir = strings.TrimSpace(string(output))
	}
	c, err := harness.StartCluster(harness.Options{Families: harness.IPv4Only, Binaries: dir, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Tails())
		}
		c.Stop()
	})
	if err := c.GrantRights(t.Context(), "../..", "pods"); err != nil {
		t.Fatal(err)
	}
	return c
}
