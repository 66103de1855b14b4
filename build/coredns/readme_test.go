package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestReadmeListsThePlugins(t *testing.T) {
	text := readme(t)
	linked := slices.DeleteFunc(slices.Clone(directives), func(name string) bool {
		return leftOut[name] != "" || slices.Contains([]string{"clientlimit", "k8s_external", "kubezone", "kubernetes", "nodelocal", "udpbatch"}, name)
	})
	for _, list := range []struct {
		after string // the words before the list, which ends with a full stop
		want  []string
	}{
		{"these plugins of CoreDNS:", linked},
		{"has no use for:", slices.Collect(maps.Keys(leftOut))},
	} {
		_, rest, found := strings.Cut(text, list.after)
		if !found {
			t.Errorf("the README does not say %q", list.after)
			continue
		}
		names, _, _ := strings.Cut(rest, ".")
		got := strings.Fields(strings.NewReplacer(",", " ", `\_`, "_").Replace(names))
		slices.Sort(got)
		slices.Sort(list.want)
		if !slices.Equal(got, list.want) {
			t.Errorf("%q is followed by\n%q; want\n%q", list.after, got, list.want)
		}
	}
}

func TestReadmeLinksLeadSomewhere(t *testing.T) {
	links := regexp.MustCompile(`\]\(([^):#]+)\)`).FindAllStringSubmatch(readme(t), -1)
	if len(links) == 0 {
		t.Fatal("the README has no link into the repository")
	}
	for _, link := range links {
		if _, err := os.Stat(filepath.Join(top, link[1])); err != nil {
			t.Error(err)
		}
	}
}

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
