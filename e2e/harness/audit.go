package harness

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

// Requests returns what a service account has asked the API server for so far, as "verb resource", in order.
func (c *Cluster) Requests(t testing.TB, namespace, account string) []string {
	t.Helper()
	text, err := os.ReadFile(c.file("audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	var requests []string
	for line := range strings.Lines(string(text)) {
		var event struct {
			Verb      string
			User      struct{ Username string }
			ObjectRef struct{ Resource string }
		}
		if !strings.HasSuffix(line, "\n") {
			break // still being written
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("audit log: %v: %s", err, line)
		}
		if event.User.Username == fmt.Sprintf("system:serviceaccount:%s:%s", namespace, account) {
			requests = append(requests, event.Verb+" "+event.ObjectRef.Resource)
		}
	}
	return requests
}
