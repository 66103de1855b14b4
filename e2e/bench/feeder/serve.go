package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// An api serves as much of the Kubernetes API as a reflector needs, in protobuf only: lists with pages, watches with
// bookmarks, and streamed lists.
type api struct {
	store *store

	mu       sync.Mutex // guards the rest
	pages    map[string]page
	nextPage int
	requests map[string]int // by verb and resource
}

// A page is the rest of a list that is fetched by pages: all of them are of one state.
type page struct {
	items   []*item
	version uint64
}

// maxPages bounds what half-fetched lists take; the rest of them is forgotten.
const maxPages = 16

func newAPI(s *store) *api {
	return &api{store: s, pages: map[string]page{}, requests: map[string]int{}}
}

// ServeHTTP implements http.Handler.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	res := a.store.resources[name]
	query := r.URL.Query()
	if res == nil || r.Method != http.MethodGet {
		fail(w, http.StatusNotFound, metav1.StatusReasonNotFound, "no such resource here: "+r.Method+" "+r.URL.Path)
		return
	}
	selector, err := labels.Parse(query.Get("labelSelector"))
	if err != nil {
		fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	verb := "list"
	if isTrue(query, "watch") {
		verb = "watch"
		if isTrue(query, "sendInitialEvents") {
			verb = "watchlist"
		}
	}
	a.mu.Lock()
	a.requests[verb+" "+name]++
	a.mu.Unlock()
	if verb == "list" {
		a.list(w, res, selector, query)
		return
	}
	a.watch(w, r, res, selector, query)
}

func isTrue(query url.Values, name string) bool {
	value, _ := strconv.ParseBool(query.Get(name))
	return value
}

func fail(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.Header().Set("Content-Type", runtime.ContentTypeJSON)
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(status(code, reason, message)) // a client that is gone does not matter
}

func status(code int, reason metav1.StatusReason, message string) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message,
	}
}

func (a *api) list(w http.ResponseWriter, r *resource, selector labels.Selector, query url.Values) {
	limit, _ := strconv.Atoi(query.Get("limit"))
	var p page
	if token := query.Get("continue"); token != "" {
		a.mu.Lock()
		p = a.pages[token]
		delete(a.pages, token)
		a.mu.Unlock()
		if p.version == 0 {
			fail(w, http.StatusGone, metav1.StatusReasonExpired, "the continue token is too old")
			return
		}
	} else {
		p.items, p.version = a.store.snapshot(r, selector)
	}
	items := p.items
	m := metav1.ListMeta{ResourceVersion: strconv.FormatUint(p.version, 10)}
	if limit > 0 && limit < len(items) {
		items = items[:limit]
		m.Continue = a.keep(page{p.items[limit:], p.version})
	}
	head := listHead(m)
	size := len(head)
	for _, i := range items {
		size += fieldSize(len(i.raw))
	}
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
	out := bufio.NewWriterSize(w, bufferSize)
	_, _ = out.Write(envelopeHead(r.apiVersion, r.kind+"List", size))
	_, _ = out.Write(head)
	var field []byte
	for _, i := range items {
		field = appendField(field[:0], 2, i.raw)
		_, _ = out.Write(field)
	}
	_ = out.Flush() // the error of every write before, which is the client's going away
}

// keep keeps the rest of a list and returns the token for it.
func (a *api) keep(p page) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.pages) >= maxPages {
		clear(a.pages)
	}
	a.nextPage++
	token := strconv.Itoa(a.nextPage)
	a.pages[token] = p
	return token
}

const (
	bufferSize    = 256 << 10 // octets written at a time
	bookmarkEvery = time.Minute
)

func (a *api) watch(w http.ResponseWriter, r *http.Request, res *resource, selector labels.Selector, query url.Values) {
	from, _ := strconv.ParseUint(query.Get("resourceVersion"), 10, 64)
	out := newStream(w, res)
	if isTrue(query, "sendInitialEvents") || from == 0 {
		var items []*item
		items, from = a.store.snapshot(res, selector)
		out.begin()
		for _, i := range items {
			out.write(frame("ADDED", envelope(res.apiVersion, res.kind, i.raw)))
		}
		if isTrue(query, "sendInitialEvents") {
			out.bookmark(from, map[string]string{metav1.InitialEventsAnnotationKey: "true"})
		}
		out.flush()
	}
	if _, _, _, err := a.store.since(res, from); err != nil && !out.begun {
		fail(w, http.StatusGone, metav1.StatusReasonExpired, err.Error())
		return
	}
	out.begin()
	out.flush()
	seconds, err := strconv.Atoi(query.Get("timeoutSeconds"))
	if err != nil {
		seconds = 3600
	}
	end := time.After(time.Duration(seconds) * time.Second)
	bookmarks := time.NewTicker(bookmarkEvery)
	defer bookmarks.Stop()
	for out.err == nil {
		events, now, more, err := a.store.since(res, from)
		if err != nil {
			out.expired(err)
			return
		}
		out.send(events, selector)
		from = now
		select {
		case <-more:
		case <-bookmarks.C:
			out.bookmark(from, nil)
			out.flush()
		case <-end:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// A stream writes the events of a watch. It remembers the first error and writes no more after it.
type stream struct {
	w        http.ResponseWriter
	out      *bufio.Writer
	resource *resource
	begun    bool
	err      error
}

func newStream(w http.ResponseWriter, r *resource) *stream {
	return &stream{w: w, out: bufio.NewWriterSize(w, bufferSize), resource: r}
}

// begin sends the status; before it an error may be sent instead.
func (s *stream) begin() {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", runtime.ContentTypeProtobuf+";stream=watch")
		s.w.WriteHeader(http.StatusOK)
	}
}

func (s *stream) write(frame []byte) {
	if s.err == nil {
		_, s.err = s.out.Write(frame)
	}
}

func (s *stream) flush() {
	if s.err == nil {
		s.err = s.out.Flush()
	}
	if s.err == nil {
		s.err = http.NewResponseController(s.w).Flush()
	}
}

// send sends the events that the selector picks; here no change makes an object selected or not.
func (s *stream) send(events []event, selector labels.Selector) {
	if len(events) == 0 {
		return
	}
	now := time.Now()
	for _, e := range events {
		if !s.resource.selects(selector, e.raw) {
			continue
		}
		s.write(e.frame)
		e.sent(now)
	}
	s.flush()
}

// bookmark sends an object that holds nothing but a version.
func (s *stream) bookmark(version uint64, annotations map[string]string) {
	m := metav1.ObjectMeta{ResourceVersion: strconv.FormatUint(version, 10), Annotations: annotations}
	raw, err := m.Marshal()
	if err != nil {
		panic(err) // it holds strings
	}
	// Every kind here has its metadata in field 1.
	s.write(frame("BOOKMARK", envelope(s.resource.apiVersion, s.resource.kind, appendField(nil, 1, raw))))
}

// expired ends a watch that has fallen behind.
func (s *stream) expired(err error) {
	raw, encodeErr := status(http.StatusGone, metav1.StatusReasonExpired, err.Error()).Marshal()
	if encodeErr != nil {
		panic(fmt.Errorf("status: %w", encodeErr)) // it holds strings and a number
	}
	s.write(frame("ERROR", envelope("v1", "Status", raw)))
	s.flush()
}
