// Package tools checks what the binary is linked from. The tools themselves are in
// go.mod.
package tools

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/licensecheck"
)

// allowed are the licences under which a module may be linked (spdx.org/licenses):
// they ask for a notice or nothing, and MPL-2.0 for the source of the files that it
// covers, which nobody changes here.
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MPL-2.0"}

// leastCovered is how much of a licence file must be the text of a known licence,
// in percent; the rest is a copyright notice.
const leastCovered = 75

// Every module that is linked has a licence file, and all of it is under allowed licences.
func TestLicenses(t *testing.T) {
	modules := linked(t)
	if len(modules) < 10 {
		t.Fatalf("%d modules are linked", len(modules))
	}
	for path, folder := range modules {
		licenses := 0
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			upper := strings.ToUpper(e.Name())
			if e.IsDir() || !slices.ContainsFunc([]string{"LICENSE", "LICENCE", "COPYING"}, func(p string) bool { return strings.HasPrefix(upper, p) }) {
				continue
			}
			licenses++
			if err := check(filepath.Join(folder, e.Name())); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		if licenses == 0 {
			t.Errorf("%s has no licence file in %s", path, folder)
		}
	}
}

// check refuses a licence file that is not wholly known, or not allowed.
func check(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	coverage := licensecheck.Scan(text)
	if coverage.Percent < leastCovered {
		return fmt.Errorf("%s: only %.0f %% of it is a known licence", file, coverage.Percent)
	}
	for _, m := range coverage.Match {
		if !slices.Contains(allowed, m.ID) {
			return fmt.Errorf("%s: licence %s; want one of %v", file, m.ID, allowed)
		}
	}
	return nil
}

// linked are the modules of the binary, and where they are.
func linked(t *testing.T) map[string]string {
	t.Helper()
	list := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Dir}}{{end}}", "./build/coredns")
	list.Dir = filepath.Join("..", "..")
	output, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := map[string]string{}
	for line := range strings.Lines(string(output)) {
		if path, folder, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			modules[path] = folder
		}
	}
	return modules
}

// What is not allowed, or is no licence at all, is refused.
func TestCheckRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"terms of a vendor": strings.Repeat("You may look at this, and nothing else. ", 50),
		"GPL-3.0": `This program is free software: you can redistribute it and/or modify it under the terms of the GNU General Public License as
published by the Free Software Foundation, either version 3 of the License, or (at your option) any later version. This program is
distributed in the hope that it will be useful, but WITHOUT ANY WARRANTY; without even the implied warranty of MERCHANTABILITY or
FITNESS FOR A PARTICULAR PURPOSE. See the GNU General Public License for more details. You should have received a copy of the GNU
General Public License along with this program. If not, see <https://www.gnu.org/licenses/>.`,
	} {
		file := filepath.Join(t.TempDir(), "LICENSE")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := check(file); err == nil {
			t.Errorf("%s is allowed", name)
		}
	}
}
