package internal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// clockReaders are the only files that look at what the clock says, which may
// jump. A time.Time that nothing is taken of measures spans by a clock of its
// own, which does not.
var clockReaders = map[string]string{
	"internal/kube/programming.go": "the API server's times, of which a latency is never made negative",
	"internal/kube/manifests.go":   "the serial of manifests, which never falls all the same",
	"internal/kube/scan.go":        "when files changed, of which only a change counts",
	"internal/kube/snapshot.go":    "the age of a file, which is never made negative",
}

// wallClock are the methods and functions of package time, and of file infos,
// that give or take what the clock says.
var wallClock = map[string]bool{
	"Unix": true, "UnixMilli": true, "UnixMicro": true, "UnixNano": true, "ModTime": true, "Chtimes": true,
	"Date": true, "Truncate": true, "Format": true,
}

func TestDeadlinesDoNotFollowTheClock(t *testing.T) {
	for _, folder := range []string{"internal", "kubezone"} {
		err := filepath.WalkDir(filepath.Join("..", folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			name := strings.TrimPrefix(filepath.ToSlash(path), "../")
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && wallClock[s.Sel.Name] && clockReaders[name] == "" {
					t.Errorf("%s uses %s, which follows the clock", name, s.Sel.Name)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
