package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

// An objectSet is what a set of manifests holds. Unlike an API server, which
// checked its objects long ago, a manifest with a fault in it is an error.
type objectSet struct {
	config          Config
	converter       converter
	namespaceLabels labels.Selector // nil for all
	places          map[objectName]place
	labelsOf        map[string]labels.Set // of the namespaces, those without an object too

	services []*index.Service
	slices   []*index.Slice
	pods     []*index.Pod

	imports        []*index.Service
	importedSlices []*index.Slice
}

// An objectName tells objects apart.
type objectName struct {
	kind string
	key  index.ObjectKey
}

func (n objectName) String() string { return n.kind + " " + keyText(n.key) }

func newObjectSet(c Config) *objectSet {
	namespaces, objects, _ := c.selectors() // newSource saw that they parse
	return &objectSet{
		config:          c,
		converter:       converter{config: c, labels: objects},
		namespaceLabels: namespaces,
		places:          map[objectName]place{},
		labelsOf:        map[string]labels.Set{},
	}
}

// len is the number of objects, those that no record is made of included.
func (s *objectSet) len() int { return len(s.places) }

// addFile adds the objects of a file. Its error begins with file and line.
func (s *objectSet) addFile(file string, content []byte) error {
	split := yamlDocuments
	if filepath.Ext(file) == ".json" {
		split = jsonDocuments
	}
	documents, err := split(file, content)
	if err != nil {
		return err
	}
	for _, d := range documents {
		var t metav1.TypeMeta
		if err := json.Unmarshal(d.json, &t); err != nil {
			return d.place.errorf("want an object: %w", err)
		}
		if err := s.add(d.place, t, d.json); err != nil {
			return d.place.errorf("%w", err)
		}
	}
	return nil
}

var (
	serviceType   = metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}
	podType       = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	namespaceType = metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}
	sliceType     = metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"}
	listType      = metav1.TypeMeta{APIVersion: "v1", Kind: "List"}
	importType    = metav1.TypeMeta{APIVersion: "multicluster.x-k8s.io/v1beta1", Kind: "ServiceImport"}
	oldImportType = metav1.TypeMeta{APIVersion: "multicluster.x-k8s.io/v1alpha1", Kind: "ServiceImport"}
)

// add adds an object, or those of a list. Objects of other types are passed
// over.
func (s *objectSet) add(at place, t metav1.TypeMeta, raw []byte) error {
	switch t {
	case serviceType:
		return addObject(s, at, t, raw, s.addService)
	case sliceType:
		return addObject(s, at, t, raw, s.addSlice)
	case podType:
		return addObject(s, at, t, raw, s.addPod)
	case namespaceType:
		return addObject(s, at, t, raw, s.addNamespace)
	case importType, oldImportType:
		return addObject(s, at, t, raw, s.addImport)
	case listType:
		return s.addList(at, metav1.TypeMeta{}, raw)
	}
	if t.Kind == "" || t.APIVersion == "" {
		return errors.New("want apiVersion and kind")
	}
	item := metav1.TypeMeta{APIVersion: t.APIVersion, Kind: strings.TrimSuffix(t.Kind, "List")}
	switch item {
	case serviceType, sliceType, podType, namespaceType, importType, oldImportType:
		return s.addList(at, item, raw)
	}
	return nil
}

// addList adds the items, which are of the type given if they do not say so
// themselves.
func (s *objectSet) addList(at place, t metav1.TypeMeta, raw []byte) error {
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	for i, raw := range list.Items {
		own := t
		if err := json.Unmarshal(raw, &own); err != nil {
			return fmt.Errorf("items[%d]: %w", i, err)
		}
		if err := s.add(at, own, raw); err != nil {
			return fmt.Errorf("items[%d]: %w", i, err)
		}
	}
	return nil
}

// addObject decodes an object, gives it the namespace that it is in, and keeps
// it unless it is there already.
func addObject[T any, O interface {
	*T
	runtime.Object
	metav1.Object
}](s *objectSet, at place, t metav1.TypeMeta, raw []byte, keep func(O, *faults)) error {
	o := O(new(T))
	if err := runtime.DecodeInto(codecs().UniversalDeserializer(), raw, o); err != nil {
		return fmt.Errorf("%s: %w", t.Kind, err)
	}
	if o.GetName() == "" {
		return fmt.Errorf("%s: want metadata.name", t.Kind)
	}
	if t == namespaceType {
		o.SetNamespace("")
	} else if o.GetNamespace() == "" {
		o.SetNamespace(metav1.NamespaceDefault)
	}
	// Those of a dump are of another cluster's history; the set has its own.
	o.SetResourceVersion("")
	name := objectName{t.Kind, objectKey(o)}
	if first, ok := s.places[name]; ok {
		return fmt.Errorf("%s: is also in %s", name, first)
	}
	s.places[name] = at
	var f faults
	keep(o, &f)
	if len(f) > 0 {
		return fmt.Errorf("%s: %w", name, f)
	}
	if t != namespaceType {
		s.addNamespaceNamed(o.GetNamespace(), nil)
	}
	return nil
}

func (s *objectSet) addService(o *corev1.Service, f *faults) {
	// Checked even if not selected: the error would come with the label.
	service := s.converter.service(o, f)
	if service != nil && (s.converter.labels == nil || s.converter.labels.Matches(labels.Set(o.Labels))) {
		s.services = append(s.services, service)
	}
}

func (s *objectSet) addSlice(o *discoveryv1.EndpointSlice, f *faults) {
	if slice := s.converter.slice(o, f); slice != nil {
		s.slices = append(s.slices, slice)
	}
	if !s.config.Imports {
		return
	}
	if slice := s.converter.importedSlice(o, f); slice != nil {
		s.importedSlices = append(s.importedSlices, slice)
	}
}

func (s *objectSet) addImport(o *mcs.ServiceImport, f *faults) {
	if !s.config.Imports {
		return
	}
	service := s.converter.serviceImport(o, f)
	if service != nil && (s.converter.labels == nil || s.converter.labels.Matches(labels.Set(o.Labels))) {
		s.imports = append(s.imports, service)
	}
}

func (s *objectSet) addPod(o *corev1.Pod, f *faults) {
	if pod := s.converter.pod(o, f); pod != nil {
		s.pods = append(s.pods, pod)
	}
}

func (s *objectSet) addNamespace(o *corev1.Namespace, f *faults) {
	if n := s.converter.namespace(o, f); n != nil {
		s.addNamespaceNamed(o.Name, o.Labels)
	}
}

// addNamespaceNamed adds a namespace, with the label that every API server
// gives it.
func (s *objectSet) addNamespaceNamed(name string, own map[string]string) {
	s.labelsOf[name] = labels.Merge(labels.Merge(s.labelsOf[name], own), labels.Set{corev1.LabelMetadataName: name})
}

// replace makes the set what the Store holds. Slices come before their
// Services, so that a new Service is never seen without endpoints.
func (s *objectSet) replace(store *Store, serial uint64) {
	var namespaces []*index.Namespace
	for name, set := range s.labelsOf {
		if s.namespaceLabels == nil || s.namespaceLabels.Matches(set) {
			namespaces = append(namespaces, &index.Namespace{Name: name})
		}
	}
	store.replaceNamespaces(namespaces, serial)
	x, imports := store.index, store.imports
	if s.config.Slices {
		x.ReplaceSlices(s.slices, serial)
	}
	x.ReplaceServices(s.services, serial)
	if s.config.Pods {
		x.ReplacePods(s.pods, serial)
	}
	if s.config.Imports {
		imports.ReplaceSlices(s.importedSlices, serial)
		imports.ReplaceServices(s.imports, serial)
	}
}
