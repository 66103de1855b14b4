package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// The Dockerfile makes the same images: users, entry point, files beside the binary, capability.
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
