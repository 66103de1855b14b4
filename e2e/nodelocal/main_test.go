package nodelocal

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

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
	harness.RemoveStaleNetns()
	os.Exit(m.Run())
}
