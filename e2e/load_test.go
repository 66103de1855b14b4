package e2e

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kubezone/kubezone/e2e/harness"
)

// A load asks questions all the time, and knows the one right answer to each.
type load struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
	asked   atomic.Int64

	mu    sync.Mutex // guards wrong
	wrong []string
}

// startLoad asks every question in a loop of its own, over UDP and TCP in turn, until stop.
func startLoad(t *testing.T, s *harness.Server, right map[string]string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{cancel: cancel}
	for question, want := range right {
		l.running.Go(func() {
			pace := time.NewTicker(2 * time.Millisecond) // leaves the CPU to the server and to other tests
			defer pace.Stop()
			for i := 0; ctx.Err() == nil; i++ {
				<-pace.C
				network := "udp"
				if i%10 == 0 {
					network = "tcp"
				}
				l.asked.Add(1)
				reply, err := s.Try(t, harness.Question{Text: question, Network: network})
				if err != nil && network == "tcp" {
					// CoreDNS closes its connections at a reload; whoever asks over TCP connects again.
					reply, err = s.Try(t, harness.Question{Text: question, Network: network})
				}
				switch {
				case err != nil:
					l.add(fmt.Sprintf("%s over %s: %v", question, network, err))
				case harness.Text(reply) != want:
					l.add(fmt.Sprintf("%s over %s: %s; want %s", question, network, harness.Text(reply), want))
				}
			}
		})
	}
	t.Cleanup(l.abandon)
	return l
}

// abandon ends the load, whatever came of it.
func (l *load) abandon() {
	l.cancel()
	l.running.Wait()
}

// stop ends the load and fails the test if a single answer was lost or wrong.
func (l *load) stop(t *testing.T) {
	t.Helper()
	l.abandon()
	const enough = 100
	if asked := l.asked.Load(); asked < enough {
		t.Errorf("only %d questions were asked; want %d", asked, enough)
	}
	for i, wrong := range l.wrong {
		if i == 5 {
			t.Errorf("and %d more", len(l.wrong)-i)
			break
		}
		t.Error(wrong)
	}
	t.Logf("%d questions, %d wrong answers", l.asked.Load(), len(l.wrong))
}

func (l *load) add(wrong string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = append(l.wrong, wrong)
}
