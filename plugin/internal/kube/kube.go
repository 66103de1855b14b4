// Package kube keeps an index.Index equal to its source: a Kubernetes API
// server, or manifest files. It alone imports client-go. What arrives is turned
// into the few things that the DNS needs before anything keeps it.
package kube

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	clog "github.com/coredns/coredns/plugin/pkg/log"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

var log = clog.NewWithPlugin("kubezone")

// A Config says where objects come from and what is kept of them. The source is
// the first of these that is set: Manifests, Kubeconfig, Endpoint, and else the
// service account of the pod that this process runs in.
type Config struct {
	Manifests []string // files and folders

	Kubeconfig string // file
	Context    string // in Kubeconfig; "" is its current one

	Endpoint                  string // URL, or host and port
	CertFile, KeyFile, CAFile string // for Endpoint

	// QPS and Burst limit the requests to the API server: so many a second,
	// and so many at once after a pause. If both are 0 nothing is held back,
	// which is the right thing for the handful of requests that a start needs;
	// if one is 0 it is that of the other.
	QPS   float32
	Burst int
	// MaxInflight is how many requests may wait for their answer at a time; 0
	// is no limit. A watch counts until the API server has begun it.
	MaxInflight int

	Namespaces      []string     // the only ones shown, if not empty
	Denied          index.Denial // namespaces that are never shown
	NamespaceLabels string       // selector of the namespaces shown, "" for all
	Labels          string       // selector of the Services and pods shown, "" for all

	Slices bool // EndpointSlices are wanted
	// HeadlessOnly leaves out the EndpointSlices that are not labelled as those
	// of a headless Service. It needs an API server.
	HeadlessOnly bool
	Imports      bool // ServiceImports and their EndpointSlices are wanted
	Pods         bool // Pods are wanted

	// What is kept only because an option needs it.
	PodLabels     bool // index.Pod.Labels
	TopologyZones bool // index.Endpoint.TopologyZone
	PodNames      bool // a pod's name labels its endpoint that has no hostname
	External      bool // index.Service.External

	Snapshot Snapshot // not with Manifests

	// SelfCheck is about how often each kind is compared with what the API
	// server has; 0 for never.
	SelfCheck time.Duration
	NoBrake   bool // a list that takes most of a kind away is obeyed at once
}

// options say what the Index is to show.
func (c Config) options() index.Options {
	return index.Options{Namespaces: c.Namespaces, Denied: c.Denied, SelectNamespaces: c.NamespaceLabels != ""}
}

// kinds are the kinds of object that the Config asks for.
func (c Config) kinds() []kind {
	kinds := []kind{{Kind: index.Services}, {Kind: index.Namespaces}}
	if c.Slices {
		kinds = append(kinds, kind{Kind: index.EndpointSlices})
	}
	if c.Pods {
		kinds = append(kinds, kind{Kind: index.Pods})
	}
	if c.Imports {
		kinds = append(kinds, serviceImports)
	}
	if c.Imports && c.Slices {
		kinds = append(kinds, importedSlices)
	}
	return kinds
}

// selectors parses NamespaceLabels and Labels; each is nil where it is "".
func (c Config) selectors() (namespaceLabels, objectLabels labels.Selector, err error) {
	if namespaceLabels, err = selector(c.NamespaceLabels); err != nil {
		return nil, nil, fmt.Errorf("namespace_labels %q: %w", c.NamespaceLabels, err)
	}
	if objectLabels, err = selector(c.Labels); err != nil {
		return nil, nil, fmt.Errorf("labels %q: %w", c.Labels, err)
	}
	return namespaceLabels, objectLabels, nil
}

func selector(text string) (labels.Selector, error) {
	if text == "" {
		return nil, nil
	}
	return labels.Parse(text)
}

// A Store is an Index and what keeps it up to date. It is safe for concurrent
// use. Make one with Open.
type Store struct {
	identity identity
	index    *index.Index
	imports  *index.Index
	reports  []*report
	reach    *reachability // of the API server; nil where none is asked
	snapshot *snapshotFile // nil for none
	restored time.Time     // what the snapshot held is as of then; zero for none
	synced   chan struct{} // closed once Synced

	serviceCIDRs atomic.Pointer[[]netip.Prefix] // nil until known

	stop   context.CancelFunc
	work   sync.WaitGroup
	opened int // guarded by stores.mu
}

// stores are those that are open in this process.
var stores struct {
	mu   sync.Mutex // guards list, and opened of each
	list []*Store
}

// Open returns the Store for the Config. There is one per equal Config in a
// process: a second Open returns the same Store, with its watches running and
// its objects in place, so that server blocks share it and a reload finds it
// again. Every Open needs its Close.
//
// With an API server Open waits for nothing: the Index fills while it is used.
// With manifests they are read and held when Open returns. It fails only for
// what can never work, such as a kubeconfig that cannot be read, a context that
// is not in it, or a manifest that does not parse; never because the API server
// is away, nor because manifests that another Open read have an error in them
// since.
func Open(c Config) (*Store, error) {
	c.Namespaces = slices.Compact(slices.Sorted(slices.Values(c.Namespaces)))
	source, err := newSource(c)
	if err != nil {
		return nil, err
	}
	id := identity{config: c, credentials: source.credentials()}

	stores.mu.Lock()
	defer stores.mu.Unlock()
	if at := slices.IndexFunc(stores.list, func(s *Store) bool { return s.identity.equal(id) }); at >= 0 {
		stores.list[at].opened++
		return stores.list[at], nil
	}
	s := newStore(c)
	s.identity = id
	s.restore()
	ctx, stop := context.WithCancel(context.Background())
	if err := source.start(ctx, s); err != nil {
		stop()
		s.snapshot.release()
		return nil, err
	}
	s.stop = stop
	s.keepSnapshot(ctx)
	s.work.Go(func() { s.logStates(ctx) })
	s.opened = 1
	stores.list = append(stores.list, s)
	return s, nil
}

func newStore(c Config) *Store {
	s := &Store{
		index:   index.New(c.options()),
		imports: index.New(c.options()),
		synced:  make(chan struct{}),
	}
	wanted := c.kinds()
	left := &countdown{left: len(wanted), done: s.synced}
	for _, k := range wanted {
		s.reports = append(s.reports, newReport(k, left))
	}
	return s
}

// report is that of a kind that the Config asks for.
func (s *Store) report(k kind) *report {
	return s.reports[slices.IndexFunc(s.reports, func(r *report) bool { return r.kind == k })]
}

// Index is the state that the Store keeps. It may be read after Close, but does
// not change any more then.
func (s *Store) Index() *index.Index { return s.index }

// Imports is the same for what other clusters share (KEP-1645): its Services
// are ServiceImports, its namespaces those of Index.
func (s *Store) Imports() *index.Index { return s.imports }

// indexOf is the Index that holds the kind.
func (s *Store) indexOf(k kind) *index.Index {
	if k.imported {
		return s.imports
	}
	return s.index
}

// Close gives back what one Open returned. The last Close stops the watches and
// returns once all goroutines of the Store have ended; what the Index holds
// stays.
func (s *Store) Close() {
	stores.mu.Lock()
	if s.opened == 0 {
		stores.mu.Unlock()
		return
	}
	s.opened--
	last := s.opened == 0
	if last {
		stores.list = slices.DeleteFunc(stores.list, func(o *Store) bool { return o == s })
	}
	stores.mu.Unlock()
	if last {
		s.stop()
		s.work.Wait()
	}
}

// Synced tells whether all objects of every kind that the Config asks for are
// held, or have been at one time: it stays true when the source goes away. For
// ServiceImports it is enough that the API server answered, be it that there is
// no such API or that they may not be read.
func (s *Store) Synced() bool {
	select {
	case <-s.synced:
		return true
	default:
		return false
	}
}

// Complete tells whether an answer can be had to everything that the Config asks
// for: all objects of every kind are held, from the source or from a snapshot.
// For ServiceImports the same is enough as for Synced.
func (s *Store) Complete() bool {
	for _, r := range s.reports {
		if !s.indexOf(r.kind).Holds(r.kind.Kind) && !r.isSettled() {
			return false
		}
	}
	return true
}

// Stale tells whether what is held may be out of date: it is from a snapshot, or
// a kind is Stale.
func (s *Store) Stale() bool {
	if !s.Synced() || (s.reach != nil && s.reach.gone.Load()) {
		return true
	}
	for _, r := range s.reports {
		if r.braked.Load() || r.astray.Load() {
			return true
		}
	}
	return false
}

// WaitSynced returns once Synced is true, or with the error of ctx once that is
// done. It does not return early when the Store is closed.
func (s *Store) WaitSynced(ctx context.Context) error {
	select {
	case <-s.synced:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Status tells how each kind that the Config asks for is doing. It never waits
// for the source.
func (s *Store) Status() []KindStatus {
	var away error
	if s.reach != nil {
		away = s.reach.trouble()
	}
	list := make([]KindStatus, len(s.reports))
	for i, r := range s.reports {
		list[i] = r.status()
		list[i].Objects = s.indexOf(r.kind).Count(r.kind.Kind)
		list[i].State, list[i].AsOf = s.state(r)
		if list[i].LastError == "" && away != nil {
			list[i].LastError = away.Error()
		}
	}
	return list
}

// A KindStatus is the state of one kind of object.
type KindStatus struct {
	Kind      index.Kind
	Imported  bool // the kind is what Imports calls so: a ServiceImport is a Service there
	State     State
	AsOf      time.Time // when what is held was last known to be right; zero while not all is held
	Synced    bool      // all objects of the kind are held, or have been at one time
	LastEvent time.Time // of a list, an event or a bookmark, or when manifests were last taken over; zero before the first
	Relists   int       // complete lists or readings after the first
	Objects   int       // held now, hidden ones included

	// Braked tells that a list is held back, because it would take most of the
	// objects away.
	Braked bool

	// Drift counts the objects that a self-check found to differ, and repaired.
	Drift int

	// Skipped counts what was left out because it was not valid, an object or
	// a part of it. It counts once what stays as it is, and never falls.
	Skipped int
	// SkippedBy is Skipped by reason.
	SkippedBy map[string]int

	// Refused counts the edits of manifests that were not taken over because
	// of an error; every kind counts each.
	Refused int

	// LastError is what keeps the kind from being followed now, "" if nothing.
	LastError string
}

// Name is that of the kind, for logs and metrics. It tells what is imported from
// what is not.
func (st KindStatus) Name() string { return kind{st.Kind, st.Imported}.String() }
