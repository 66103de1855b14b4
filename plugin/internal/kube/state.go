package kube

import (
	"context"
	"strings"
	"time"
)

// A State says how far what is held of a kind can be relied on. Of two states
// the lesser is the worse.
type State uint8

const (
	Starting State = iota // not all objects are held
	Restored              // those of the snapshot are held
	Stale                 // all were held once, but the API server is away, refuses, or is not believed
	Synced                // what is held follows the source
	numStates
)

// States are all states.
var States = []State{Starting, Restored, Stale, Synced}

// String is the name in logs and metrics.
func (s State) String() string {
	return [numStates]string{"starting", "restored", "stale", "synced"}[s]
}

// state works out the State of a kind, and as of when what is held of it is
// known to be right: the zero time while it is not held.
func (s *Store) state(r *report) (State, time.Time) {
	away := s.reach != nil && s.reach.gone.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.lists == 0 && !s.indexOf(r.kind).Holds(r.kind.Kind):
		return Starting, time.Time{}
	case r.lists == 0:
		return Restored, s.restored
	case away || r.astray.Load() || r.braked.Load():
		return Stale, r.lastEvent
	}
	return Synced, time.Now()
}

// statesInterval is between two looks at the states for the log: what passes
// sooner, as when a watch has expired and a list takes its place, is not worth a
// line.
const statesInterval = time.Second

// logStates logs changes of the states until ctx is done.
func (s *Store) logStates(ctx context.Context) {
	known := make(map[kind]State, len(s.reports))
	ticker := time.NewTicker(statesInterval)
	defer ticker.Stop()
	for {
		s.logChanges(known)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// logChanges makes known the states of now, and logs in one line those that are
// new.
func (s *Store) logChanges(known map[kind]State) {
	changed := make(map[State][]string)
	for _, r := range s.reports {
		if now, _ := s.state(r); now != known[r.kind] {
			known[r.kind] = now
			changed[now] = append(changed[now], r.kind.String())
		}
	}
	var texts []string
	for _, state := range States {
		if kinds := changed[state]; kinds != nil {
			texts = append(texts, state.String()+": "+strings.Join(kinds, ", "))
		}
	}
	switch {
	case len(texts) == 0:
	case changed[Stale] != nil:
		log.Warningf("Now %s", strings.Join(texts, "; "))
	default:
		log.Infof("Now %s", strings.Join(texts, "; "))
	}
}
