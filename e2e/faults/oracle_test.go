package faults

import (
	"context"
	"fmt"
	"io"
	golog "log"
	"slices"
	"strings"
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

// A window is a fault: meanwhile, and until it has healed, answers may be those of the time before it.
type window struct{ oldest, from, to time.Time }

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

// forget is for what is not to be asked.
func (o *truth) forget(question string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.states, question)
}

// now is the newest answer to a question.
func (o *truth) now(question string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	states := o.states[question]
	return states[len(states)-1].text
}

// breaks and heals say from when to when answers may be as old as the fault.
func (o *truth) breaks() { o.breaksTo(time.Now().Add(-shownWithin)) }

// breaksTo is breaks for answers that may be as old as that.
func (o *truth) breaksTo(oldest time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	o.broken = append(o.broken, window{oldest, now, now.Add(time.Hour)})
}

// undo makes right again what was right then, as in a backup of that time, and returns how many addresses of names
// changed by it.
func (o *truth) undo(then time.Time) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	undone := 0
	for question, states := range o.states {
		before := "NXDOMAIN"
		for _, s := range states {
			if s.from.Before(then) {
				before = s.text
			}
		}
		if states[len(states)-1].text != before {
			o.states[question] = append(states, state{time.Now(), before})
			if strings.HasSuffix(question, " A") {
				undone++
			}
		}
	}
	return undone
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
		ended := states[i+1].from
		if asked.Before(ended.Add(shownWithin)) {
			return true
		}
		for _, w := range o.broken {
			if !ended.Before(w.oldest) && came.After(w.from) && asked.Before(w.to.Add(o.healing)) {
				return true
			}
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

// add adds what was counted elsewhere.
func (y *tally) add(o tally) {
	y.asked += o.asked
	y.right += o.right
	y.stale += o.stale
	y.servfail += o.servfail
	y.wrong += o.wrong
	y.lost += o.lost
	y.worst = append(y.worst, o.worst...)
}

// A client asks the questions of a truth in turn, all the time, and keeps a log.
type client struct {
	truth   *truth
	cancel  context.CancelFunc
	running sync.WaitGroup
	log     []answer // what is not judged yet; read after stop
	judged  tally

	mu   sync.Mutex      // guards took
	took []time.Duration // of each reply
}

// unjudged is how many answers wait for their judgement, which is final once the writes that they may show have ended.
const unjudged = 10_000

func startClient(t *testing.T, s *harness.Server, o *truth) *client {
	ctx, cancel := context.WithCancel(t.Context())
	c := &client{truth: o, cancel: cancel}
	c.running.Go(func() {
		pace := time.NewTicker(4 * time.Millisecond) // leaves the CPU to the server
		defer pace.Stop()
		for ctx.Err() == nil {
			for _, question := range o.questions() {
				<-pace.C
				a := ask(t, s, question)
				c.log = append(c.log, a)
				c.mu.Lock()
				c.took = append(c.took, a.came.Sub(a.asked))
				c.mu.Unlock()
			}
			if len(c.log) >= 2*unjudged {
				c.judge(len(c.log) - unjudged)
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
	// What is malformed besides is for other tests to tell: here a reply is one.
	reply, err := s.Exchange(harness.Question{Text: question, UDPSize: 1232}.Message(t), "udp")
	a.came = time.Now()
	if err != nil {
		a.text, a.lost = err.Error(), true
		return a
	}
	a.text = harness.Text(reply)
	a.stale = hasEDE(reply, dns.ExtendedErrorCodeStaleAnswer, dns.ExtendedErrorCodeStaleNXDOMAINAnswer)
	return a
}

func (c *client) stop() {
	c.cancel()
	c.running.Wait()
}

// sum judges what is left of the log.
func (c *client) sum() tally {
	c.judge(len(c.log))
	return c.judged
}

// judge judges the first n answers of the log.
func (c *client) judge(n int) {
	sum := &c.judged
	for _, a := range c.log[:n] {
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
	c.log = append(c.log[:0], c.log[n:]...)
}

func (a answer) String() string {
	return fmt.Sprintf("%s %s: %s", a.asked.Format("05.000"), a.question, a.text)
}
