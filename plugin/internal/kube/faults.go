package kube

import (
	"fmt"
	"strings"
)

// A reason says what is wrong with an object, in one of few words.
type reason string

const (
	badName         reason = "name"          // not a DNS label
	badAddress      reason = "address"       // of an endpoint, a pod, or a Service outside of the cluster
	badClusterIP    reason = "cluster_ip"    // of a Service
	badExternalName reason = "external_name" // not a host name
	badPort         reason = "port"          // name, number or protocol
	badType         reason = "type"          // of a ServiceImport
	badCluster      reason = "cluster"       // ID, of an imported EndpointSlice
)

// A fault is one thing that keeps an object, or a part of it, out of the DNS
// although it is meant to be in it.
type fault struct {
	reason reason
	text   string
}

// faults are those of one object.
type faults []fault

func (f *faults) add(r reason, format string, args ...any) {
	*f = append(*f, fault{r, fmt.Sprintf(format, args...)})
}

// Error names the first few.
func (f faults) Error() string {
	const shown = 3
	var texts []string
	for _, fault := range f[:min(shown, len(f))] {
		texts = append(texts, fault.text)
	}
	text := strings.Join(texts, "; ")
	if len(f) > shown {
		text += fmt.Sprintf("; and %d more", len(f)-shown)
	}
	return text
}
