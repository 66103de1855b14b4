package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The subcommands are found by their names, have exit codes, and do not take the place of the server's own flags.
func TestSubcommands(t *testing.T) {
	folder := t.TempDir()
	leaking := filepath.Join(folder, "leaking")
	write(t, leaking, ".:53 {\n    kubezone cluster.local {\n        fallthrough\n        manifests /tmp\n    }\n    forward . 192.0.2.53\n}\n")
	refused := filepath.Join(folder, "refused")
	write(t, refused, ".:53 {\n    kubezone cluster.local {\n        pods sometimes\n    }\n    trace\n}\n")
	recommended := filepath.Join(top, "corefile", "kubezone", "Corefile")
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"doctor -offline -conf " + recommended, 0, "0 errors, 0 warnings, 0 notes\n"},
		{"doctor -offline -conf " + leaking, 1, "WARNING fallthrough: "},
		{"doctor -offline -conf " + refused, 2, "ERROR corefile: line 5: the directive trace is not in this build"},
		{"doctor -offline -conf " + refused, 2, `pods "sometimes": want disabled or insecure or verified`},
		{"doctor -conf " + filepath.Join(folder, "missing"), 2, "ERROR corefile: "},
		{"doctor -verbose", 3, "Usage: coredns doctor"},
		{"doctor now", 3, `surplus argument "now"`},
		{"doctor -service kube-dns", 3, `-service "kube-dns": want NAMESPACE/NAME`},
		{"compare 192.0.2.1", 2, "1 servers given; want two"},
		{"treat", 1, "extra command line arguments"}, // as of stock
	} {
		output, err := exec.CommandContext(t.Context(), binary, strings.Fields(test.args)...).CombinedOutput()
		code := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if code != test.code || !strings.Contains(string(output), test.want) {
			t.Errorf("coredns %s: exit code %d\n%s; want %d and in it %q", test.args, code, output, test.code, test.want)
		}
	}
}
