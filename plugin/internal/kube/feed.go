package kube

import (
	"context"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// A feed follows one kind.
type feed struct {
	listWatch *listWatch
	reflector *cache.Reflector
	// seek, if there is one, finds what a round follows. It takes its time, and
	// is false if there is nothing to follow.
	seek func(context.Context) bool
	// close ends what the reflector's store began.
	close func()
}

func newFeed[O interface {
	metav1.Object
	runtime.Object
}, T any](lw *listWatch, object O, list runtime.Object, t *table[O, T]) *feed {
	t.index, t.noBrake, t.report, t.pace = lw.index, lw.noBrake, lw.report, lw.pace
	lw.newList = list.DeepCopyObject
	lw.slim = func(o runtime.Object) runtime.Object { return t.slim(o.(O)) }
	logger := logr.New(debugSink{})
	return &feed{
		listWatch: lw,
		close:     t.close,
		reflector: cache.NewReflectorWithOptions(lw, object, t, cache.ReflectorOptions{
			Name:    lw.kind.String(),
			Logger:  &logger,
			Clock:   patientClock{},
			Backoff: &retryDelays,
		}),
	}
}

// run returns once ctx is done and all that it began has ended. There is no
// pause between two rounds, as every request waits for its turn.
func (f *feed) run(ctx context.Context) {
	for ctx.Err() == nil {
		if f.seek != nil && !f.seek(ctx) {
			continue
		}
		if err := f.reflector.ListAndWatchWithContext(ctx); err != nil {
			log.Debugf("Following %s: %v", f.listWatch.kind, err)
		}
	}
	f.listWatch.listing.Lock()
	defer f.listWatch.listing.Unlock()
	f.close()
}

// A patientClock lets no watch look short. A reflector takes one that ends
// within a second without an event for an error and lists anew, although all
// that is missing is a little patience, for which pace sees.
type patientClock struct{ clock.RealClock }

// Since is never less than a second.
func (patientClock) Since(t time.Time) time.Duration { return max(time.Since(t), time.Second) }
