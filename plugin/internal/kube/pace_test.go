package kube

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
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
		p := new(pace)
		if d := waited(t, p); d != 0 {
			t.Errorf("first request after %v; want at once", d)
		}
		began := time.Now()
		for range 100 {
			outage := time.Since(began)
			d := waited(t, p)
			if d < 200*time.Millisecond || d > 5*time.Second {
				t.Errorf("request after %v; want 200ms to 5s", d)
			}
			if outage < 5*time.Second && d > 2*time.Second {
				t.Errorf("request after %v in an outage of %v; want at most 2s", d, outage)
			}
		}

		p.after(20 * time.Second)
		if d := waited(t, p); d != 20*time.Second {
			t.Errorf("request after %v; want the 20s that were asked for", d)
		}
		p.after(time.Hour)
		if d := waited(t, p); d != maxRetryAfter {
			t.Errorf("request after %v; want at most %v, whatever is asked for", d, maxRetryAfter)
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
