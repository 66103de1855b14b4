package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"
)

// top is the top of the repository: the working directory of `make run`.
const top = "../.."

// binary is what `make build` makes; TestMain builds it once.
var binary string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "coredns-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	binary = filepath.Join(folder, "coredns")
	build := exec.Command("make", "-C", top, "build", "BIN="+binary)
	build.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "MAKE") || strings.HasPrefix(variable, "MFLAGS") // an outer make's job server is not ours
	})
	if output, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "make build: %v\n%s", err, output)
		return 1
	}
	return m.Run()
}

// The binary of a node's DNS is on every node and in every rollout. Stock CoreDNS 1.15.0 has 79 MB.
func TestBinarySize(t *testing.T) {
	const most = 32 << 20
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f MiB", float64(info.Size())/(1<<20))
	if info.Size() > most {
		t.Errorf("the binary has %d bytes; want at most %d", info.Size(), most)
	}
}

func TestVersion(t *testing.T) {
	output := strings.Split(command(t, ".", binary, "-version"), "\n")
	if want := "kubezone-" + version + " (CoreDNS-1.15.0)"; output[0] != want {
		t.Errorf("-version says %q; want %q", output[0], want)
	}
	if want := runtime.GOOS + "/" + runtime.GOARCH; !strings.HasPrefix(output[1], want) {
		t.Errorf("-version goes on with %q; want %q and so on", output[1], want)
	}
}

func TestLinkedPlugins(t *testing.T) {
	want := strings.Fields(`acl any autopath bind bufsize cache cancel chaos clientlimit clusterdns debug dns64 errors file forward header health
		hosts k8s_external kubernetes kubezone loadbalance local log loop metadata minimal multisocket nodelocal nsid pprof prometheus ready reload
		rewrite root secondary shed template timeouts tls transfer tsig udpbatch view whoami on`)
	want = append(want, "dnstap") // linked by forward, and refused all the same
	slices.Sort(want)
	got := strings.Fields(command(t, ".", binary, "-plugins"))
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("-plugins lists\n%q; want\n%q", got, want)
	}

	for _, name := range directives {
		if _, out := leftOut[name]; !out && !slices.Contains(got, name) {
			t.Errorf("directive %q is neither linked nor left out", name)
		}
	}
}

func TestDirectivesAreInStockOrder(t *testing.T) {
	ours := slices.DeleteFunc(slices.Clone(directives), func(name string) bool {
		return slices.Contains([]string{"clientlimit", "clusterdns", "kubezone", "nodelocal", "udpbatch"}, name)
	})
	if !slices.Equal(ours, dnsserver.Directives) {
		t.Errorf("without ours the directives are\n%q; want stock CoreDNS's\n%q", ours, dnsserver.Directives)
	}
	if i := slices.Index(directives, "kubezone"); directives[i+1] != "kubernetes" {
		t.Errorf("%q follows kubezone; want kubernetes", directives[i+1])
	}
	if i := slices.Index(directives, "nodelocal"); directives[i-1] != "bind" { // whose addresses it adds to, and before health, whose lameduck pause comes after it has left
		t.Errorf("%q is before nodelocal; want bind", directives[i-1])
	}
	if i := slices.Index(directives, "udpbatch"); directives[i-1] != "shed" { // after health, whose lameduck pause its sockets are to outlive
		t.Errorf("%q is before udpbatch; want shed", directives[i-1])
	}
	if i := slices.Index(directives, "clientlimit"); directives[i-1] != "prometheus" || directives[i+1] != "errors" {
		t.Errorf("clientlimit is between %q and %q; want prometheus, which counts what it refuses, and errors", directives[i-1], directives[i+1])
	}
	for name := range leftOut {
		if !slices.Contains(directives, name) {
			t.Errorf("%q is left out, but stock CoreDNS has no such directive", name)
		}
	}
}

func TestDependencies(t *testing.T) {
	unwanted := []string{
		"github.com/coredns/coredns/core/plugin", // links every plugin of stock CoreDNS
		"github.com/coredns/coredns/plugin/kubernetes",
		"k8s.io/client-go/kubernetes", // the clientset links every API group
		"k8s.io/client-go/informers",
		"github.com/aws/", "github.com/Azure/", "cloud.google.com/", "google.golang.org/api/",
		"github.com/DataDog/", "github.com/openzipkin/", "go.etcd.io/", "github.com/hashicorp/nomad",
	}
	packages := strings.Fields(command(t, ".", "go", "list", "-deps", "."))
	if !slices.Contains(packages, "github.com/kubezone/kubezone/plugin/kubezone") {
		t.Errorf("kubezone is not among the %d packages linked", len(packages))
	}
	for _, name := range packages {
		for _, prefix := range unwanted {
			if name == strings.TrimSuffix(prefix, "/") || strings.HasPrefix(name, strings.TrimSuffix(prefix, "/")+"/") {
				t.Errorf("%s is linked; want nothing of %s", name, prefix)
			}
		}
	}
}

// Packages that start programs, each with its reason. Nothing else in the binary can, and nothing is written in C: a hole
// in the parsing of a message stays one in Go.
var startPrograms = map[string]string{
	"github.com/coredns/caddy":                     "its restart in place, which a signal asks for and CoreDNS leaves out",
	"github.com/coredns/caddy/onevent/hook":        "the directive on, which runs what the Corefile says",
	"k8s.io/client-go/plugin/pkg/client/auth/exec": "credentials of a kubeconfig that names a program",
}

func TestWhatMayStartPrograms(t *testing.T) {
	var got []string
	for line := range strings.Lines(command(t, ".", "go", "list", "-deps", "-f", `{{if not .Standard}}{{.ImportPath}} {{len .CgoFiles}} {{join .Imports " "}}{{end}}`, ".")) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if words[1] != "0" || slices.Contains(words[2:], "C") {
			t.Errorf("%s is written in C in part", words[0])
		}
		if slices.Contains(words[2:], "os/exec") || slices.Contains(words[2:], "plugin") {
			got = append(got, words[0])
		}
	}
	want := slices.Sorted(maps.Keys(startPrograms))
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("programs can be started by\n%q; want\n%q", got, want)
	}
}

// command runs a command in a folder and returns its standard output.
func command(t *testing.T, folder, name string, arguments ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, arguments...)
	c.Dir = folder
	var stderr strings.Builder
	c.Stderr = &stderr
	output, err := c.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, arguments, err, &stderr)
	}
	return string(output)
}
