package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// memoryFolders are where cgroups with a limit of memory can be made, and the file that has the limit: version 1 and 2.
var memoryFolders = []struct{ folder, limit string }{
	{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
	{"/sys/fs/cgroup", "memory.max"},
}

// KillByMemory puts a process into a cgroup whose memory does not suffice, and waits until the kernel has killed it.
// Where no such cgroup can be made the test is skipped.
func KillByMemory(t testing.TB, p *Process) {
	t.Helper()
	group, limit := memoryGroup(t)
	t.Cleanup(func() {
		_ = Poll(5*time.Second, func() error { return os.Remove(group) }) // busy until its process is gone
	})
	for _, write := range []struct{ name, text string }{
		{"cgroup.procs", strconv.Itoa(p.cmd.Process.Pid)},
		{limit, strconv.Itoa(1 << 20)},
	} {
		// The limit is refused while more is in use that cannot be freed; version 2 kills at once.
		if err := os.WriteFile(filepath.Join(group, write.name), []byte(write.text), 0); err != nil && write.name != limit {
			t.Fatal(err)
		}
	}
	select {
	case <-p.Done():
	case <-time.After(killAfter):
		t.Fatalf("%s lives with 1 MiB of memory", p.Name)
	}
}

// memoryGroup makes a cgroup.
func memoryGroup(t testing.TB) (folder, limit string) {
	t.Helper()
	var errs []error
	for _, candidate := range memoryFolders {
		group := filepath.Join(candidate.folder, fmt.Sprintf("kubezone-%d", os.Getpid()))
		if err := os.Mkdir(group, 0o755); err != nil {
			errs = append(errs, err)
			continue
		}
		_, err := os.Stat(filepath.Join(group, candidate.limit))
		if err == nil {
			return group, candidate.limit
		}
		errs = append(errs, err)
		_ = os.Remove(group)
	}
	t.Skipf("skipped: no cgroup with a limit of memory can be made: %v", errors.Join(errs...))
	return "", ""
}
