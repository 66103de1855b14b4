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
	goodWatch = 30 * time.Second
	// maxRetryAfter bounds what an API server can ask for.
	maxRetryAfter = 30 * time.Second
)

// A pace spaces the requests for one kind: the first after any progress is made
// at once, the others wait longer and longer. It is used by one goroutine at a
// time. Its zero value is ready.
type pace struct {
	delays  wait.Backoff
	began   time.Time     // when the last attempt without progress since then began
	atLeast time.Duration // what the API server asked for
}

// wait returns when the next request may be made, or with an error once ctx is
// done.
func (p *pace) wait(ctx context.Context) error {
	if !p.began.IsZero() && time.Since(p.began) > goodWatch {
		p.progress()
	}
	if p.began.IsZero() {
		p.delays = retryDelays
		p.began = time.Now()
		return ctx.Err()
	}
	timer := time.NewTimer(max(p.delays.Step(), p.atLeast))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		p.began, p.atLeast = time.Now(), 0
		return nil
	}
}

// progress is to be called when the API server sent something that is of use.
func (p *pace) progress() { p.began = time.Time{} }

// after makes the next wait no shorter than the API server asked for.
func (p *pace) after(d time.Duration) { p.atLeast = min(d, maxRetryAfter) }
