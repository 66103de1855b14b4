package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// The Dockerfile makes the same images: the binary of the Makefile, users, entry point, ports, files beside the binary,
// capability.
func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	var users []string
	for line := range strings.Lines(string(text)) {
		if user, ok := strings.CutPrefix(strings.TrimSpace(line), "USER "); ok {
			users = append(users, user)
		}
	}
	var want []string
	for _, f := range slices.Backward(flavours) { // the last stage is what is built by default
		want = append(want, f.user)
	}
	if !slices.Equal(users, want) {
		t.Errorf("users %q; want %q", users, want)
	}
	if got := strings.Count(string(text), `ENTRYPOINT ["/coredns"]`); got != len(flavours) {
		t.Errorf("%d entry points /coredns; want %d", got, len(flavours))
	}
	var exposed []string
	for port := range ports {
		exposed = append(exposed, strings.TrimSuffix(port, "/tcp")) // which is what no protocol means
	}
	slices.Sort(exposed)
	if line := "\nEXPOSE " + strings.Join(exposed, " ") + "\n"; strings.Count(string(text), line) != len(flavours) {
		t.Errorf("%d times%q; want %d", strings.Count(string(text), line), line, len(flavours))
	}
	if !strings.Contains(string(text), "\nRUN make build BIN=/coredns COMMIT=$REVISION\n") {
		t.Error("the binary is not the Makefile's, whose flags are in no other place")
	}
	if !strings.Contains(string(text), "setcap cap_net_bind_service=+ep ") {
		t.Error("no capability")
	}
	for _, f := range baseFiles() {
		name := strings.TrimSuffix(f.name, "/")
		if !strings.Contains(string(text), "/base/"+name) {
			t.Errorf("no /%s", name)
		}
		if inline := strings.ReplaceAll(string(f.content), "\n", `\n`); len(inline) < 200 && strings.Count(inline, `\n`) > 1 &&
			!strings.Contains(string(text), fmt.Sprintf("'%s' > /base/%s", inline, name)) {
			t.Errorf("/%s is not %q", name, inline)
		}
	}
}
