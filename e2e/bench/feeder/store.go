package main

import (
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kubezone/kubezone/e2e/bench/population"
)

// logLimit is how many events of a resource a watch can be resumed behind; an API server keeps about as many.
const logLimit = 20_000

// A store holds the objects of a population, encoded, and what happened to them. It is safe for concurrent use.
type store struct {
	population *population.Population
	resources  map[string]*resource

	mu      sync.Mutex // guards the rest, and what is in each resource
	version uint64     // the resource version of the newest change
	changed chan struct{}
	addrs   []netip.Addr // of every endpoint, as it is now
	changes int          // made by changeSlice so far
}

// A resource is the objects of one kind.
type resource struct {
	apiVersion, kind string
	items            []*item // guarded by store.mu, as is the rest; a changed list is a new one
	log              []event // newest last
	oldest           uint64  // a watch from before it cannot be resumed
	make             func(i int) object
	decode           func(raw []byte) metav1.Object
}

// An item is an object at one resource version. It never changes.
type item struct {
	version uint64
	raw     []byte
}

// An event is a change of one object.
type event struct {
	version uint64
	frame   []byte
	raw     []byte
	sent    func(time.Time) // is told when a watch sends it
}

func newStore(p *population.Population, pods bool) *store {
	s := &store{population: p, version: 1000, changed: make(chan struct{}), addrs: make([]netip.Addr, p.Pods)}
	for i := range s.addrs {
		s.addrs[i] = population.Addr(i)
	}
	names := p.Namespaces()
	s.resources = map[string]*resource{
		"services": {
			apiVersion: "v1", kind: "Service", items: make([]*item, len(p.Services)),
			make:   func(i int) object { return p.ServiceObject(i) },
			decode: decoder[corev1.Service],
		},
		"endpointslices": {
			apiVersion: "discovery.k8s.io/v1", kind: "EndpointSlice", items: make([]*item, len(p.Slices)),
			make:   func(i int) object { return p.SliceObject(i, s.addr) },
			decode: decoder[discoveryv1.EndpointSlice],
		},
		"namespaces": {
			apiVersion: "v1", kind: "Namespace", items: make([]*item, len(names)),
			make:   func(i int) object { return population.NamespaceObject(names[i]) },
			decode: decoder[corev1.Namespace],
		},
		"pods": {
			apiVersion: "v1", kind: "Pod",
			decode: decoder[corev1.Pod],
		},
	}
	if pods {
		services := make([]int, 0, p.Pods) // of every endpoint
		for i := range p.Services {
			for range p.Services[i].Count {
				services = append(services, i)
			}
		}
		s.resources["pods"].items = make([]*item, p.Pods)
		s.resources["pods"].make = func(i int) object { return p.PodObject(i, services[i]) }
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.resources {
		s.encodeAll(r)
	}
	return s
}

func decoder[T any, O interface {
	*T
	metav1.Object
	Unmarshal([]byte) error
}](raw []byte) metav1.Object {
	o := O(new(T))
	if err := o.Unmarshal(raw); err != nil {
		panic(err) // we encoded it
	}
	return o
}

func (s *store) addr(endpoint int) netip.Addr { return s.addrs[endpoint] }

// encodeAll gives every object of the resource a new resource version.
func (s *store) encodeAll(r *resource) {
	first := s.version + 1
	s.version += uint64(len(r.items))
	items := make([]*item, len(r.items))
	var running sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		running.Go(func() {
			for i := w; i < len(items); i += workers {
				version := first + uint64(i)
				items[i] = &item{version, encode(r.make(i), strconv.FormatUint(version, 10))}
			}
		})
	}
	running.Wait()
	r.items = items
}

// restart makes every watch impossible to resume, as an API server does that has lost its history. If rewrite is set
// every object has a new resource version afterwards.
func (s *store) restart(rewrite bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.resources {
		if rewrite {
			s.encodeAll(r)
		}
		r.log = nil
	}
	s.version += 1000
	for _, r := range s.resources {
		r.oldest = s.version
	}
}

// changeSlice gives one endpoint of a slice a new address and, as the EndpointSlice controller does, notes the time in an
// annotation. It tells sent of the address when a watch sends the change.
func (s *store) changeSlice(slice, endpoint int, sent func(netip.Addr, time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	addr := population.ChangedAddr(s.changes)
	s.addrs[endpoint] = addr
	s.version++
	o := s.population.SliceObject(slice, s.addr)
	o.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: time.Now().UTC().Format(time.RFC3339Nano)}
	raw := encode(o, strconv.FormatUint(s.version, 10))
	r := s.resources["endpointslices"]
	// In place: who lists or watches took a copy.
	r.items[slice] = &item{s.version, raw}
	if len(r.log) >= 2*logLimit {
		r.log = append([]event(nil), r.log[logLimit:]...)
		r.oldest = r.log[0].version - 1
	}
	told := func(at time.Time) { sent(addr, at) }
	r.log = append(r.log, event{s.version, frame("MODIFIED", envelope(r.apiVersion, r.kind, raw)), raw, told})
	close(s.changed)
	s.changed = make(chan struct{})
}

// snapshot is all objects of the resource that the selector picks, at the resource version returned.
func (s *store) snapshot(r *resource, selector labels.Selector) ([]*item, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := make([]*item, 0, len(r.items))
	for _, i := range r.items {
		if r.selects(selector, i.raw) {
			items = append(items, i)
		}
	}
	return items, s.version
}

func (r *resource) selects(selector labels.Selector, raw []byte) bool {
	return selector.Empty() || selector.Matches(labels.Set(r.decode(raw).GetLabels()))
}

// since is what happened to the resource after the version, and a channel that is closed when more does. It is an error
// if that is forgotten.
func (s *store) since(r *resource, version uint64) (events []event, now uint64, more <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if version < r.oldest {
		return nil, 0, nil, fmt.Errorf("too old resource version: %d (%d)", version, r.oldest)
	}
	from := len(r.log)
	for from > 0 && r.log[from-1].version > version {
		from--
	}
	return r.log[from:len(r.log):len(r.log)], s.version, s.changed, nil
}
