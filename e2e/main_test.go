package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kubezone/kubezone/e2e/harness"
)

// cluster is the dual-stack cluster that most tests share. The recommended overlay has been applied to it, and the server's
// service account has no right that the overlay does not give. A test keeps to namespaces of its own in it, and leaves the
// API server alone.
var cluster *harness.Cluster

// logs holds the data and logs of every cluster of this run.
var logs string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	harness.RemoveStaleNetns()
	var err error
	if logs, err = os.MkdirTemp("", "kubezone-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if code == 0 {
			_ = os.RemoveAll(logs)
		} else {
			fmt.Fprintln(os.Stderr, "The control plane's logs are in", logs)
		}
	}()
	cluster, err = startCluster(harness.Options{Families: harness.DualStack, Workloads: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer cluster.Stop()
	overlay, err := kustomize(manifests + "/overlays/recommended")
	if err == nil {
		err = cluster.Kubectl(context.Background(), overlay)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// startCluster starts a control plane that knows the service account and the rights of the base.
func startCluster(options harness.Options) (*harness.Cluster, error) {
	var err error
	if options.Binaries, err = binaries(); err != nil {
		return nil, err
	}
	if options.Dir, err = os.MkdirTemp(logs, string(options.Families)+"-"); err != nil {
		return nil, err
	}
	c, err := harness.StartCluster(options)
	if err != nil {
		return nil, err
	}
	if err := c.GrantRights(context.Background(), ".."); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// newCluster starts a control plane for one test.
func newCluster(t *testing.T, options harness.Options) *harness.Cluster {
	t.Helper()
	c, err := startCluster(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Tails())
		}
		c.Stop()
	})
	return c
}

// binaries is the folder with the control plane's programs: $KUBEZONE_CONTROLPLANE, else that of the pinned versions,
// which are built now unless `make controlplane` has done it.
var binaries = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("KUBEZONE_CONTROLPLANE"); dir != "" {
		return dir, nil
	}
	build := exec.Command(filepath.Join("controlplane", "build.sh"))
	build.Stderr = os.Stderr
	output, err := build.Output()
	if err != nil {
		return "", fmt.Errorf("controlplane/build.sh: %w", err)
	}
	return strings.TrimSpace(string(output)), nil
})
