package index

import (
	"slices"

	"golang.org/x/net/publicsuffix"
)

// A Denial says which namespaces are never shown, whatever is in them: those
// whose names capture others by the search path of a pod. A service github in a
// namespace com is github.com.svc.cluster.local, which every pod with ndots:5
// asks for before github.com. The zero value denies none.
type Denial struct {
	Names          []string // in lower case
	PublicSuffixes bool     // every label that is a public suffix, such as com (publicsuffix.org)
	Except         []string // public suffixes that are not denied
}

// Denies tells whether the namespace is denied.
func (d Denial) Denies(namespace string) bool {
	return slices.Contains(d.Names, namespace) || (d.PublicSuffixes && IsPublicSuffix(namespace) && !slices.Contains(d.Except, namespace))
}

// IsPublicSuffix tells whether the label alone is on the Public Suffix List. All
// such are of its ICANN part; of a label that is not there the list says what
// its default rule does, and that this is nobody's.
func IsPublicSuffix(label string) bool {
	_, listed := publicsuffix.PublicSuffix(label)
	return listed
}
