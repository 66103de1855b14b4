package kube

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// outagePauses are those between requests of a Store to an API server that does
// not serve: few, as every replica makes them, and all replicas may have been
// started together; never longer than 2 s in the first 5 s, and 5 s after that,
// so that what heals is noticed soon. They are the least: outageJitter adds to
// them, and the last is repeated.
var outagePauses = []time.Duration{
	400 * time.Millisecond, 900 * time.Millisecond, 1600 * time.Millisecond, 1600 * time.Millisecond, 1600 * time.Millisecond,
	2 * time.Second, 2500 * time.Millisecond, 3200 * time.Millisecond, 4 * time.Second,
}

const outageJitter = 0.25 // the greatest part of a pause that is added to it

// turns space the requests that all kinds of a Store make after the API server
// did not serve them: one kind asks at a time, and once it is served the others
// need not wait any longer. An API server that was not heard of yet counts as one
// that does not serve. The zero value is ready.
type turns struct {
	mu     sync.Mutex    // guards the rest
	serves bool          // what it did last
	served chan struct{} // closed once it serves, if somebody waits for that
	given  int           // turns since it served
	last   time.Time     // when the last of them is
}

// wait returns once it is the caller's turn, or the API server serves, or ctx is
// done.
func (t *turns) wait(ctx context.Context) {
	at, served := t.take()
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-served:
	case <-timer.C:
	}
}

// take gives a turn away: the one after the last.
func (t *turns) take() (at time.Time, served <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.serves {
		return time.Time{}, nil
	}
	if t.served == nil {
		t.served = make(chan struct{})
	}
	if now := time.Now(); t.last.Before(now) {
		t.last = now
	}
	t.last = t.last.Add(wait.Jitter(outagePauses[min(t.given, len(outagePauses)-1)], outageJitter))
	t.given++
	return t.last, t.served
}

// refused notes that a request was not served.
func (t *turns) refused() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.serves = false
}

// answered notes that a request was served, or refused for a reason of its own.
func (t *turns) answered() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.serves, t.given, t.last = true, 0, time.Time{}
	if t.served != nil {
		close(t.served)
		t.served = nil
	}
}
