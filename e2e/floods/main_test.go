package floods

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kubezone/kubezone/e2e/harness"
)

var lasting = flag.Duration("for", 3*time.Second, "how long to flood each server")

// A side is one of the servers that are compared.
type side struct {
	name      string
	program   string
	directive string
	ours      bool // what is wanted is wanted of this one
}

// sides are all of them, but stock where it has not been built.
func sides(t *testing.T) []side {
	t.Helper()
	ours, err := filepath.Abs("../../bin/coredns")
	if err != nil {
		t.Fatal(err)
	}
	if path := os.Getenv("KUBEZONE_BIN"); path != "" {
		ours = path
	}
	list := []side{{name: "udpbatch", program: ours, directive: "udpbatch", ours: true}}
	programs := os.Getenv("KUBEZONE_CONTROLPLANE")
	if programs == "" {
		output, err := exec.Command(filepath.Join("..", "controlplane", "build.sh")).Output()
		if err != nil {
			t.Fatalf("controlplane/build.sh: %v", err)
		}
		programs = strings.TrimSpace(string(output))
	}
	stock := filepath.Join(programs, "coredns-stock")
	if _, err := os.Stat(stock); err != nil {
		t.Log("there is no stock CoreDNS to compare with")
		return list
	}
	return append(list, side{name: "stock", program: stock}, side{name: "stock, shed", program: stock, directive: "shed"})
}

// corefile answers names of cluster.local from memory, and waits for an upstream, which never answers, for those of
// example.net.
const corefile = `.:{$DNS} {
	bind 127.0.0.1
	errors
	#directive
	prometheus 127.0.0.1:{$METRICS}
	hosts {$HOSTS} cluster.local
	forward example.net {$UPSTREAM}
}
`

// memoryLimit is what kubeadm gives to CoreDNS.
const memoryLimit = 170 << 20

// start starts a side, with a memory limit and at most so many open files. It says what bounds the memory.
func (s side) start(t *testing.T, files int) *harness.Server {
	t.Helper()
	dir := t.TempDir()
	hosts := filepath.Join(dir, "hosts")
	harness.WriteFile(t, hosts, "192.0.2.1 plain.cluster.local\n")
	script := filepath.Join(dir, filepath.Base(s.program))
	text := fmt.Sprintf("#!/bin/sh\nulimit -n %d\n%s\nexec %s \"$@\"\n", files, limitMemory(t), s.program)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBEZONE_BIN", script)
	server := harness.StartServer(t, strings.Replace(corefile, "#directive", s.directive, 1), "HOSTS="+hosts, "UPSTREAM="+silent(t))
	harness.Eventually(t, 10*time.Second, func() error { _, err := ask(server, "udp", time.Second); return err })
	return server
}

// limitMemory makes a cgroup with the limit and returns the line of a script that enters it. Without the right to make
// one, the limit is Go's own.
func limitMemory(t *testing.T) string {
	t.Helper()
	parent, file := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
	if _, err := os.Stat(parent); err != nil {
		parent, file = "/sys/fs/cgroup", "memory.max"
	}
	folder, err := os.MkdirTemp(parent, "kubezone-test-")
	if err == nil {
		t.Cleanup(func() {
			// The server has ended by then, but the kernel may take a moment to see it.
			if err := harness.Poll(5*time.Second, func() error { return os.Remove(folder) }); err != nil {
				t.Error(err)
			}
		})
		err = os.WriteFile(filepath.Join(folder, file), []byte(strconv.Itoa(memoryLimit)), 0)
	}
	if err != nil {
		t.Logf("memory is limited by GOMEMLIMIT alone: %v", err)
		return fmt.Sprintf("export GOMEMLIMIT=%d", memoryLimit)
	}
	return fmt.Sprintf("echo $$ >%s/cgroup.procs", folder)
}

// A figure is one line of what is printed.
type figure struct{ side, text string }

// table prints figures.
func table(t *testing.T, title string, figures []figure) {
	t.Helper()
	var text strings.Builder
	for _, f := range figures {
		fmt.Fprintf(&text, "\n  %-12s %s", f.side, f.text)
	}
	fmt.Printf("%s, %s each:%s\n", title, *lasting, text.String())
}
