package kube

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

// programming measures DNS programming latency as Kubernetes' SLI defines it,
// of changes that the Index already shows.
type programming struct {
	index     *index.Index
	selective bool // what a watch adds may be older than its being selected
}

// service measures the creation of a Service. One that has endpoints which
// follow its pods is measured by them instead.
func (p programming) service(o *corev1.Service) {
	if p.selective || o.CreationTimestamp.IsZero() {
		return
	}
	since := time.Since(o.CreationTimestamp.Time)
	switch {
	case o.Spec.Type == corev1.ServiceTypeExternalName:
	case o.Spec.ClusterIP != corev1.ClusterIPNone:
		programmed(kindClusterIP, since)
	case len(o.Spec.Selector) == 0:
		programmed(kindHeadlessWithoutSelector, since)
	}
}

// slice measures a change of endpoints that follow pods, which the annotation
// tells.
func (p programming) slice(o *discoveryv1.EndpointSlice) {
	trigger, err := time.Parse(time.RFC3339Nano, o.Annotations[corev1.EndpointsLastChangeTriggerTime])
	if err != nil {
		return
	}
	st := p.index.Service(index.ObjectKey{Namespace: o.Namespace, Name: o.Labels[discoveryv1.LabelServiceName]})
	if st != nil && st.Service.Type == index.Headless {
		programmed(kindHeadlessWithSelector, time.Since(trigger))
	}
}
