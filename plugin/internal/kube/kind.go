package kube

import "github.com/kubezone/kubezone/plugin/internal/index"

// A kind is one of objects that a Store follows.
type kind struct {
	index.Kind      // as the Index that holds it calls it
	imported   bool // that is Store.Imports
}

var (
	serviceImports = kind{index.Services, true}
	importedSlices = kind{index.EndpointSlices, true}
)

// String is the name of the kind in logs and metrics.
func (k kind) String() string {
	if k == importedSlices {
		return "multicluster_endpointslices"
	}
	return k.resource()
}

// resource is the name in the Kubernetes API, where the slices of all Services
// are of one kind.
func (k kind) resource() string {
	if k == serviceImports {
		return "serviceimports"
	}
	return k.Kind.String()
}

// replaceNamespaces gives both indexes the namespaces, as what hides them hides
// what is imported into them too.
func (s *Store) replaceNamespaces(list []*index.Namespace, resourceVersion uint64) {
	s.index.ReplaceNamespaces(list, resourceVersion)
	s.imports.ReplaceNamespaces(list, resourceVersion)
}

func (s *Store) setNamespace(n *index.Namespace) {
	s.index.SetNamespace(n)
	s.imports.SetNamespace(n)
}

func (s *Store) deleteNamespace(key index.ObjectKey, resourceVersion uint64) {
	s.index.DeleteNamespace(key.Name, resourceVersion)
	s.imports.DeleteNamespace(key.Name, resourceVersion)
}
