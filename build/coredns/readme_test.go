package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestReadmeListsThePlugins(t *testing.T) {
	text := readme(t)
	linked := slices.DeleteFunc(slices.Clone(directives), func(name string) bool {
		return leftOut[name] != "" || slices.Contains([]string{"clientlimit", "clusterdns", "k8s_external", "kubezone", "kubernetes", "nodelocal", "udpbatch"}, name)
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

func TestLinksLeadSomewhere(t *testing.T) {
	for _, file := range []string{"README.md", "SECURITY.md", "build/kube-system/MIGRATION.md", "build/kube-system/THREATS.md",
		"plugin/compare/README.md", "plugin/doctor/README.md"} {
		links := regexp.MustCompile(`\]\(([^):#]+)[#)]`).FindAllStringSubmatch(document(t, file), -1)
		for _, link := range links {
			if _, err := os.Stat(filepath.Join(top, filepath.Dir(file), link[1])); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
		if len(links) == 0 && file != "plugin/doctor/README.md" {
			t.Errorf("%s has no link into the repository", file)
		}
	}
}

// Every Corefile of the migration guide has nothing that doctor warns of.
func TestCorefilesOfTheGuide(t *testing.T) {
	blocks := strings.Split(document(t, "build/kube-system/MIGRATION.md"), "~~~ corefile\n")
	if len(blocks) < 2 {
		t.Fatal("the guide has no Corefile")
	}
	for _, rest := range blocks[1:] {
		text, _, _ := strings.Cut(rest, "~~~\n")
		corefile := filepath.Join(t.TempDir(), "Corefile")
		write(t, corefile, text)
		output, err := exec.CommandContext(t.Context(), binary, "doctor", "-offline", "-conf", corefile).Output()
		if err != nil || !strings.Contains(string(output), "0 errors, 0 warnings, ") {
			t.Errorf("%v\n%s\n%s", err, text, output)
		}
	}
}

func readme(t *testing.T) string { return document(t, "README.md") }

// document is a text of the repository.
func document(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
