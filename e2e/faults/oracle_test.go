package faults

import (
	"context"
	"fmt"
	"io"
	golog "log"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/e2e/harness"
)

func quiet() *golog.Logger { return golog.New(io.Discard, "", 0) }

// shownWithin is the time that a change may take to show while nothing is broken.
const shownWithin = 2 * time.Second

// A truth is what each question was to be answered with, from when to when.
type truth struct {
	mu      sync.Mutex // guards the rest
	states  map[string][]state
	broken  []window // when answers may be old
	healing time.Duration
}

type window struct{ from, to time.Time }

// A state is an answer that became right when a write began.
type state struct {
	from time.Time
	text string
}

func newTruth(healing time.Duration) *truth {
	return &truth{states: make(map[string][]state), healing: healing}
}

// write runs a change of the cluster which makes text the answer to the question.
func (o *truth) write(question, text string, change func()) {
	o.mu.Lock()
	o.states[question] = append(o.states[question], state{time.Now(), text})
	o.mu.Unlock()
	change()
}

// since adds an answer that became right at a time.
func (o *truth) since(from time.Time, question, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.states[question] = append(o.states[question], state{from, text})
}

// now is the newest answer to a question.
func (o *truth) now(question string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	states := o.states[question]
	return states[len(states)-1].text
}

// breaks and heals say from when to when answers may be as old as the fault.
func (o *truth) breaks() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.broken = append(o.broken, window{time.Now(), time.Now().Add(time.Hour)})
}

func (o *truth) heals() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.broken[len(o.broken)-1].to = time.Now()
}

// right tells whether an answer that was asked for and came at these times equals a state within the allowed age.
func (o *truth) right(question, text string, asked, came time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	states := o.states[question]
	for i, s := range states {
		if s.text != text || s.from.After(came) {
			continue
		}
		if i+1 == len(states) {
			return true
		}
		deadline := states[i+1].from.Add(shownWithin)
		for _, w := range o.broken {
			if w.from.Before(deadline) && w.to.Add(o.healing).After(deadline) {
				deadline = w.to.Add(o.healing)
			}
		}
		if asked.Before(deadline) {
			return true
		}
	}
	return false
}

// An answer is one line of the log of a run.
type answer struct {
	asked, came time.Time
	question    string
	text        string // an error where none came
	stale, lost bool
}

// A tally sums a run up.
type tally struct {
	asked, right, stale, servfail, wrong, lost int
	converged                                  time.Duration
	worst                                      []answer
}

// A client asks the questions of a truth in turn, all the time, and keeps a log.
type client struct {
	truth   *truth
	cancel  context.CancelFunc
	running sync.WaitGroup
	log     []answer // read after stop
}

func startClient(t *testing.T, s *harness.Server, o *truth) *client {
	ctx, cancel := context.WithCancel(t.Context())
	c := &client{truth: o, cancel: cancel}
	c.running.Go(func() {
		pace := time.NewTicker(4 * time.Millisecond) // leaves the CPU to the server
		defer pace.Stop()
		for ctx.Err() == nil {
			for _, question := range o.questions() {
				<-pace.C
				c.log = append(c.log, ask(t, s, question))
			}
		}
	})
	t.Cleanup(c.stop)
	return c
}

func (o *truth) questions() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []string
	for question := range o.states {
		list = append(list, question)
	}
	slices.Sort(list)
	return list
}

func ask(t *testing.T, s *harness.Server, question string) answer {
	a := answer{asked: time.Now(), question: question}
	reply, err := s.Try(t, harness.Question{Text: question, UDPSize: 1232})
	a.came = time.Now()
	if err != nil {
		a.text, a.lost = err.Error(), true
		return a
	}
	a.text = harness.Text(reply)
	if opt := reply.IsEdns0(); opt != nil {
		for _, option := range opt.Option {
			if e, ok := option.(*dns.EDNS0_EDE); ok && (e.InfoCode == dns.ExtendedErrorCodeStaleAnswer || e.InfoCode == dns.ExtendedErrorCodeStaleNXDOMAINAnswer) {
				a.stale = true
			}
		}
	}
	return a
}

func (c *client) stop() {
	c.cancel()
	c.running.Wait()
}

// sum judges the log.
func (c *client) sum() tally {
	var sum tally
	for _, a := range c.log {
		sum.asked++
		if a.stale {
			sum.stale++
		}
		switch {
		case a.lost:
			sum.lost++
			sum.worst = append(sum.worst, a)
		case a.text == "SERVFAIL":
			sum.servfail++
		case c.truth.right(a.question, a.text, a.asked, a.came):
			sum.right++
		default:
			sum.wrong++
			sum.worst = append(sum.worst, a)
		}
	}
	return sum
}

func (a answer) String() string {
	return fmt.Sprintf("%s %s: %s", a.asked.Format("05.000"), a.question, a.text)
}
