package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Somebody else's CoreDNS takes our plugins in as CoreDNS's documentation says: a line in plugin.cfg for each, go
// generate, go build. All stock plugins but k8s_external are in it, the stock kubernetes plugin too, and both serve.
func TestForeignBuild(t *testing.T) {
	if testing.Short() {
		t.Skip("builds all of stock CoreDNS: minutes when nothing is cached; make e2e runs this")
	}
	source := filepath.Join(t.TempDir(), "coredns")
	cached := strings.TrimSpace(command(t, ".", "go", "list", "-m", "-f", "{{.Dir}}", "github.com/coredns/coredns"))
	if err := os.CopyFS(source, os.DirFS(cached)); err != nil {
		t.Fatal(err)
	}
	repository, err := filepath.Abs(top)
	if err != nil {
		t.Fatal(err)
	}

	cfg, err := os.ReadFile(filepath.Join(source, "plugin.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	const stock, ours = "\nkubernetes:kubernetes\n", "\nkubezone:github.com/kubezone/kubezone/plugin/kubezone"
	const stockExternal, oursExternal = "\nk8s_external:k8s_external\n", "\nk8s_external:github.com/kubezone/kubezone/plugin/k8s_external\n"
	for _, line := range []string{stock, stockExternal} {
		if strings.Count(string(cfg), line) != 1 {
			t.Fatalf("plugin.cfg does not have the line %q once", line)
		}
	}
	changed := strings.Replace(string(cfg), stock, ours+stock, 1)
	changed = strings.Replace(changed, stockExternal, oursExternal, 1)
	write(t, filepath.Join(source, "plugin.cfg"), changed)

	t.Setenv("CGO_ENABLED", "0")
	t.Setenv("GOFLAGS", "-mod=mod -trimpath -buildvcs=false") // trimpath: what is compiled here is found again in another folder

	// A module that is published needs no replace; the one in this checkout does.
	command(t, source, "go", "mod", "edit", "-require=github.com/kubezone/kubezone@v0.0.0", "-replace=github.com/kubezone/kubezone="+repository)
	command(t, source, "go", "generate")
	foreign := filepath.Join(source, "coredns")
	command(t, source, "go", "build", "-ldflags", "-s -w", "-o", foreign)

	plugins := strings.Fields(command(t, source, foreign, "-plugins"))
	for _, name := range []string{"kubezone", "kubernetes", "route53"} {
		if !slices.Contains(plugins, name) {
			t.Errorf("-plugins of the foreign build lists %q; want %q in it", plugins, name)
		}
	}

	folder := t.TempDir()
	kubeconfig := filepath.Join(folder, "kubeconfig")
	write(t, kubeconfig, unreachable)
	corefile := filepath.Join(folder, "Corefile")
	write(t, corefile, fmt.Sprintf(`.:%d {
    bind 127.0.0.1
    errors
    prometheus 127.0.0.1:%d
    kubezone cluster.local {
        manifests %s
    }
    k8s_external example.org
    kubernetes stock.local {
        kubeconfig %s
        startup_timeout 1ms
    }
}
`, freePort(t), freePort(t), filepath.Join(repository, "corefile", "demo", "manifests"), kubeconfig))
	server := startBinary(t, foreign, corefile)
	server.wants(t, "kubernetes.default.svc.cluster.local. A", "10.96.0.1")
	server.wants(t, "dns-version.stock.local. TXT", `"1.1.0"`)
	server.wants(t, "ns1.dns.example.org. A", "127.0.0.1")
}
