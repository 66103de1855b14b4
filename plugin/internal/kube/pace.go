package kube

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// retryDelays are the pauses between attempts: at most 5 s with their jitter,
// so that what heals is noticed soon, and growing slowly, so that after an
// outage of a few seconds the next attempt is less than 2 s away.
var retryDelays = wait.Backoff{
	Duration: 200 * time.Millisecond,
	Factor:   1.25,
	Jitter:   0.25,
	Steps:    30,
	Cap:      4 * time.Second,
}

const (
	// A watch that lasted so long was no failure, even if it brought nothing.
	quietWatch = 30 * time.Second
	// One that ends sooner is not begun again at once, even if it brought
	// something: the next may end as soon.
	shortWatch = time.Second
	// maxRetryAfter bounds what an API server can ask for.
	maxRetryAfter = 30 * time.Second
)

// A pace spaces the requests for one kind: one that follows a good watch is made
// at once, the others wait longer and longer. It is used by one goroutine at a
// time. Its zero value is ready.
type pace struct {
	delays   wait.Backoff
	began    time.Time // when the last request was let go
	progress bool      // a watch brought something since then
	free     bool      // the next request need not wait
	atLeast  time.Duration
}

// wait returns when the next request may be made, or with an error once ctx is
// done.
func (p *pace) wait(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	pause(ctx, p.delay())
	p.began, p.progress, p.free, p.atLeast = time.Now(), false, false, 0
	return ctx.Err()
}

func (p *pace) delay() time.Duration {
	lasted := time.Since(p.began)
	switch {
	case p.began.IsZero():
		p.delays = retryDelays
		return 0
	case p.free:
		return 0
	case p.progress || lasted > quietWatch:
		p.delays = retryDelays
		if lasted > shortWatch {
			return p.atLeast
		}
	}
	return max(p.delays.Step(), p.atLeast)
}

// progressed is to be called when a watch brought something.
func (p *pace) progressed() { p.progress = true }

// proceed lets the next request go at once, which belongs to the last.
func (p *pace) proceed() { p.free = true }

// after makes the next wait no shorter than the API server asked for.
func (p *pace) after(d time.Duration) { p.atLeast = min(d, maxRetryAfter) }

// pause returns after d, or once ctx is done.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
