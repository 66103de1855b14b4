package kube

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

// A Snapshot says where a Store writes down what it holds, so that the next
// process can answer at once, the API server there or not.
type Snapshot struct {
	File     string        // "" for none
	Interval time.Duration // between two writings, at least
	MaxStale time.Duration // a file older than this is not read
}

// snapshotMagic begins the file; its last octet is the version of the format.
const snapshotMagic = "kubezone snapshot \x02"

// newSuffix marks the file that is written before it takes the old one's place.
const newSuffix = ".new-"

// maxSnapshot is the most that a file may hold, in octets: many times what the
// largest cluster needs, and no more than a small container can bear.
const maxSnapshot = 64 << 20

// A snapshotFile is the place of a Store's snapshot. The process holds a lock
// beside it, so that two replicas that are given one file do not take turns at
// it.
type snapshotFile struct {
	Snapshot
	identity [sha256.Size]byte // of the cluster, and of what is kept of it
	lock     *os.File          // nil while another process has it

	written string // what the file says, in short
	failed  string // the last error that was logged
}

// snapshotErrors counts what went wrong with snapshots, in this process.
var snapshotErrors atomic.Int64

// SnapshotErrors is how often a snapshot could not be read or written so far.
func SnapshotErrors() int64 { return snapshotErrors.Load() }

// What is wrong with a file.
var (
	errNoSnapshot = errors.New("not a snapshot of this version")
	errForeign    = errors.New("of another cluster or other options")
	errChecksum   = errors.New("checksum differs")
	errMalformed  = errors.New("contents do not fit together")
	errLocked     = errors.New("another process writes this file: give each replica its own")
)

// snapshotContents are what the payload encodes.
type snapshotContents struct {
	Cluster index.Contents
	Imports index.Contents

	ServiceCIDRs []netip.Prefix
}

func newSnapshotFile(c Snapshot, id identity) *snapshotFile {
	// What is kept does not depend on these.
	id.config.Snapshot, id.config.NoBrake, id.config.SelfCheck = Snapshot{}, false, 0
	text := fmt.Sprintf("%+v %x", id.config, id.credentials)
	return &snapshotFile{Snapshot: c, identity: sha256.Sum256([]byte(text))}
}

// restore fills the Store from its snapshot, if it has one.
func (s *Store) restore() {
	if s.identity.config.Snapshot.File == "" {
		return
	}
	s.snapshot = newSnapshotFile(s.identity.config.Snapshot, s.identity)
	s.snapshot.acquire()
	s.snapshot.restore(s)
}

// keepSnapshot writes the snapshot from now on, until ctx is done.
func (s *Store) keepSnapshot(ctx context.Context) {
	if s.snapshot != nil {
		s.work.Go(func() { s.snapshot.run(ctx, s) })
	}
}

// acquire takes the lock. Without it the file is read, but not written.
func (f *snapshotFile) acquire() {
	lock, err := lockFile(f.File + ".lock")
	if err == nil {
		f.lock = lock
		f.removeRemains()
		return
	}
	f.trouble("cannot be written", err)
}

// removeRemains removes what a process left that was killed while it wrote.
func (f *snapshotFile) removeRemains() {
	remains, _ := filepath.Glob(f.File + newSuffix + "*") // the pattern is well-formed
	for _, name := range remains {
		os.Remove(name)
	}
}

func (f *snapshotFile) release() {
	if f != nil && f.lock != nil {
		f.lock.Close()
		f.lock = nil
	}
}

// trouble counts an error, and logs it unless it is the same as before. What a
// new file was to be called is different each time, and of no interest.
func (f *snapshotFile) trouble(what string, err error) {
	snapshotErrors.Add(1)
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = fmt.Errorf("%s: %w", p.Op, p.Err)
	}
	if text := what + err.Error(); text != f.failed {
		f.failed = text
		log.Warningf("The snapshot %q %s: %v", f.File, what, err)
	}
}

// restore fills the Store from the file, if there is one that fits.
func (f *snapshotFile) restore(s *Store) {
	st, err := os.Stat(f.File)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	var contents snapshotContents
	var age time.Duration
	if err == nil {
		age = max(time.Since(st.ModTime()), 0) // the clock may have been put back since
		contents, err = f.read()
	}
	if err == nil && len(contents.ServiceCIDRs) > 0 {
		s.serviceCIDRs.Store(&contents.ServiceCIDRs) // they outlive the objects
	}
	if err == nil && age > f.MaxStale {
		log.Warningf("The snapshot %q is of %.0f s ago, more than max_stale %s: its objects are not used", f.File, age.Seconds(), f.MaxStale)
		return
	}
	if err == nil && (!s.index.Restore(contents.Cluster) || !s.imports.Restore(contents.Imports)) {
		err = errMalformed
	}
	if err != nil {
		f.trouble("is not used", err)
		return
	}
	s.restored = time.Now().Add(-age) // goes on with the time, not with the clock
	log.Infof("Restored %d services from the snapshot %q of %.0f s ago", len(contents.Cluster.Services), f.File, age.Seconds())
}

func (f *snapshotFile) read() (c snapshotContents, err error) {
	file, err := os.Open(f.File)
	if err != nil {
		return c, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxSnapshot))
	if err != nil {
		return c, err
	}
	return f.decode(content)
}

// encode lays the contents out: magic, identity, checksum of the payload, and
// the payload itself, a gob in gzip.
func (f *snapshotFile) encode(c snapshotContents) ([]byte, error) {
	var payload bytes.Buffer
	zip, err := gzip.NewWriterLevel(&payload, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if err := gob.NewEncoder(zip).Encode(c); err != nil {
		return nil, err
	}
	if err := zip.Close(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(payload.Bytes())
	content := append([]byte(snapshotMagic), f.identity[:]...)
	content = append(content, sum[:]...)
	content = binary.BigEndian.AppendUint64(content, uint64(payload.Len()))
	return append(content, payload.Bytes()...), nil
}

func (f *snapshotFile) decode(content []byte) (c snapshotContents, err error) {
	rest, ok := bytes.CutPrefix(content, []byte(snapshotMagic))
	if !ok || len(rest) < 2*sha256.Size+8 {
		return c, errNoSnapshot
	}
	identity, sum, payload := rest[:sha256.Size], rest[sha256.Size:2*sha256.Size], rest[2*sha256.Size+8:]
	length := binary.BigEndian.Uint64(rest[2*sha256.Size:])
	switch got := sha256.Sum256(payload); {
	case uint64(len(payload)) != length, !bytes.Equal(got[:], sum):
		return c, errChecksum
	case !bytes.Equal(identity, f.identity[:]):
		return c, errForeign
	}
	zip, err := gzip.NewReader(bytes.NewReader(payload))
	if err != nil {
		return c, err
	}
	return c, gob.NewDecoder(zip).Decode(&c)
}

// run writes the file at every interval until ctx is done, and then once more.
func (f *snapshotFile) run(ctx context.Context, s *Store) {
	defer f.release()
	ticker := time.NewTicker(f.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			f.save(s)
		case <-ctx.Done():
			f.save(s)
			return
		}
	}
}

// save writes the file if the Store is in step with the API server. If nothing
// changed since, it is only made younger.
func (f *snapshotFile) save(s *Store) {
	if f.lock == nil || !s.Synced() || s.Stale() {
		return
	}
	version := fmt.Sprint(s.index.Serial(), s.imports.Serial(), s.ServiceCIDRs())
	if version == f.written {
		now := time.Now()
		if err := os.Chtimes(f.File, now, now); err == nil {
			return
		}
	}
	content, err := f.encode(snapshotContents{s.index.Contents(), s.imports.Contents(), s.ServiceCIDRs()})
	if err == nil {
		err = writeAside(f.File, content)
	}
	if err != nil {
		f.trouble("cannot be written", err)
		return
	}
	f.written, f.failed = version, ""
}

// writeAside replaces the file in one step: whatever happens on the way, the
// old one or the new one is there, whole.
func writeAside(name string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+newSuffix+"*")
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		os.Remove(file.Name())
	}
	return err
}
