package kube

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

// withSnapshot adds a snapshot in a new folder.
func withSnapshot(t *testing.T, c Config) Config {
	t.Helper()
	c.Snapshot = Snapshot{File: filepath.Join(t.TempDir(), "snapshot"), Interval: 10 * time.Millisecond, MaxStale: time.Hour}
	return c
}

// written follows the API server until the snapshot is there, and closes.
func written(t *testing.T, api *apiServer) Config {
	t.Helper()
	c := withSnapshot(t, api.config(t))
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a snapshot", func() bool {
		_, err := os.Stat(c.Snapshot.File)
		return err == nil
	})
	s.Close()
	return c
}

func TestSnapshotRestores(t *testing.T) {
	api := newAPIServer(t, prod)
	c := written(t, api)
	api.refuseAll("services", status(500, "", ""))
	api.refuseAll("endpointslices", status(500, "", ""))
	s := open(t, c)
	if !s.Complete() || s.Synced() || !s.Stale() {
		t.Errorf("complete %t, synced %t, stale %t; want complete and stale, not synced", s.Complete(), s.Synced(), s.Stale())
	}
	st := s.Index().Service(dbKey)
	if st == nil || st.Len(index.IPv4, "") != 1 {
		t.Fatalf("service = %v; want it from the snapshot", st)
	}
	if s.Index().Serial() != api.version {
		t.Errorf("serial = %d; want %d", s.Index().Serial(), api.version)
	}
	api.refuseAll("services", nil)
	api.refuseAll("endpointslices", nil)
	eventually(t, "sync", s.Synced)
	eventually(t, "not stale", func() bool { return !s.Stale() })
}

// What is gone when the API server is back goes from the Index, too.
func TestSnapshotGivesWay(t *testing.T) {
	api := newAPIServer(t, prod)
	c := written(t, api)
	api.remove("services", "prod/db")
	s := openSynced(t, c)
	if st := s.Index().Service(dbKey); st != nil {
		t.Errorf("service = %v; want none", st)
	}
}

// A file that is damaged, wherever that is, is refused whole.
func TestDamagedSnapshot(t *testing.T) {
	c := written(t, newAPIServer(t, prod))
	good, err := os.ReadFile(c.Snapshot.File)
	if err != nil {
		t.Fatal(err)
	}
	source, err := newSource(c)
	if err != nil {
		t.Fatal(err)
	}
	f := newSnapshotFile(c.Snapshot, identity{config: c, credentials: source.credentials()})
	if _, err := f.decode(good); err != nil {
		t.Fatal(err)
	}
	refused := func(name string, content []byte) {
		if _, err := f.decode(content); err == nil {
			t.Errorf("%s: is read; want an error", name)
		}
	}
	random := rand.New(rand.NewPCG(3, 4))
	damage := map[string]func([]byte) []byte{
		"empty":        func([]byte) []byte { return nil },
		"newer format": func(b []byte) []byte { b[len(snapshotMagic)-1]++; return b },
		"truncated":    func(b []byte) []byte { return b[:len(b)/2] },
		"longer":       func(b []byte) []byte { return append(b, 0) },
		"not ours":     func([]byte) []byte { return []byte("apiVersion: v1\nkind: List\n") },
	}
	for name, change := range damage {
		refused(name, change(slices.Clone(good)))
	}
	for range 200 {
		content := slices.Clone(good)
		content[random.IntN(len(content))] ^= byte(1 + random.IntN(255))
		refused("one octet changed", content)
	}
}

func TestSnapshotOfAnotherCluster(t *testing.T) {
	c := written(t, newAPIServer(t, prod))
	other := newAPIServer(t, "")
	other.refuseAll("services", status(500, "", ""))
	log := captureLog(t)
	mine := other.config(t)
	mine.Snapshot = c.Snapshot
	s := open(t, mine)
	if s.Index().Service(dbKey) != nil || log.count(errForeign.Error()) != 1 {
		t.Error("a snapshot of another cluster is served, or not logged once")
	}
}

func TestOldSnapshot(t *testing.T) {
	api := newAPIServer(t, prod)
	c := written(t, api)
	api.refuseAll("services", status(500, "", ""))
	then := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(c.Snapshot.File, then, then); err != nil {
		t.Fatal(err)
	}
	log := captureLog(t)
	if s := open(t, c); s.Index().Service(dbKey) != nil || log.count("max_stale") != 1 {
		t.Error("a snapshot older than max_stale is served, or not logged")
	}
}

// A clock that jumps makes a snapshot neither useless nor younger than nothing.
func TestSnapshotAfterClockJump(t *testing.T) {
	api := newAPIServer(t, prod)
	c := written(t, api)
	api.refuseAll("services", status(500, "", ""))
	for name, test := range map[string]struct{ jump, atLeast, atMost time.Duration }{
		"an hour back":    {-time.Hour, 0, time.Minute},
		"half an hour on": {30 * time.Minute, 30 * time.Minute, 31 * time.Minute},
	} {
		// A clock that went on makes what was written before it older, by its time.
		then := time.Now().Add(-test.jump)
		if err := os.Chtimes(c.Snapshot.File, then, then); err != nil {
			t.Fatal(err)
		}
		s, err := Open(c)
		if err != nil {
			t.Fatal(err)
		}
		for _, st := range s.Status() {
			if st.Kind != index.Services {
				continue
			}
			if age := time.Since(st.AsOf); st.State != Restored || age < test.atLeast || age > test.atMost {
				t.Errorf("%s: %s, age %s; want restored, %s", name, st.State, age, test.atLeast)
			}
		}
		s.Close()
	}
}

func TestSnapshotIsOneProcess(t *testing.T) {
	c := written(t, newAPIServer(t, prod))
	first, second := newSnapshotFile(c.Snapshot, identity{}), newSnapshotFile(c.Snapshot, identity{})
	first.acquire()
	defer first.release()
	log := captureLog(t)
	second.acquire()
	if second.lock != nil || log.count(errLocked.Error()) != 1 {
		t.Error("a second holder of the lock, or it is not told")
	}
}

func TestSnapshotCannotBeWritten(t *testing.T) {
	c := newAPIServer(t, prod).config(t)
	c.Snapshot = Snapshot{File: filepath.Join(t.TempDir(), "no", "such", "folder"), Interval: time.Millisecond, MaxStale: time.Hour}
	before := SnapshotErrors()
	log := captureLog(t)
	s := openSynced(t, c)
	if s.Index().Service(dbKey) == nil || SnapshotErrors() == before || log.count("cannot be written") != 1 {
		t.Error("want answers, one count and one line")
	}
}

// However often a disk is full, that is one line.
func TestSnapshotTroubleIsToldOnce(t *testing.T) {
	f := newSnapshotFile(Snapshot{File: "snapshot"}, identity{})
	log := captureLog(t)
	for n := range 3 {
		f.trouble("cannot be written", &fs.PathError{Op: "write", Path: fmt.Sprint("snapshot.new-", n), Err: syscall.ENOSPC})
	}
	if n := log.count("cannot be written"); n != 1 {
		t.Errorf("%d lines; want 1", n)
	}
}

func TestSnapshotLeavesNoRemains(t *testing.T) {
	api := newAPIServer(t, prod)
	c := withSnapshot(t, api.config(t))
	writeFile(t, c.Snapshot.File+newSuffix+"1", "half")
	open(t, c)
	remains, err := filepath.Glob(c.Snapshot.File + newSuffix + "*")
	if err != nil || len(remains) > 0 {
		t.Errorf("remains %v, %v; want none", remains, err)
	}
}
