package differential

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/kubezone/kubezone/e2e/harness"
)

var (
	queries  = flag.Int("queries", 20_000, "how many queries to compare")
	seed     = flag.Uint64("seed", 1, "what the random states and queries come from; the same seed gives the same run")
	perState = flag.Int("per-state", 500, "how many queries to ask of one state of the cluster")
	update   = flag.Bool("update", false, "write the list of differences into the README")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("KUBEZONE_BIN") == "" {
		path, err := filepath.Abs("../../bin/coredns")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_ = os.Setenv("KUBEZONE_BIN", path) // the name is a valid one
	}
	rest.SetDefaultWarningHandler(rest.NoWarnings{}) // some of the states are odd on purpose
	os.Exit(m.Run())
}

// controlplane is the folder with the programs of the control plane and the stock CoreDNS: $KUBEZONE_CONTROLPLANE, else
// that of the pinned versions, which are built now unless `make controlplane` has done it.
func controlplane(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("KUBEZONE_CONTROLPLANE"); dir != "" {
		return dir
	}
	build := exec.Command(filepath.Join("..", "controlplane", "build.sh"))
	build.Stderr = os.Stderr
	output, err := build.Output()
	if err != nil {
		t.Fatalf("controlplane/build.sh: %v", err)
	}
	return strings.TrimSpace(string(output))
}

// startCluster starts an API server that knows the service account and the rights that an operator would install.
// Nothing else runs: the states are all written by the test.
func startCluster(t *testing.T, programs string) *harness.Cluster {
	t.Helper()
	c, err := harness.StartCluster(harness.Options{Families: harness.DualStack, Binaries: programs, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Tails())
		}
		c.Stop()
	})
	if err := c.GrantRights(t.Context(), "../..", "pods", "multicluster"); err != nil {
		t.Fatal(err)
	}
	installImports(t, c)
	return c
}
