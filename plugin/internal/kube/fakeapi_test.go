package kube

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

// An apiServer speaks as much of the Kubernetes API over TLS and HTTP/2 as a
// reflector needs: lists with pages, watches with bookmarks, and streamed lists.
type apiServer struct {
	*httptest.Server
	media     string // that it answers with
	streaming bool   // whether it knows streamed lists
	pageLimit int    // at most so many objects in a page; 0 for as many as asked for

	mu       sync.Mutex // guards the rest
	version  uint64
	oldest   uint64 // watches from before it are gone
	objects  map[string]map[string]runtime.Object
	events   map[string][]apiEvent
	changed  chan struct{}                                   // closed at the next event
	cut      chan struct{}                                   // closed when watches are cut
	refuse   map[string]func(r *http.Request) *metav1.Status // by resource
	requests []request
	imports  []string // the versions of ServiceImports, the preferred first
	cidrs    []string // those of one ServiceCIDR; nil where there is no such API
}

type apiEvent struct {
	version uint64
	event   watch.Event
}

// A request is one that the server got.
type request struct {
	resource string
	query    url.Values
	at       time.Time
	path     string
}

func (r request) isWatch() bool { return r.query.Get("watch") != "" }

// newAPIServer starts a server that holds the objects of the YAML text.
func newAPIServer(t *testing.T, objects string) *apiServer {
	t.Helper()
	a := &apiServer{
		media:     runtime.ContentTypeProtobuf,
		streaming: true,
		objects:   map[string]map[string]runtime.Object{},
		events:    map[string][]apiEvent{},
		changed:   make(chan struct{}),
		cut:       make(chan struct{}),
		refuse:    map[string]func(*http.Request) *metav1.Status{},
		version:   100,
	}
	a.apply(t, objects)
	a.Server = httptest.NewUnstartedServer(a)
	a.EnableHTTP2 = true
	a.Config.ErrorLog = nil
	a.StartTLS()
	t.Cleanup(func() {
		a.cutWatches()
		a.Server.Close()
	})
	return a
}

// config is that of a Store which follows the server.
func (a *apiServer) config(t *testing.T) Config {
	t.Helper()
	return Config{Kubeconfig: writeKubeconfig(t, a.URL, a.certificate(t), "token: secret"), Slices: true, Pods: true}
}

func (a *apiServer) certificate(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.crt")
	writeFile(t, file, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw})))
	return file
}

func writeKubeconfig(t *testing.T, server, ca, user string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	writeFile(t, file, fmt.Sprintf(`
apiVersion: v1
kind: Config
current-context: test
contexts: [{name: test, context: {cluster: test, user: test}}]
clusters: [{name: test, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: test, user: {%s}}]
`, server, ca, user))
	return file
}

func writeFile(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// decode reads objects from YAML text.
func decode(t *testing.T, text string) []runtime.Object {
	t.Helper()
	documents, err := yamlDocuments("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var list []runtime.Object
	for _, d := range documents {
		o, _, err := codecs().UniversalDeserializer().Decode(d.json, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, o)
	}
	return list
}

func resourceOf(o runtime.Object) string {
	switch o.(type) {
	case *corev1.Service:
		return "services"
	case *corev1.Pod:
		return "pods"
	case *corev1.Namespace:
		return "namespaces"
	case *discoveryv1.EndpointSlice:
		return "endpointslices"
	case *mcs.ServiceImport:
		return "serviceimports"
	}
	panic(fmt.Sprintf("%T", o))
}

func nameOf(o runtime.Object) string {
	m, _ := meta.Accessor(o)
	return m.GetNamespace() + "/" + m.GetName()
}

// apply adds or changes the objects of the YAML text.
func (a *apiServer) apply(t *testing.T, text string) {
	t.Helper()
	for _, o := range decode(t, text) {
		a.put(o)
	}
}

func (a *apiServer) put(o runtime.Object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	resource := resourceOf(o)
	if a.objects[resource] == nil {
		a.objects[resource] = map[string]runtime.Object{}
	}
	kind := watch.Added
	if a.objects[resource][nameOf(o)] != nil {
		kind = watch.Modified
	}
	o = o.DeepCopyObject()
	a.record(kind, o)
	a.objects[resource][nameOf(o)] = o
}

// remove deletes the object, whose event then carries a version of its own.
func (a *apiServer) remove(resource, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o := a.objects[resource][name].DeepCopyObject()
	delete(a.objects[resource], name)
	a.record(watch.Deleted, o)
}

func (a *apiServer) record(kind watch.EventType, o runtime.Object) {
	a.version++
	m, _ := meta.Accessor(o)
	m.SetResourceVersion(strconv.FormatUint(a.version, 10))
	resource := resourceOf(o)
	a.events[resource] = append(a.events[resource], apiEvent{a.version, watch.Event{Type: kind, Object: o}})
	close(a.changed)
	a.changed = make(chan struct{})
}

// restore makes the server that of an earlier moment, as when etcd is restored
// from a copy, and cuts the watches.
func (a *apiServer) restore(version uint64, objects map[string]map[string]runtime.Object) {
	a.mu.Lock()
	a.version, a.objects, a.events = version, objects, map[string][]apiEvent{}
	a.mu.Unlock()
	a.cutWatches()
}

// moment is what restore takes.
func (a *apiServer) moment() (uint64, map[string]map[string]runtime.Object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	objects := make(map[string]map[string]runtime.Object)
	for resource, byName := range a.objects {
		objects[resource] = maps.Clone(byName)
	}
	return a.version, objects
}

// compact makes every watch from before now impossible to resume.
func (a *apiServer) compact() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.oldest = a.version
	a.events = map[string][]apiEvent{}
}

// cutWatches breaks the watches that are running.
func (a *apiServer) cutWatches() {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.cut)
	a.cut = make(chan struct{})
}

// refuseAll answers requests for the resource with the status; nil ends that.
func (a *apiServer) refuseAll(resource string, status *metav1.Status) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if status == nil {
		delete(a.refuse, resource)
		return
	}
	a.refuse[resource] = func(*http.Request) *metav1.Status { return status }
}

// asked are the requests for a resource so far.
func (a *apiServer) asked(resource string) []request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(a.requests), func(r request) bool { return r.resource != resource })
}

func status(code int32, reason metav1.StatusReason, message string) *metav1.Status {
	return &metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}
}

// ServeHTTP implements http.Handler.
func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resource := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	query := r.URL.Query()
	a.mu.Lock()
	a.requests = append(a.requests, request{resource, query, time.Now(), r.URL.Path})
	refuse := a.refuse[resource]
	a.mu.Unlock()
	if refuse != nil {
		if st := refuse(r); st != nil {
			a.fail(w, st)
			return
		}
	}
	switch {
	case resource == mcs.GroupName:
		a.importGroup(w)
	case resource == "serviceimports" && !a.servesImports(r.URL.Path):
		a.fail(w, noImports)
	case resource == "servicecidrs":
		a.listCIDRs(w)
	case query.Get("watch") == "":
		a.list(w, resource, query, r.Header.Get("Accept"))
	case query.Get("sendInitialEvents") != "" && !a.streaming:
		a.fail(w, status(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "sendInitialEvents is forbidden"))
	default:
		a.watch(w, r, resource, query)
	}
}

func (a *apiServer) fail(w http.ResponseWriter, st *metav1.Status) {
	w.Header().Set("Content-Type", runtime.ContentTypeJSON)
	if st.Details != nil && st.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(st.Details.RetryAfterSeconds)))
	}
	typed := st.DeepCopy() // as several requests may share it
	typed.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	w.WriteHeader(int(st.Code))
	_ = a.serializer(runtime.ContentTypeJSON).Serializer.Encode(typed, w)
}

// mediaOf is JSON for a custom resource, whatever else is spoken.
func (a *apiServer) mediaOf(resource string) string {
	if resource == "serviceimports" {
		return runtime.ContentTypeJSON
	}
	return a.media
}

// install makes the API server serve ServiceImports in these versions; with none
// it does not know the group.
func (a *apiServer) install(versions ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.imports = versions
}

func (a *apiServer) servesImports(path string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Contains(a.imports, strings.Split(path, "/")[3]) // /apis/GROUP/VERSION/serviceimports
}

var noImports = status(http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")

// importGroup tells the versions of ServiceImports.
func (a *apiServer) importGroup(w http.ResponseWriter) {
	a.mu.Lock()
	versions := a.imports
	a.mu.Unlock()
	if len(versions) == 0 {
		a.fail(w, noImports)
		return
	}
	group := &metav1.APIGroup{TypeMeta: typeMeta("v1", "APIGroup"), Name: mcs.GroupName}
	for _, v := range versions {
		group.Versions = append(group.Versions, metav1.GroupVersionForDiscovery{GroupVersion: mcs.GroupName + "/" + v, Version: v})
	}
	w.Header().Set("Content-Type", runtime.ContentTypeJSON)
	if err := a.serializer(runtime.ContentTypeJSON).Serializer.Encode(group, w); err != nil {
		panic(err)
	}
}

// listCIDRs tells the ServiceCIDRs, as JSON.
func (a *apiServer) listCIDRs(w http.ResponseWriter) {
	a.mu.Lock()
	cidrs := a.cidrs
	a.mu.Unlock()
	if cidrs == nil {
		a.fail(w, noImports)
		return
	}
	w.Header().Set("Content-Type", runtime.ContentTypeJSON)
	fmt.Fprintf(w, `{"kind": "ServiceCIDRList", "apiVersion": "networking.k8s.io/v1", "items": [{"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["%s"]}}]}`,
		strings.Join(cidrs, `", "`))
}

func (a *apiServer) serializer(media string) runtime.SerializerInfo {
	info, ok := runtime.SerializerInfoForMediaType(codecs().SupportedMediaTypes(), media)
	if !ok {
		panic(media)
	}
	return info
}

// selected are the objects that the selectors of a request pick, by name.
func (a *apiServer) selected(resource string, query url.Values) []runtime.Object {
	var list []runtime.Object
	for _, name := range slices.Sorted(maps.Keys(a.objects[resource])) {
		if o := a.objects[resource][name]; selects(query, o) {
			list = append(list, o)
		}
	}
	return list
}

func selects(query url.Values, o runtime.Object) bool {
	selector, err := labels.Parse(query.Get("labelSelector"))
	if err != nil {
		panic(err)
	}
	m, _ := meta.Accessor(o)
	if pod, ok := o.(*corev1.Pod); ok && query.Get("fieldSelector") == notEnded {
		switch pod.Status.Phase {
		case corev1.PodSucceeded, corev1.PodFailed, corev1.PodUnknown:
			return false
		}
	}
	return selector.Matches(labels.Set(m.GetLabels()))
}

func (a *apiServer) list(w http.ResponseWriter, resource string, query url.Values, accept string) {
	a.mu.Lock()
	all := a.selected(resource, query)
	version := a.version
	a.mu.Unlock()
	from, _ := strconv.Atoi(query.Get("continue"))
	limit, _ := strconv.Atoi(query.Get("limit"))
	if limit == 0 {
		limit = len(all)
	}
	if a.pageLimit > 0 {
		limit = min(limit, a.pageLimit)
	}
	to := min(from+limit, len(all))
	m := metav1.ListMeta{ResourceVersion: strconv.FormatUint(version, 10)}
	if to < len(all) {
		m.Continue = strconv.Itoa(to)
	}
	info := a.serializer(a.mediaOf(resource))
	w.Header().Set("Content-Type", info.MediaType)
	list := listOf(resource, m, all[from:to])
	if strings.Contains(accept, "as=PartialObjectMetadataList") {
		list = metadataOf(m, all[from:to])
	}
	if err := info.Serializer.Encode(list, w); err != nil {
		panic(err)
	}
}

func listOf(resource string, m metav1.ListMeta, objects []runtime.Object) runtime.Object {
	lists := map[string]runtime.Object{
		"services":       &corev1.ServiceList{TypeMeta: typeMeta("v1", "ServiceList"), ListMeta: m},
		"pods":           &corev1.PodList{TypeMeta: typeMeta("v1", "PodList"), ListMeta: m},
		"namespaces":     &corev1.NamespaceList{TypeMeta: typeMeta("v1", "NamespaceList"), ListMeta: m},
		"endpointslices": &discoveryv1.EndpointSliceList{TypeMeta: typeMeta("discovery.k8s.io/v1", "EndpointSliceList"), ListMeta: m},
		"serviceimports": &mcs.ServiceImportList{TypeMeta: typeMeta("multicluster.x-k8s.io/v1beta1", "ServiceImportList"), ListMeta: m},
	}
	list := lists[resource]
	if err := meta.SetList(list, objects); err != nil {
		panic(err)
	}
	return list
}

// metadataOf is a list that holds nothing but metadata.
func metadataOf(m metav1.ListMeta, objects []runtime.Object) runtime.Object {
	list := &metav1.PartialObjectMetadataList{TypeMeta: typeMeta("meta.k8s.io/v1", "PartialObjectMetadataList"), ListMeta: m}
	for _, o := range objects {
		object, _ := meta.Accessor(o)
		list.Items = append(list.Items, metav1.PartialObjectMetadata{
			TypeMeta: typeMeta("meta.k8s.io/v1", "PartialObjectMetadata"),
			ObjectMeta: metav1.ObjectMeta{
				Namespace: object.GetNamespace(), Name: object.GetName(), ResourceVersion: object.GetResourceVersion(), Labels: object.GetLabels(),
			},
		})
	}
	return list
}

func typeMeta(version, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: version, Kind: kind}
}

func (a *apiServer) watch(w http.ResponseWriter, r *http.Request, resource string, query url.Values) {
	a.mu.Lock()
	cut := a.cut
	from, _ := strconv.ParseUint(query.Get("resourceVersion"), 10, 64)
	initial := query.Get("sendInitialEvents") == "true"
	if !initial && from < a.oldest {
		a.mu.Unlock()
		a.fail(w, status(http.StatusGone, metav1.StatusReasonExpired, "too old resource version"))
		return
	}
	var first []watch.Event
	if initial {
		for _, o := range a.selected(resource, query) {
			first = append(first, watch.Event{Type: watch.Added, Object: o})
		}
		from = a.version
		first = append(first, watch.Event{Type: watch.Bookmark, Object: bookmark(resource, from)})
	}
	a.mu.Unlock()

	w.Header().Set("Content-Type", a.mediaOf(resource)+";stream=watch")
	w.WriteHeader(http.StatusOK)
	stream := a.newStream(w, a.mediaOf(resource))
	for _, e := range first {
		stream.send(e)
	}
	for {
		a.mu.Lock()
		changed := a.changed
		var next []watch.Event
		for _, e := range a.events[resource] {
			if e.version > from && selects(query, e.event.Object) {
				next = append(next, e.event)
			}
		}
		from = a.version
		a.mu.Unlock()
		for _, e := range next {
			stream.send(e)
		}
		select {
		case <-changed:
		case <-cut:
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
			return
		}
	}
}

// bookmark is an object that holds nothing but a version.
func bookmark(resource string, version uint64) runtime.Object {
	m := metav1.ObjectMeta{
		ResourceVersion: strconv.FormatUint(version, 10),
		Annotations:     map[string]string{metav1.InitialEventsAnnotationKey: "true"},
	}
	return map[string]runtime.Object{
		"services":       &corev1.Service{TypeMeta: typeMeta("v1", "Service"), ObjectMeta: m},
		"pods":           &corev1.Pod{TypeMeta: typeMeta("v1", "Pod"), ObjectMeta: m},
		"namespaces":     &corev1.Namespace{TypeMeta: typeMeta("v1", "Namespace"), ObjectMeta: m},
		"endpointslices": &discoveryv1.EndpointSlice{TypeMeta: typeMeta("discovery.k8s.io/v1", "EndpointSlice"), ObjectMeta: m},
		"serviceimports": &mcs.ServiceImport{TypeMeta: typeMeta("multicluster.x-k8s.io/v1beta1", "ServiceImport"), ObjectMeta: m},
	}[resource]
}

// A stream writes the events of a watch.
type stream struct {
	info   runtime.SerializerInfo
	frames interface{ Write([]byte) (int, error) }
	flush  http.Flusher
}

func (a *apiServer) newStream(w http.ResponseWriter, media string) *stream {
	info := a.serializer(media)
	s := &stream{info: info, frames: info.StreamSerializer.Framer.NewFrameWriter(w), flush: w.(http.Flusher)}
	s.flush.Flush()
	return s
}

func (s *stream) send(e watch.Event) {
	var object, event bytes.Buffer
	if err := s.info.Serializer.Encode(e.Object, &object); err != nil {
		panic(err)
	}
	out := &metav1.WatchEvent{Type: string(e.Type), Object: runtime.RawExtension{Raw: object.Bytes()}}
	if err := s.info.StreamSerializer.Encode(out, &event); err != nil {
		panic(err)
	}
	if _, err := s.frames.Write(event.Bytes()); err != nil {
		return // the client is gone
	}
	s.flush.Flush()
}

// open opens a Store and closes it at the end of the test.
func open(t *testing.T, c Config) *Store {
	t.Helper()
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// openSynced opens a Store and waits until it holds everything.
func openSynced(t *testing.T, c Config) *Store {
	t.Helper()
	s := open(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.WaitSynced(ctx); err != nil {
		t.Fatalf("not synced: %v: %+v", err, s.Status())
	}
	return s
}

// patience is for what takes milliseconds on a machine that is not busy.
const patience = 20 * time.Second

// eventually waits for what comes over a network or from a file system.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

// A logCapture holds what was logged since it was made.
type logCapture struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *logCapture) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// count is the number of lines that hold the text.
func (l *logCapture) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}
