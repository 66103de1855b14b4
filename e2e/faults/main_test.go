package faults

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/kubezone/kubezone/e2e/harness"
)

// cluster is shared by the rows, which run one after the other, each with a namespace and proxies of its own.
var cluster *harness.Cluster

// ours and stock are the servers that the rows compare; programs is the folder with those of the control plane.
var ours, stock, programs string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	dir, err := os.MkdirTemp("", "kubezone-faults-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if programs, err = controlplane(); err == nil {
		ours, err = filepath.Abs("../../bin/coredns")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if path := os.Getenv("KUBEZONE_BIN"); path != "" {
		ours = path
	}
	stock = filepath.Join(programs, "coredns-stock")
	if cluster, err = startCluster(harness.Options{Families: harness.IPv4Only, Binaries: programs, Dir: dir}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer cluster.Stop()
	code := m.Run()
	fmt.Print(matrix())
	return code
}

// controlplane is the folder with the programs of the control plane and the stock CoreDNS: $KUBEZONE_CONTROLPLANE, else
// that of the pinned versions, which are built now unless `make controlplane` has done it.
func controlplane() (string, error) {
	if dir := os.Getenv("KUBEZONE_CONTROLPLANE"); dir != "" {
		return dir, nil
	}
	build := exec.Command(filepath.Join("..", "controlplane", "build.sh"))
	build.Stderr = os.Stderr
	output, err := build.Output()
	if err != nil {
		return "", fmt.Errorf("controlplane/build.sh: %w", err)
	}
	return strings.TrimSpace(string(output)), nil
}

// startCluster starts an API server with the rights that an operator would install. Nothing else runs: all there is to
// know is what the rows write.
func startCluster(options harness.Options) (*harness.Cluster, error) {
	c, err := harness.StartCluster(options)
	if err != nil {
		return nil, err
	}
	if err := c.GrantRights(context.Background(), "../.."); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}
