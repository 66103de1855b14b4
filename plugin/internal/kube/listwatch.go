package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

var errBroken = errors.New("connection broken")

// A listWatch makes the requests of a reflector for one kind. It repeats those
// that fail by itself, so that the reflector, which would begin with a new list,
// goes on where it was however long the API server is away. It returns only the
// errors that a reflector can do something about.
type listWatch struct {
	kind      kind
	index     *index.Index
	noBrake   bool
	optional  bool   // the API server may lack the resource: the feed is told then
	group     string // of the API, for messages
	selectors metav1.ListOptions
	pageSize  int64
	newList   func() runtime.Object
	slim      func(runtime.Object) runtime.Object
	report    *report
	pace      *pace
	reach     *reachability

	mu     sync.Mutex // guards client
	client rest.Interface

	listing sync.Mutex // held while a list is made, as a reflector that is stopped does not wait for it
}

// rest is what makes requests.
func (l *listWatch) rest() rest.Interface {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.client
}

// use makes requests by the client from now on.
func (l *listWatch) use(client rest.Interface) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.client = client
}

// An itemList is a list of items; a reflector finds them by the field's name.
type itemList struct {
	metav1.TypeMeta
	metav1.ListMeta
	Items []runtime.Object
}

// DeepCopyObject returns the list itself: it never changes.
func (l *itemList) DeepCopyObject() runtime.Object { return l }

// ListWithContext lists by pages, each of which is made slim before the next is
// asked for. The list is one state of the cluster, the newest: a cached one
// would come in one piece.
func (l *listWatch) ListWithContext(ctx context.Context, _ metav1.ListOptions) (runtime.Object, error) {
	l.listing.Lock()
	defer l.listing.Unlock()
	for {
		if err := l.pace.wait(ctx); err != nil {
			return nil, err
		}
		list, err := l.list(ctx)
		if err == nil {
			l.wellAgain()
			l.pace.served()
			l.pace.proceed() // to the watch
			return list, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		l.pace.failed(err)
		if l.gone(err) {
			return nil, err
		}
		l.failed("list", err)
	}
}

// List is for the interface; a reflector does not call it.
func (l *listWatch) List(options metav1.ListOptions) (runtime.Object, error) {
	return l.ListWithContext(context.Background(), options)
}

func (l *listWatch) list(ctx context.Context) (*itemList, error) {
	all := &itemList{}
	options := l.selectors
	options.Limit = l.pageSize
	for {
		page := l.newList()
		err := l.rest().Get().Resource(l.kind.resource()).VersionedParams(&options, metav1.ParameterCodec).
			MaxRetries(0).Do(ctx).Into(page)
		if err != nil {
			return nil, err
		}
		if err := meta.EachListItem(page, func(o runtime.Object) error {
			all.Items = append(all.Items, l.slim(o))
			return nil
		}); err != nil {
			return nil, err
		}
		m, err := meta.ListAccessor(page)
		if err != nil {
			return nil, err
		}
		if options.Continue = m.GetContinue(); options.Continue == "" {
			all.ResourceVersion = m.GetResourceVersion()
			return all, nil
		}
	}
}

// WatchWithContext begins a watch.
func (l *listWatch) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	options.Watch = true
	options.LabelSelector, options.FieldSelector = l.selectors.LabelSelector, l.selectors.FieldSelector
	for {
		if err := l.pace.wait(ctx); err != nil {
			return nil, err
		}
		w, err := l.watch(ctx, options)
		if err == nil {
			l.wellAgain()
			l.pace.served()
			return w, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		l.pace.failed(err)
		switch {
		case l.gone(err):
			return nil, err
		case noStreaming(err, options):
			l.pace.proceed() // to the list
			return nil, err
		case forReflector(err):
			l.report.troubled(err.Error())
			return nil, err
		}
		l.failed("watch", err)
	}
}

// Watch is for the interface; a reflector does not call it.
func (l *listWatch) Watch(options metav1.ListOptions) (watch.Interface, error) {
	return l.WatchWithContext(context.Background(), options)
}

// overtime is how much longer a watch may last than the API server was asked to
// keep it up. One that is still there then is not heard of again.
const overtime = 30 * time.Second

func (l *listWatch) watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(deref(options.TimeoutSeconds))*time.Second+overtime)
	w, err := l.rest().Get().Resource(l.kind.resource()).VersionedParams(&options, metav1.ParameterCodec).
		MaxRetries(0).Watch(ctx)
	if err == nil {
		// client-go makes an empty watch of a connection that broke.
		if _, ok := w.(*watch.StreamWatcher); !ok {
			err = cmp.Or(l.reach.trouble(), errBroken)
		}
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return &cancelWatch{w, cancel}, nil
}

// A cancelWatch ends its request when it is stopped.
type cancelWatch struct {
	watch.Interface
	cancel context.CancelFunc
}

func (w *cancelWatch) Stop() {
	w.cancel()
	w.Interface.Stop()
}

// noStreaming tells whether the API server does not stream lists. A reflector
// asks for an ordinary one then.
func noStreaming(err error, options metav1.ListOptions) bool {
	return options.SendInitialEvents != nil && (apierrors.IsInvalid(err) || apierrors.IsBadRequest(err))
}

// forReflector tells whether a reflector answers the error with something other
// than the same request: a list, or one of the newest state.
func forReflector(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) ||
		apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}

// gone tells whether the API server lacks a resource that it may lack, and makes
// the trouble known to those who ask for it.
func (l *listWatch) gone(err error) bool {
	if !l.optional || !apierrors.IsNotFound(err) {
		return false
	}
	l.report.troubled(err.Error())
	return true
}

// failed makes the trouble known.
func (l *listWatch) failed(verb string, err error) {
	var status apierrors.APIStatus
	// Unless told otherwise it was never sent, as for want of a token.
	class, text := "request", fmt.Sprintf("cannot %s resource %q: %v", verb, l.kind.resource(), err)
	switch {
	case errors.As(err, &status):
		if l.optional {
			l.report.answered()
		}
		code := int(status.Status().Code)
		class, text = strconv.Itoa(code), l.explain(verb, code, status.Status().Message)
	case l.reach.trouble() != nil:
		// Nobody answers, of which reachability tells once for all kinds.
		l.report.troubled(text)
		return
	}
	if l.report.failed(class, text) {
		log.Warningf("Following %s: %s", l.kind, text)
	}
}

func (l *listWatch) explain(verb string, code int, message string) string {
	switch code {
	case http.StatusForbidden:
		return fmt.Sprintf("cannot %s resource %q in API group %q: add list and watch on %[2]s to the ClusterRole (%s)",
			verb, l.kind.resource(), l.group, message)
	case http.StatusUnauthorized:
		return fmt.Sprintf("cannot %s resource %q: the API server does not accept our credentials; they are read again (%s)",
			verb, l.kind.resource(), message)
	case http.StatusNotFound:
		return fmt.Sprintf("cannot %s resource %q: the API server has no such resource in API group %q (%s)",
			verb, l.kind.resource(), l.group, message)
	}
	return fmt.Sprintf("cannot %s resource %q: status %d (%s)", verb, l.kind.resource(), code, message)
}

func (l *listWatch) wellAgain() {
	if l.report.ended() {
		log.Infof("Following %s again", l.kind)
	}
}
