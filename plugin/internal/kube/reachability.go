package kube

import (
	"sync"
	"sync/atomic"
	"time"
)

// reminderInterval is the least time between two lines of the log about an API
// server that stays away.
const reminderInterval = time.Minute

// A reachability follows whether the API server answers at all, and logs when
// that changes. It is safe for concurrent use.
type reachability struct {
	host     string
	returned func()      // told when it answers again; nil for nobody
	gone     atomic.Bool // err is not nil; queries read it

	mu       sync.Mutex // guards the rest
	met      bool       // it answered once
	err      error      // nil while it answers
	since    time.Time
	reminded time.Time
}

// answered notes that the API server said something, be it an error.
func (r *reachability) answered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.met:
		log.Infof("Connected to the API server at %s", r.host)
	case r.err != nil:
		log.Infof("The API server at %s answers again after %.1fs", r.host, time.Since(r.since).Seconds())
		if r.returned != nil {
			r.returned()
		}
	}
	r.met, r.err = true, nil
	r.gone.Store(false)
}

// lost notes that a request went unanswered, or that an answer broke off.
func (r *reachability) lost(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	switch {
	case r.err == nil:
		r.since, r.reminded = now, now
		log.Warningf("The API server at %s is away, what is known stays: %v", r.host, err)
	case now.Sub(r.reminded) >= reminderInterval:
		r.reminded = now
		log.Warningf("The API server at %s has been away for %.0fs: %v", r.host, now.Sub(r.since).Seconds(), err)
	}
	r.err = err
	r.gone.Store(true)
}

// trouble is why the last request had no answer, nil if it had one.
func (r *reachability) trouble() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}
