package kube

import (
	"maps"
	"slices"
	"time"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

const (
	// brakeAbove is how many objects of a kind there must be for a list to be
	// held back: of fewer, most may well go at once.
	brakeAbove = 100
	// brakeGrace is for how long: long enough for a load balancer to leave an
	// API server that lost its state, and for somebody to see the alarm.
	brakeGrace = 60 * time.Second
)

// A braking is a list that is held back, because it lacks more than half of the
// objects held. Until it is obeyed nothing that it lacks goes away, nor does
// anything become older; what it has that is new is shown at once, and so is
// what a watch says from then on, deletions included.
type braking[T any] struct {
	version uint64
	items   map[index.ObjectKey]*item[T] // those of the list, kept up to date by the watch
	lost    map[index.ObjectKey]bool     // those held that it lacks
	until   time.Time
	timer   *time.Timer // fires then
}

// follow takes note of an event that comes after the list.
func (b *braking[T]) follow(i *item[T]) {
	delete(b.lost, i.key)
	if i.object != nil {
		b.items[i.key] = i
	} else {
		delete(b.items, i.key)
	}
	b.version = max(b.version, i.version)
}

// tooMany tells whether so many objects are more than a list may take away.
func tooMany(lost, held int) bool { return held > brakeAbove && 2*lost > held }

// holdBack reports whether the list is held back, and shows what is new in it
// then. The caller holds mu.
func (t *table[O, T]) holdBack(items []*item[T], version uint64) bool {
	held := t.index.Count(t.report.kind.Kind)
	if t.noBrake || held <= brakeAbove {
		return false
	}
	versions := t.index.Versions(t.report.kind.Kind)
	b := &braking[T]{version: version, items: make(map[index.ObjectKey]*item[T], len(items)), lost: map[index.ObjectKey]bool{}}
	for _, i := range items {
		if i.object != nil {
			b.items[i.key] = i
		}
	}
	for key := range versions {
		if b.items[key] == nil {
			b.lost[key] = true
		}
	}
	if !tooMany(len(b.lost), held) {
		return false
	}
	if before := t.braking; before != nil {
		b.until, b.timer = before.until, before.timer // the first list began the grace period
	} else {
		log.Warningf("Held back for %.0fs: a list of %s that lacks %d of %d objects. They are served until then", brakeGrace.Seconds(), t.report.kind, len(b.lost), held)
		b.until, b.timer = time.Now().Add(brakeGrace), time.AfterFunc(brakeGrace, t.relent)
		t.report.braked.Store(true)
	}
	t.braking = b
	for key, i := range b.items {
		if old, ok := versions[key]; !ok || i.version > old {
			t.set(i.object)
		}
	}
	return true
}

// relent obeys the list that is held back, if there still is one.
func (t *table[O, T]) relent() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.braking != nil && !time.Now().Before(t.braking.until) {
		log.Warningf("Obeyed after %.0fs: a list of %s takes %d objects away", brakeGrace.Seconds(), t.report.kind, len(t.braking.lost))
		t.obey(slices.Collect(maps.Values(t.braking.items)), t.braking.version)
	}
}

// reconsider obeys the list that is held back once events have made it an
// ordinary one. The caller holds mu.
func (t *table[O, T]) reconsider() {
	if !tooMany(len(t.braking.lost), t.index.Count(t.report.kind.Kind)) {
		t.obey(slices.Collect(maps.Values(t.braking.items)), t.braking.version)
	}
}

// letGo ends the braking, if there is one. The caller holds mu.
func (t *table[O, T]) letGo() {
	if t.braking == nil {
		return
	}
	t.braking.timer.Stop()
	t.braking = nil
	t.report.braked.Store(false)
	log.Infof("No list of %s is held back any more", t.report.kind)
}

// close ends what the table began. What is held back is never obeyed then.
func (t *table[O, T]) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.braking != nil {
		t.braking.timer.Stop()
		t.braking = nil
	}
	if t.ended != nil {
		t.ended()
	}
}
