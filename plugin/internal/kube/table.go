package kube

import (
	"fmt"
	"maps"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

// A table is the part of an Index that holds one kind: objects O of the API are
// held as T. It is the store of a reflector, which calls it from one goroutine
// at a time, and keeps no objects itself.
type table[O metav1.Object, T any] struct {
	index   *index.Index
	report  *report
	pace    *pace
	convert func(O, *faults) *T
	same    func(*T) *T // the equal one that is held, or its argument
	replace func([]*T, uint64)
	set     func(*T)
	remove  func(index.ObjectKey, uint64)

	// ended is told that the table takes no more; nil for nobody.
	ended func()
	// added and changed are told of an object once the Index holds it, unless
	// it came with a list. They may be nil.
	added, changed func(O)

	noBrake bool
	// rewound is told of an event, and doubt of a list, that is of an older
	// version than what came before.
	rewound, doubt func()

	mu      sync.Mutex  // guards the rest, and orders changes of the Index
	braking *braking[T] // nil while no list is held back
	newest  uint64      // version that the API server told of
	// passed are the versions of what the DNS has no use for.
	passed map[index.ObjectKey]uint64
}

var _ cache.TransformingStore = (*table[metav1.Object, int])(nil)
var _ cache.ReflectorBookmarkStore = (*table[metav1.Object, int])(nil)

// An item carries a T through a reflector, which wants a runtime.Object.
type item[T any] struct {
	key     index.ObjectKey
	version uint64
	object  *T // nil for an object that the DNS has no use for
}

func (*item[T]) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject returns the item itself: it never changes.
func (i *item[T]) DeepCopyObject() runtime.Object { return i }

// Transformer makes slim items of what a streaming list brings, before the
// reflector keeps them.
func (t *table[O, T]) Transformer() cache.TransformFunc {
	return func(o any) (any, error) {
		object, ok := o.(O)
		if !ok {
			return nil, fmt.Errorf("object of type %T in a list of %s", o, t.report.kind)
		}
		return t.slim(object), nil
	}
}

// slim shares with the Index what did not change, so that a relist keeps no
// second copy.
func (t *table[O, T]) slim(o O) *item[T] {
	object := t.checked(o)
	if object != nil {
		object = t.same(object)
	}
	return &item[T]{objectKey(o), resourceVersion(o.GetResourceVersion()), object}
}

func (t *table[O, T]) checked(o O) *T {
	var f faults
	object := t.convert(o, &f)
	t.report.check(objectKey(o), f)
	return object
}

// Add is called for an object that was not there.
func (t *table[O, T]) Add(o any) error { return t.put(o, t.added) }

// Update is called for an object that changed.
func (t *table[O, T]) Update(o any) error { return t.put(o, nil) }

func (t *table[O, T]) put(o any, added func(O)) error {
	object, ok := o.(O)
	if !ok {
		return fmt.Errorf("event with an object of type %T for %s", o, t.report.kind)
	}
	t.take(&item[T]{objectKey(object), resourceVersion(object.GetResourceVersion()), t.checked(object)})
	t.progress()
	if added != nil {
		added(object)
	}
	if t.changed != nil {
		t.changed(object)
	}
	return nil
}

// Delete is called with the object as it was, but for its resource version,
// which is that of the deletion.
func (t *table[O, T]) Delete(o any) error {
	object, ok := o.(O)
	if !ok {
		return fmt.Errorf("deletion of an object of type %T from %s", o, t.report.kind)
	}
	t.drop(&item[T]{key: objectKey(object), version: resourceVersion(object.GetResourceVersion())})
	t.report.forget(objectKey(object))
	t.progress()
	return nil
}

// take makes the Index hold what an event brought.
func (t *table[O, T]) take(i *item[T]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pass(i)
	t.show(i)
}

// drop takes away what an event says is gone.
func (t *table[O, T]) drop(i *item[T]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.passed, i.key)
	t.show(i)
}

// pass remembers an object that the Index does not hold, and only those. The
// caller holds mu.
func (t *table[O, T]) pass(i *item[T]) {
	if i.object != nil {
		delete(t.passed, i.key)
		return
	}
	if t.passed == nil {
		t.passed = make(map[index.ObjectKey]uint64)
	}
	t.passed[i.key] = i.version
}

// show brings the Index up to date with an event. The caller holds mu.
func (t *table[O, T]) show(i *item[T]) {
	t.told(i.version)
	if i.object != nil {
		t.set(i.object)
	} else {
		t.remove(i.key, i.version)
	}
	if t.braking != nil {
		t.braking.follow(i)
		t.reconsider()
	}
}

// told takes note of a version in a watch, which never goes back unless the API
// server does. The caller holds mu.
func (t *table[O, T]) told(version uint64) {
	if version != 0 && version < t.newest {
		t.rewound()
	}
	t.newest = max(t.newest, version)
}

// known are the versions of all objects that the source has told of, and the
// newest version that it has told.
func (t *table[O, T]) known() (versions map[index.ObjectKey]uint64, newest uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	versions = t.index.Versions(t.report.kind.Kind)
	maps.Copy(versions, t.passed)
	return versions, t.newest
}

// Replace is called with the items of a complete list.
func (t *table[O, T]) Replace(list []any, version string) error {
	items := make([]*item[T], len(list))
	for n, o := range list {
		i, ok := o.(*item[T])
		if !ok {
			return fmt.Errorf("item of type %T in a list of %s", o, t.report.kind)
		}
		items[n] = i
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.repaired()
	t.passed = nil
	for _, i := range items {
		t.pass(i)
	}
	if v := resourceVersion(version); v < t.newest {
		t.doubt()
	}
	t.newest = resourceVersion(version)
	if t.holdBack(items, resourceVersion(version)) {
		t.report.event()
		return nil
	}
	t.obey(items, resourceVersion(version))
	return nil
}

// obey makes the Index hold what a list says. The caller holds mu.
func (t *table[O, T]) obey(items []*item[T], version uint64) {
	objects := make([]*T, 0, len(items))
	for _, i := range items {
		if i.object != nil {
			objects = append(objects, i.object)
		}
	}
	t.letGo()
	t.replace(objects, version)
	t.report.listed()
}

// Bookmark is called when the API server says that all is still as it was. The
// resource version is of no object and says nothing about the zone's serial.
func (t *table[O, T]) Bookmark(version string) error {
	t.mu.Lock()
	t.told(resourceVersion(version))
	t.mu.Unlock()
	t.progress()
	return nil
}

func (t *table[O, T]) progress() {
	t.report.event()
	t.pace.progressed()
}

// Resync does nothing: no state of ours is derived from the time.
func (t *table[O, T]) Resync() error { return nil }
