package kube

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	errForbidden = apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, "", nil)
	errAway      = errors.New("connection refused")
)

// waited is how long the pace holds the next request back.
func waited(t *testing.T, p *pace) time.Duration {
	t.Helper()
	began := time.Now()
	if err := p.wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pace{turns: new(turns)}
		if d := waited(t, p); d != 0 {
			t.Errorf("first request after %v; want at once", d)
		}
		began := time.Now()
		for range 100 {
			refusal := time.Since(began)
			p.failed(errForbidden)
			d := waited(t, p)
			if d < 200*time.Millisecond || d > 5*time.Second {
				t.Errorf("request after %v; want 200ms to 5s", d)
			}
			if refusal < 5*time.Second && d > 2*time.Second {
				t.Errorf("request after %v, refused for %v so far; want at most 2s", d, refusal)
			}
		}

		p.proceed()
		if d := waited(t, p); d != 0 {
			t.Errorf("request after %v; want at once what belongs to the last", d)
		}

		p.progressed()
		if d := waited(t, p); d < 200*time.Millisecond || d > 250*time.Millisecond {
			t.Errorf("request after %v; want a short wait after a watch that ended at once", d)
		}
		time.Sleep(2 * time.Second)
		p.progressed()
		if d := waited(t, p); d != 0 {
			t.Errorf("request after %v; want none after a watch that brought something", d)
		}
		time.Sleep(time.Minute)
		if d := waited(t, p); d != 0 {
			t.Errorf("request after %v; want none after a watch that lasted", d)
		}

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.wait(ctx); err == nil {
			t.Error("a request is let go although its time is over")
		}
	})
}

// An outage is a number of kinds that ask an API server which does not serve, as
// many as a Store has at first and one that is not urgent.
type outage struct {
	ended time.Duration // after the start; it serves from then on

	mu    sync.Mutex
	asked []time.Duration // after the start
}

// run returns once every kind was served.
func (o *outage) run(t *testing.T, failure error) {
	t.Helper()
	const kinds = 3
	began := time.Now()
	inTurn := new(turns)
	var running sync.WaitGroup
	for n := range kinds + 1 {
		running.Go(func() {
			p := &pace{turns: inTurn, outage: n == kinds}
			for p.wait(t.Context()) == nil {
				at := time.Since(began)
				o.mu.Lock()
				o.asked = append(o.asked, at)
				o.mu.Unlock()
				if at >= o.ended {
					p.served()
					return
				}
				p.failed(failure)
			}
		})
	}
	running.Wait()
}

// during counts the requests of a part of the outage.
func (o *outage) during(from, to time.Duration) int {
	n := 0
	for _, at := range o.asked {
		if from <= at && at < to {
			n++
		}
	}
	return n
}

// The kinds of a Store ask one after the other while the API server does not
// serve, and at once when it does.
func TestKindsTakeTurns(t *testing.T) {
	for _, ended := range []time.Duration{0, 3 * time.Second, 5 * time.Second, 10 * time.Minute} {
		t.Run(fmt.Sprint(ended), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &outage{ended: ended}
				o.run(t, errAway)
				if n := o.during(0, min(ended, 5*time.Second)); n > 7 {
					t.Errorf("%d requests in the first 5 s, at %v; want at most 7", n, o.asked)
				}
				if n := o.during(time.Minute, 2*time.Minute); n > 15 {
					t.Errorf("%d requests in the second minute; want at most 15", n)
				}
				for i, at := range o.asked[1:] {
					since := at - o.asked[i]
					if since > 5*time.Second || (o.asked[i] < 5*time.Second && since > 2*time.Second) {
						t.Errorf("request at %v, %v after the one before", at, since)
					}
				}
				if last := o.asked[len(o.asked)-1]; last != o.asked[len(o.asked)-4] {
					t.Errorf("requests at %v; want all kinds to be served at the same time", o.asked[len(o.asked)-4:])
				}
			})
		})
	}
}

// What one kind alone is refused does not hold up the others.
func TestRefusalOfOneKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inTurn := new(turns)
		one, other := &pace{turns: inTurn}, &pace{turns: inTurn}
		for range 10 {
			waited(t, one)
			one.failed(errForbidden)
		}
		if d := waited(t, other); d != 0 {
			t.Errorf("first request of another kind after %v; want it at once", d)
		}
		other.failed(errAway)
		waited(t, one)
		one.failed(errForbidden) // but it was answered
		if d := waited(t, other); d != 0 {
			t.Errorf("request after %v; want it at once after another was answered", d)
		}
	})
}

func TestRestAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pace{turns: new(turns)}
		for seconds, want := range map[int]time.Duration{20: 20 * time.Second, 3600: maxRetryAfter} {
			waited(t, p)
			p.failed(apierrors.NewTooManyRequests("", seconds))
			p.turns.answered() // to another kind
			if d := waited(t, p); d != want {
				t.Errorf("request after %v, asked to wait %ds; want %v", d, seconds, want)
			}
		}
	})
}
