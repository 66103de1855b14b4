package kube

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

const (
	// recheckAfter is how long an event may be on its way: what is missing for
	// longer was lost.
	recheckAfter = 5 * time.Second

	// Once the API server is back its watches take a moment to begin, and so
	// many clients have found it again: the check begins within this time.
	returnSoonest, returnLatest = time.Second, 5 * time.Second

	// doubtPause is between two checks out of turn, however often the API
	// server comes and goes.
	doubtPause = 10 * time.Second

	metadataPage = 500
)

// metadataType asks for keys and resource versions in place of objects.
const metadataType = runtime.ContentTypeProtobuf + ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1," +
	runtime.ContentTypeJSON + ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

// A selfCheck compares what is held with what the API server has: one kind after
// the other, each once in an interval, and all of them when there is reason to
// doubt. What differs for longer than an event takes is counted, and the kind is
// listed anew.
type selfCheck struct {
	interval time.Duration
	feeds    []*feed
	doubts   chan time.Duration // asks for a check of all kinds after a pause
}

func newSelfCheck(interval time.Duration, feeds []*feed) *selfCheck {
	return &selfCheck{interval: interval, feeds: feeds, doubts: make(chan time.Duration, 1)}
}

// doubt asks for a check of all kinds after a pause. It does not wait.
func (c *selfCheck) doubt(after time.Duration) {
	select {
	case c.doubts <- after:
	default: // one is asked for already
	}
}

// returned is to be called when the API server is back after it was away.
func (c *selfCheck) returned() {
	c.doubt(returnSoonest + rand.N(returnLatest-returnSoonest))
}

// run checks until ctx is done.
func (c *selfCheck) run(ctx context.Context) {
	var doubtful []*feed         // to be checked out of turn
	var due, lastDoubt time.Time // when that is to be, and when it was
	turn, next := 0, time.Now().Add(c.step())
	for ctx.Err() == nil {
		until := next
		if len(doubtful) > 0 && due.Before(next) {
			until = due
		}
		timer := time.NewTimer(time.Until(until))
		select {
		case <-ctx.Done():
		case after := <-c.doubts:
			doubtful, due = c.feeds, time.Now().Add(after)
			if earliest := lastDoubt.Add(doubtPause); due.Before(earliest) {
				due = earliest
			}
		case <-timer.C:
			if until.Equal(next) {
				c.feeds[turn%len(c.feeds)].check(ctx)
				turn, next = turn+1, time.Now().Add(c.step())
				break
			}
			lastDoubt = time.Now()
			doubtful = slices.DeleteFunc(slices.Clone(doubtful), func(f *feed) bool { return f.check(ctx) })
			due = time.Now().Add(recheckAfter)
		}
		timer.Stop()
	}
}

// step is the pause between two kinds, with a jitter that keeps replicas apart.
func (c *selfCheck) step() time.Duration {
	step := c.interval / time.Duration(len(c.feeds))
	return step*3/4 + rand.N(step/2)
}

// A difference is what the API server has of an object, and what is held: the
// resource versions, 0 for none.
type difference struct{ listed, held uint64 }

// check compares the kind once, and repairs it. It reports whether it could: a
// kind that is not followed has its cure already, and may need a check after it.
func (f *feed) check(ctx context.Context) (checked bool) {
	l := f.listWatch
	if !l.report.following() {
		return false
	}
	_, newest := f.table.known()
	differ, version, err := f.compare(ctx, newest)
	rewound := version < newest
	if err == nil && len(differ) > 0 && !rewound {
		pause(ctx, recheckAfter)
		var again map[index.ObjectKey]difference
		again, version, err = f.compare(ctx, newest)
		rewound = version < newest
		for key, d := range differ {
			if again[key] != d {
				delete(differ, key)
			}
		}
	}
	switch {
	case err != nil:
		log.Debugf("Checking %s: %v", l.kind, err)
		return false
	case ctx.Err() != nil, !l.report.following():
		return false
	case rewound:
		log.Warningf("The API server went back: its newest %s are of version %d, after %d; %d objects differ. They are listed anew", l.kind, version, newest, len(differ))
	case len(differ) > 0:
		log.Warningf("A watch of %s was silent about %d objects, such as %s. They are listed anew", l.kind, len(differ), keyText(anyKey(differ)))
	default:
		return true
	}
	l.report.drifted(len(differ))
	f.relist()
	return true
}

// compare lists the metadata and returns what differs. What is newer than the
// list does not, unless the API server went back behind the newest version that
// it told of before.
func (f *feed) compare(ctx context.Context, newest uint64) (differ map[index.ObjectKey]difference, version uint64, err error) {
	listed, version, err := f.listWatch.metadata(ctx)
	if err != nil {
		return nil, 0, err
	}
	differ = make(map[index.ObjectKey]difference)
	held, _ := f.table.known()
	for key, h := range held {
		v := listed[key]
		delete(listed, key)
		if v != h && (h <= version || version < newest) {
			differ[key] = difference{v, h}
		}
	}
	for key, v := range listed {
		differ[key] = difference{v, 0}
	}
	return differ, version, nil
}

// metadata lists keys and resource versions, and the version of the list.
func (l *listWatch) metadata(ctx context.Context) (map[index.ObjectKey]uint64, uint64, error) {
	all := make(map[index.ObjectKey]uint64)
	version, err := listMetadata(ctx, l.rest(), l.kind.resource(), l.selectors, func(o *metav1.PartialObjectMetadata) {
		all[objectKey(o)] = resourceVersion(o.ResourceVersion)
	})
	return all, version, err
}

// listMetadata lists by pages and returns the version of the list.
func listMetadata(ctx context.Context, from rest.Interface, resource string, options metav1.ListOptions, each func(*metav1.PartialObjectMetadata)) (version uint64, err error) {
	options.Limit = metadataPage
	for {
		var page metav1.PartialObjectMetadataList
		err := from.Get().Resource(resource).VersionedParams(&options, metav1.ParameterCodec).
			SetHeader("Accept", metadataType).MaxRetries(0).Do(ctx).Into(&page)
		if err != nil {
			return 0, err
		}
		for i := range page.Items {
			each(&page.Items[i])
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return resourceVersion(page.ResourceVersion), nil
		}
	}
}

func anyKey(differ map[index.ObjectKey]difference) index.ObjectKey {
	for key := range differ {
		return key
	}
	return index.ObjectKey{}
}
