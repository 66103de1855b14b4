package kube

import (
	"sync"
	"time"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

const (
	// quietFor is how long a Service's slices must have been quiet for a
	// rearrangement of them to be over. The EndpointSlice controller writes one
	// slice after the other, at 20 writes a second by default.
	quietFor = 100 * time.Millisecond
	// moveGrace is the longest that what an event takes away stays: in that time
	// the controller writes 15 slices, of 1,500 endpoints, and yet every change
	// shows within a second.
	moveGrace = 750 * time.Millisecond
)

// A mover changes the slices of an Index so that an endpoint which moves from
// one slice of its Service to another is never missing in between, whichever of
// the two is written first. The API server has such a moment too, when the
// controller spreads endpoints anew, as after a change of ports: it takes some
// from one slice before it writes them to another.
//
// What an event adds is shown at once. What it takes away, from a Service that
// has other slices of the same family, stays until the Service's slices have
// been quiet for quietFor, or for moveGrace, and then goes in one step.
type mover struct {
	index *index.Index

	mu      sync.Mutex // guards the rest, and orders changes
	leaving map[index.ObjectKey]*departure
	ended   bool
}

// A departure is what is to be taken away from a Service.
type departure struct {
	slices  map[index.ObjectKey]*index.Slice // as the API server has them; nil for one that is gone
	version uint64                           // of the last event
	last    time.Time                        // when that was
	until   time.Time
	timer   *time.Timer
}

func newMover(x *index.Index) *mover {
	return &mover{index: x, leaving: map[index.ObjectKey]*departure{}}
}

// set takes an event about a slice that there is.
func (m *mover) set(s *index.Slice) {
	m.mu.Lock()
	defer m.mu.Unlock()
	service := index.ObjectKey{Namespace: s.Namespace, Name: s.Service}
	old, siblings := m.index.Held(s.ObjectKey)
	if old != nil && old.Service != s.Service {
		m.forget(old)
		old = nil
	}
	if old != nil && (siblings || m.leaves(service, s.ObjectKey)) {
		if lost := old.Lost(s); len(lost) > 0 {
			m.leave(service, s.ObjectKey, s, s.ResourceVersion)
			m.index.SetSlice(s.With(lost))
			return
		}
	}
	m.stays(service, s.ObjectKey)
	m.index.SetSlice(s)
}

// remove takes an event about a slice that is gone.
func (m *mover) remove(key index.ObjectKey, version uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, siblings := m.index.Held(key)
	if old == nil {
		m.index.DeleteSlice(key, version)
		return
	}
	service := index.ObjectKey{Namespace: old.Namespace, Name: old.Service}
	if old.Len() > 0 && (siblings || m.leaves(service, key)) {
		m.leave(service, key, nil, version)
		return
	}
	m.forget(old)
	m.index.DeleteSlice(key, version)
}

// replace takes a complete list, after which nothing is on the move.
func (m *mover) replace(list []*index.Slice, version uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for service, d := range m.leaving {
		d.timer.Stop()
		delete(m.leaving, service)
	}
	m.index.ReplaceSlices(list, version)
}

// leave notes what the slice is to become. The caller holds mu, as those of the
// methods below do.
func (m *mover) leave(service, key index.ObjectKey, next *index.Slice, version uint64) {
	now := time.Now()
	d := m.leaving[service]
	if d == nil {
		d = &departure{slices: map[index.ObjectKey]*index.Slice{}, until: now.Add(moveGrace)}
		d.timer = time.AfterFunc(quietFor, func() { m.depart(service, d) })
		m.leaving[service] = d
	}
	d.slices[key] = next
	d.version, d.last = max(d.version, version), now
}

// leaves tells whether something of the slice is to be taken away already.
func (m *mover) leaves(service, key index.ObjectKey) bool {
	d := m.leaving[service]
	if d == nil {
		return false
	}
	_, ok := d.slices[key]
	return ok
}

// stays notes an event that takes nothing away, or no more.
func (m *mover) stays(service, key index.ObjectKey) {
	if d := m.leaving[service]; d != nil {
		delete(d.slices, key)
		d.last = time.Now()
	}
}

// forget is for a slice that its Service has no more.
func (m *mover) forget(s *index.Slice) {
	m.stays(index.ObjectKey{Namespace: s.Namespace, Name: s.Service}, s.ObjectKey)
}

// depart takes away what is to go, unless the Service's slices are not quiet
// yet.
func (m *mover) depart(service index.ObjectKey, d *departure) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended || m.leaving[service] != d {
		return
	}
	now := time.Now()
	if wait := min(d.last.Add(quietFor).Sub(now), d.until.Sub(now)); wait > 0 {
		d.timer.Reset(wait)
		return
	}
	delete(m.leaving, service)
	var list []*index.Slice
	var gone []index.ObjectKey
	for key, s := range d.slices {
		if s == nil {
			gone = append(gone, key)
		} else {
			list = append(list, s)
		}
	}
	m.index.ChangeSlices(list, gone, d.version)
}

// close ends what the mover began. What is on the move stays where it is.
func (m *mover) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	for _, d := range m.leaving {
		d.timer.Stop()
	}
}
