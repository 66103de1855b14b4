package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestLeftOutDirectivesAreRefused(t *testing.T) {
	folder := t.TempDir()
	imported := filepath.Join(folder, "imported")
	for name, instead := range leftOut {
		t.Run(name, func(t *testing.T) {
			want := fmt.Sprintf("directive %q is not in this build: %s\n", name, instead)

			corefile := filepath.Join(folder, "Corefile")
			write(t, corefile, ".:0 {\n    errors\n    "+name+" argument {\n        option\n    }\n}\n")
			refused(t, corefile, corefile+":3: "+want)

			write(t, imported, "\n"+name+"\n")
			write(t, corefile, ".:0 {\n    import "+imported+"\n}\n")
			refused(t, corefile, imported+":2: "+want)
		})
	}
}

// An operator who moves a Corefile here wants to know everything that has to go.
func TestLeftOutDirectivesAreRefusedTogether(t *testing.T) {
	corefile := filepath.Join(t.TempDir(), "Corefile")
	write(t, corefile, "a.example:0 {\n    sign db\n    route53\n}\nb.example:0 {\n    whoami\n    auto\n}\n")
	refused(t, corefile, corefile+`:2: directive "sign"`, corefile+`:3: directive "route53"`, corefile+`:7: directive "auto"`)
}

// The list of what is left out must not hide that a directive is only misspelt.
func TestUnknownDirectiveIsStillUnknown(t *testing.T) {
	corefile := filepath.Join(t.TempDir(), "Corefile")
	write(t, corefile, ".:0 {\n    rout53\n}\n")
	refused(t, corefile, corefile+":2", "Unknown directive 'rout53'")
}

func TestReloadRefusesLeftOutDirective(t *testing.T) {
	corefile := filepath.Join(t.TempDir(), "Corefile")
	before := fmt.Sprintf("example.org:%d {\n    bind 127.0.0.1\n    reload 2s 1s\n    template IN A {\n        answer \"{{ .Name }} 60 IN A 192.0.2.1\"\n    }\n}\n", freePort(t))
	write(t, corefile, before)
	server := start(t, corefile)
	server.wants(t, "www.example.org. A", "192.0.2.1")

	write(t, corefile, strings.Replace(before, "template", "dnstap /run/dnstap.sock\n    template", 1))
	server.logs(t, corefile+`:4: directive "dnstap" is not in this build: `+leftOut["dnstap"])
	server.wants(t, "www.example.org. A", "192.0.2.1")
}

// refused checks that a Corefile makes coredns end at once, saying each of want.
func refused(t *testing.T, corefile string, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	output, err := exec.CommandContext(ctx, binary, "-conf", corefile).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("coredns ends with %v; want exit code 1", err)
	}
	for _, part := range want {
		if !strings.Contains(string(output), part) {
			t.Errorf("coredns says\n%s; want in it\n%s", output, part)
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
