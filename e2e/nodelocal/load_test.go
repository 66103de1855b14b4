package nodelocal

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/e2e/harness"
)

// A load asks from the pod all the time, at every address over UDP and TCP.
type load struct {
	stop    chan struct{}
	running sync.WaitGroup

	asked atomic.Int64
	mu    sync.Mutex // guards what follows
	lost  []loss
}

// A loss is a query that was not answered rightly.
type loss struct {
	began time.Time
	what  string
}

// startLoad begins to ask at all addresses, over UDP and TCP. Each of its clients asks again once it has its answer.
func startLoad(r *rig) *load {
	l := &load{stop: make(chan struct{})}
	for _, to := range asked {
		for _, network := range networks {
			l.running.Go(func() { l.run(r.pod, network, to) })
		}
	}
	return l
}

func (l *load) run(pod *harness.Netns, network, to string) {
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		began := time.Now()
		reply, err := exchange(pod, network, to, new(dns.Msg).SetQuestion("kubernetes.default.svc.cluster.local.", dns.TypeA))
		if err == nil && harness.Text(reply) != "A 10.96.0.1" {
			err = fmt.Errorf("answer %s", harness.Text(reply))
		}
		l.asked.Add(1)
		if err != nil {
			l.mu.Lock()
			l.lost = append(l.lost, loss{began, fmt.Sprintf("%s over %s: %v", to, network, err)})
			l.mu.Unlock()
		}
	}
}

// end stops the load and returns how much was asked and what was lost.
func (l *load) end() (asked int64, lost []loss) {
	close(l.stop)
	l.running.Wait()
	return l.asked.Load(), l.lost
}

// expectNoLoss ends the load, of which nothing may be lost.
func (l *load) expectNoLoss(t *testing.T) {
	t.Helper()
	asked, lost := l.end()
	t.Logf("%d queries, %d lost", asked, len(lost))
	for i, one := range lost {
		if i == 5 {
			break
		}
		t.Errorf("lost: %s", one.what)
	}
}

// expectLossUntil ends the load, of which what began before a time may be lost.
func (l *load) expectLossUntil(t *testing.T, until time.Time) {
	t.Helper()
	asked, lost := l.end()
	t.Logf("%d queries, %d lost", asked, len(lost))
	for _, one := range lost {
		if one.began.After(until) {
			t.Errorf("lost %s after all was to be well: %s", one.began.Sub(until), one.what)
		}
	}
}
