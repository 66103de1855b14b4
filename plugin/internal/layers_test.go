package internal

import (
	"go/build"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "github.com/kubezone/kubezone/plugin/"

// layers says which of our packages a package may import: the plugins and respond
// read from schema, schema from index, and kube writes to index.
var layers = map[string][]string{
	"clientlimit":        {"internal/corefile"},
	"compare":            nil,
	"doctor":             {"internal/index", "internal/kube", "internal/schema", "kubezone"},
	"internal/corefile":  {"internal/schema"},
	"internal/index":     nil,
	"internal/kube":      {"internal/index"},
	"internal/schema":    {"internal/index"},
	"internal/respond":   {"internal/schema", "internal/wire"},
	"internal/selfmark":  nil,
	"internal/ownsocket": nil,
	"internal/wire":      nil,
	"k8s_external":       {"internal/corefile", "internal/respond", "internal/schema", "kubezone"},
	"clusterdns":         {"internal/corefile", "internal/kube"},
	"nodelocal":          {"internal/corefile", "internal/ownsocket", "internal/selfmark"},
	"udpbatch":           {"internal/ownsocket", "internal/selfmark", "internal/wire"},
	"kubezone":           {"internal/corefile", "internal/index", "internal/kube", "internal/respond", "internal/schema"},
}

// only says who alone may import what begins so.
var only = map[string]string{
	"k8s.io/client-go/": "internal/kube",
}

// never is what no package imports: what would link the stock plugin, all
// plugins, or a client for every API group.
var never = []string{
	"github.com/coredns/coredns/core/plugin",
	"github.com/coredns/coredns/plugin/kubernetes",
	"k8s.io/client-go/kubernetes",
}

func TestLayers(t *testing.T) {
	for pkg, allowed := range layers {
		p, err := build.ImportDir(filepath.Join("..", pkg), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range p.Imports {
			if ours, ok := strings.CutPrefix(path, root); ok && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s; want at most %v", pkg, ours, allowed)
			}
			for prefix, owner := range only {
				if strings.HasPrefix(path, prefix) && pkg != owner {
					t.Errorf("%s imports %s; only %s may", pkg, path, owner)
				}
			}
			if slices.ContainsFunc(never, func(n string) bool { return path == n || strings.HasPrefix(path, n+"/") }) {
				t.Errorf("%s imports %s", pkg, path)
			}
		}
	}
}
