package kube

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// An edit is read once the files were left alone for settleAfter, as an
	// editor may take several steps, but no later than settleWithin.
	settleAfter  = 100 * time.Millisecond
	settleWithin = 500 * time.Millisecond

	// pollInterval is for file systems that do not tell of changes.
	pollInterval = 2 * time.Second

	// tick is what serials count. It is shorter than settleAfter, so that each
	// edit has a tick of its own, which a restart finds again, and so long that
	// a secondary, which compares 32 bits (RFC 1982), may miss four years.
	tick = time.Second / 16
)

// manifests is a source that reads files. The whole set is read and checked
// before any of it is taken over: after an edit with an error in it, what was
// read before stays.
//
// The serial is the time of the last change to a file or folder of the set, in
// ticks, or one more than before where that is more: it grows with every edit,
// and across restarts, and nothing needs to be written for it. It is the same on
// two machines only if the files have the same times there.
type manifests struct {
	config Config
	store  *Store
	events *fsnotify.Watcher // nil where there is none

	// What was read last.
	scan    scan
	touched bool // one of the files may have changed since then
	content [sha256.Size]byte
	serial  uint64
}

func newManifests(c Config) (*manifests, error) {
	return &manifests{config: c}, nil
}

// credentials is empty, since the files are followed.
func (m *manifests) credentials() string { return "" }

func (m *manifests) start(ctx context.Context, s *Store) error {
	m.store = s
	events, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warningf("Changes to manifests are found by looking every %.0fs: %v", pollInterval.Seconds(), err)
	} else {
		m.events = events
	}
	if err := m.read(); err != nil {
		m.close()
		return err
	}
	s.work.Go(func() {
		defer m.close()
		m.follow(ctx)
	})
	return nil
}

func (m *manifests) close() {
	if m.events != nil {
		_ = m.events.Close() // nothing was written to it
	}
}

// follow reads again what changes until ctx is done.
func (m *manifests) follow(ctx context.Context) {
	var events <-chan fsnotify.Event
	var failures <-chan error
	if m.events != nil {
		events, failures = m.events.Events, m.events.Errors
	}
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	settled := time.NewTimer(0)
	settled.Stop()
	defer settled.Stop()
	var unrest time.Time // when it began; zero for none
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			m.touched = m.touched || m.scan.has(e.Name)
			if unrest.IsZero() {
				unrest = time.Now()
			}
			settled.Reset(min(settleAfter, time.Until(unrest.Add(settleWithin))))
		case <-failures: // some events were lost
			settled.Reset(settleAfter)
		case <-poll.C:
			if unrest.IsZero() {
				m.readIfChanged()
			}
		case <-settled.C:
			unrest = time.Time{}
			m.readIfChanged()
		}
	}
}

func (m *manifests) readIfChanged() {
	now, err := scanPaths(m.config.Manifests)
	if err == nil && !m.touched && now.print == m.scan.print {
		return
	}
	if err := m.read(); err != nil {
		news := false
		for _, r := range m.store.reports {
			news = r.refuse(err.Error()) || news
		}
		if news {
			log.Errorf("Manifests refused, what was read before stays: %v", err)
		}
	}
}

// read takes the files over, or returns an error and changes nothing.
func (m *manifests) read() error {
	found, err := scanPaths(m.config.Manifests)
	if err != nil {
		return err
	}
	// First to watch and then to read misses nothing.
	m.watch(found.folders)
	m.scan, m.touched = found, false
	set := newObjectSet(m.config)
	digest := sha256.New()
	for _, file := range found.files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		fmt.Fprintf(digest, "%q %d\n", file, len(content))
		digest.Write(content)
		if err := set.addFile(file, content); err != nil {
			return err
		}
	}
	if content := [sha256.Size]byte(digest.Sum(nil)); content != m.content {
		m.content = content
		m.serial = max(m.serial+1, ticks(found.newest))
		set.replace(m.store, m.serial)
		log.Infof("Read %d objects from %d manifests", set.len(), len(found.files))
		for _, r := range m.store.reports {
			r.listed()
		}
	}
	for _, r := range m.store.reports {
		r.ended()
	}
	return nil
}

func ticks(t time.Time) uint64 { return uint64(max(t.UnixNano()/int64(tick), 0)) }

// watch makes the folders those that events are about.
func (m *manifests) watch(folders map[string]bool) {
	if m.events == nil {
		return
	}
	for _, old := range m.events.WatchList() {
		if !folders[old] {
			_ = m.events.Remove(old) // it may be gone
		}
	}
	for folder := range folders {
		if err := m.events.Add(folder); err != nil {
			log.Debugf("Changes in %s are found by looking every %.0fs: %v", folder, pollInterval.Seconds(), err)
		}
	}
}
