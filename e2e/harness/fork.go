package harness

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"syscall"
	"testing"
)

// Fork starts a second control plane, with the same keys, on a copy of everything that this one holds now. The two go on
// by themselves: the second is this one restored from a backup or, as long as nothing is written to it, a replica that
// stopped following. It is in a folder of its own, and ends with the test.
func (c *Cluster) Fork(t testing.TB, dir string) *Cluster {
	t.Helper()
	// What a process that stands still has written is what a crash would leave, which etcd recovers from.
	c.etcd.Signal(syscall.SIGSTOP)
	err := os.CopyFS(dir, os.DirFS(c.options.Dir))
	c.etcd.Signal(syscall.SIGCONT)
	if err != nil {
		t.Fatal(err)
	}
	fork := &Cluster{options: c.options, clientAuthority: c.clientAuthority, clientKey: c.clientKey}
	fork.options.Dir = dir
	fork.CA = fork.file("server.crt")
	t.Cleanup(fork.Stop)
	for _, step := range []func() error{fork.startEtcd, fork.StartAPIServer, fork.connect} {
		if err := step(); err != nil {
			t.Fatalf("%v\n%s", err, fork.Tails())
		}
	}
	return fork
}

// PutRaw writes an object into etcd past the API server, which would refuse it or used to accept it. The key is what
// comes behind /registry/.
func (c *Cluster) PutRaw(t testing.TB, key, object string) {
	t.Helper()
	encode := base64.StdEncoding.EncodeToString
	c.askEtcd(t, "kv/put", map[string]any{"key": encode([]byte("/registry/" + key)), "value": encode([]byte(object))}, nil)
}

// Compact makes etcd forget all revisions but the newest.
func (c *Cluster) Compact(t testing.TB) {
	t.Helper()
	var status struct{ Header struct{ Revision string } }
	c.askEtcd(t, "maintenance/status", map[string]any{}, &status)
	c.askEtcd(t, "kv/compaction", map[string]any{"revision": status.Header.Revision, "physical": true}, nil)
}

// askEtcd calls a method of its API over HTTP. The answer is decoded unless it is nil.
func (c *Cluster) askEtcd(t testing.TB, method string, request, answer any) {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(c.Etcd+"/v3/"+method, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, text)
	}
	if err == nil && answer != nil {
		err = json.Unmarshal(text, answer)
	}
	if err != nil {
		t.Fatalf("etcd: %s: %v", method, err)
	}
}
