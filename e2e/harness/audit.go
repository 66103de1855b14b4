package harness

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
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

// PutRaw writes an object into etcd past the API server, which would refuse it or used to accept it. The key is what
// comes behind /registry/.
func (c *Cluster) PutRaw(t testing.TB, key, object string) {
	t.Helper()
	encode := base64.StdEncoding.EncodeToString
	body, err := json.Marshal(map[string]string{"key": encode([]byte("/registry/" + key)), "value": encode([]byte(object))})
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(c.Etcd+"/v3/kv/put", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("etcd: %s", response.Status)
	}
}
