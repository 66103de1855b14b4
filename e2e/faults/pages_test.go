package faults

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/kubezone/kubezone/e2e/harness"
)

// pages looks at what a server says about its readiness, all the time.
type pages struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
	unready int // times that it said it was not; read after stop
}

func watchPages(t *testing.T, s *harness.Server) *pages {
	ctx, cancel := context.WithCancel(t.Context())
	p := &pages{cancel: cancel}
	p.running.Go(func() {
		pace := time.NewTicker(50 * time.Millisecond)
		defer pace.Stop()
		for ctx.Err() == nil {
			<-pace.C
			// A reload closes the page for a moment, which is no answer.
			if status, _, err := s.Get(s.Ready + "/ready"); err == nil && status != http.StatusOK {
				p.unready++
			}
		}
	})
	t.Cleanup(p.stop)
	return p
}

func (p *pages) stop() {
	p.cancel()
	p.running.Wait()
}
