package kube

import (
	"context"
	"errors"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
)

// retryDelays are the pauses between attempts at what the API server refuses for
// a reason that is the kind's own, such as a missing right: at most 5 s with
// their jitter, so that what heals is noticed soon, and growing slowly, so that
// after a few seconds the next attempt is less than 2 s away.
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
// at once, the others wait longer and longer, and those that the API server did
// not serve wait for their turn among all kinds. It is used by one goroutine at a
// time. It is ready once it has its turns.
type pace struct {
	turns    *turns
	outage   bool // the last request was not served, or nothing is urgent about the first
	delays   wait.Backoff
	began    time.Time     // when the last request was let go
	progress bool          // a watch brought something since then
	free     bool          // the next request need not wait
	atLeast  time.Duration // that the API server asked for
}

// wait returns when the next request may be made, or with an error once ctx is
// done.
func (p *pace) wait(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.outage {
		asked := time.Now()
		p.turns.wait(ctx)
		pause(ctx, p.atLeast-time.Since(asked))
	} else {
		pause(ctx, p.delay())
	}
	p.began, p.progress, p.free, p.outage, p.atLeast = time.Now(), false, false, false, 0
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
			return 0
		}
	}
	return p.delays.Step()
}

// progressed is to be called when a watch brought something.
func (p *pace) progressed() { p.progress = true }

// proceed lets the next request go at once, which belongs to the last.
func (p *pace) proceed() { p.free = true }

// served is to be called when a request was.
func (p *pace) served() { p.turns.answered() }

// failed is to be called when a request was not served, with the reason.
func (p *pace) failed(err error) {
	if !isOutage(err) {
		p.turns.answered()
		return
	}
	seconds, _ := apierrors.SuggestsClientDelay(err)
	p.outage, p.atLeast = true, min(time.Duration(seconds)*time.Second, maxRetryAfter)
	p.turns.refused()
}

// isOutage tells whether a request for another kind would have failed as well:
// there was no answer, or one that says nothing about what was asked for.
func isOutage(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true
	}
	code := int(status.Status().Code)
	return !forReflector(err) &&
		(code >= http.StatusInternalServerError || code == http.StatusTooManyRequests || code == http.StatusUnauthorized)
}

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
