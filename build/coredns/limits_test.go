package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The server's memory limit is that of its cgroup but for a tenth, unless the environment says otherwise.
func TestMemoryLimit(t *testing.T) {
	const limit = 100 << 20
	cgroup := memoryCgroup(t, limit)
	for _, test := range []struct {
		name        string
		environment []string
		want        float64
	}{
		{"of the cgroup", nil, 0.9 * limit},
		{"of the environment", []string{"GOMEMLIMIT=50MiB"}, 50 << 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			inCgroup := filepath.Join(t.TempDir(), "coredns")
			if err := os.WriteFile(inCgroup, fmt.Appendf(nil, "#!/bin/sh\necho $$ >%s/cgroup.procs && exec %s \"$@\"\n", cgroup, binary), 0o755); err != nil {
				t.Fatal(err)
			}
			metrics := net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
			corefile := filepath.Join(t.TempDir(), "Corefile")
			write(t, corefile, fmt.Sprintf(".:%d {\n    bind 127.0.0.1\n    prometheus %s\n    whoami\n}\n", freePort(t), metrics))
			server := startBinary(t, inCgroup, corefile, test.environment...)
			server.wants(t, "example.org. A", "NODATA")
			if got := scraped(t, metrics, "go_gc_gomemlimit_bytes"); got < test.want-4096 || got > test.want { // a cgroup counts in pages
				t.Errorf("the limit is %.0f; want %.0f", got, test.want)
			}
		})
	}
}

// Limits that nobody has to ask for: no shipped Corefile profiles, as pprof lets everybody on the pod network have the
// server's memory and time, and the one we recommend bounds what a connection may ask.
func TestShippedCorefilesHaveLimits(t *testing.T) {
	corefiles, err := filepath.Glob(filepath.Join(top, "corefile", "*", "Corefile*"))
	if err != nil || len(corefiles) == 0 {
		t.Fatalf("%d Corefiles, %v", len(corefiles), err)
	}
	recommended := filepath.Join(top, "corefile", "kubezone", "Corefile")
	for _, file := range corefiles {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if regexp.MustCompile(`(?m)^\s*pprof`).Match(text) {
			t.Errorf("%s has pprof", file)
		}
		for _, limit := range []string{"bufsize", "maxtcpqueries", "max_concurrent", "deny_namespaces", "pod_ranges", "reverse_ranges"} {
			if file == recommended && !strings.Contains(string(text), limit+" ") {
				t.Errorf("%s lacks %s", file, limit)
			}
		}
	}
}

// memoryCgroup makes a cgroup with this memory limit, of the version that this machine has.
func memoryCgroup(t *testing.T, limit int) string {
	t.Helper()
	parent, limitFile := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
	if _, err := os.Stat(parent); err != nil {
		parent, limitFile = "/sys/fs/cgroup", "memory.max"
	}
	folder, err := os.MkdirTemp(parent, "kubezone-test-")
	if err != nil {
		t.Skipf("no right to make a cgroup: %v", err)
	}
	t.Cleanup(func() {
		if err := os.Remove(folder); err != nil { // rmdir: its files are the kernel's
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(folder, limitFile), []byte(strconv.Itoa(limit)), 0); err != nil {
		t.Skipf("no right to limit memory in a cgroup: %v", err)
	}
	return folder
}

// scraped is the value of a metric without labels.
func scraped(t *testing.T, address, name string) float64 {
	t.Helper()
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(page)
	if line == nil {
		t.Fatalf("there is no metric %s among %d", name, strings.Count(string(page), "\n"))
	}
	value, err := strconv.ParseFloat(string(line[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}
