package kube

import (
	"context"
	"sync"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

// A feed follows one kind.
type feed struct {
	listWatch *listWatch
	table     interface {
		known() (versions map[index.ObjectKey]uint64, newest uint64)
		close() // ends what the table began
	}
	newReflector func() *cache.Reflector
	doubt        func() // told when the API server seems to have gone back
	// seek, if there is one, finds what a round follows. It takes its time, and
	// is false if there is nothing to follow.
	seek func(context.Context) bool

	mu     sync.Mutex         // guards the rest
	anew   bool               // the next round is to begin with the newest state
	cancel context.CancelFunc // ends the round
}

func newFeed[O interface {
	metav1.Object
	runtime.Object
}, T any](lw *listWatch, object O, list runtime.Object, t *table[O, T]) *feed {
	t.index, t.noBrake, t.report, t.pace = lw.index, lw.noBrake, lw.report, lw.pace
	lw.newList = list.DeepCopyObject
	lw.slim = func(o runtime.Object) runtime.Object { return t.slim(o.(O)) }
	logger := logr.New(debugSink{})
	f := &feed{listWatch: lw, table: t, doubt: func() {}}
	f.newReflector = func() *cache.Reflector {
		return cache.NewReflectorWithOptions(lw, object, t, cache.ReflectorOptions{
			Name:    lw.kind.String(),
			Logger:  &logger,
			Clock:   patientClock{},
			Backoff: &retryDelays,
		})
	}
	t.rewound = func() {
		f.relist()
		f.doubt()
	}
	t.doubt = func() { f.doubt() }
	return f
}

// run returns once ctx is done and all that it began has ended. There is no
// pause between two rounds, as every request waits for its turn.
func (f *feed) run(ctx context.Context) {
	reflector := f.newReflector()
	for ctx.Err() == nil {
		if f.seek != nil && !f.seek(ctx) {
			continue
		}
		round, cancel := context.WithCancel(ctx)
		if f.begin(cancel) {
			reflector = f.newReflector() // one that does not ask for what it last saw
		}
		if err := reflector.ListAndWatchWithContext(round); err != nil {
			log.Debugf("Following %s: %v", f.listWatch.kind, err)
		}
		cancel()
	}
	f.listWatch.listing.Lock()
	defer f.listWatch.listing.Unlock()
	f.table.close()
}

// begin notes a new round, and reports whether it is to begin with the newest
// state.
func (f *feed) begin(cancel context.CancelFunc) (anew bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	anew = f.anew
	f.cancel, f.anew = cancel, false
	return anew
}

// relist ends the watch, and has the kind listed anew, unless that is under way.
// It does not wait.
func (f *feed) relist() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cancel != nil && f.listWatch.report.repair() {
		f.anew = true
		f.cancel()
	}
}

// A patientClock lets no watch look short. A reflector takes one that ends
// within a second without an event for an error and lists anew, although all
// that is missing is a little patience, for which pace sees.
type patientClock struct{ clock.RealClock }

// Since is never less than a second.
func (patientClock) Since(t time.Time) time.Duration { return max(time.Since(t), time.Second) }
