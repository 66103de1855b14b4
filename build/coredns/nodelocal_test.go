package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// The DaemonSet is what its comments say: no rights but two, none of the node's ports, and a place on every node.
func TestNodeLocalDaemonSet(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(top, "build", "node-local", "daemonset.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	documents := bytes.Split(text, []byte("\n---\n"))
	var service corev1.Service
	var set appsv1.DaemonSet
	for i, into := range []any{&service, &set} {
		if err := yaml.UnmarshalStrict(documents[i], into); err != nil {
			t.Fatal(err)
		}
	}
	if len(documents) != 2 || service.Name != "kube-dns-upstream" {
		t.Errorf("%d documents, the first Service %q; want the Service kube-dns-upstream and a DaemonSet", len(documents), service.Name)
	}
	pod := set.Spec.Template.Spec
	if !pod.HostNetwork || pod.PriorityClassName != "system-node-critical" || pod.DNSPolicy != corev1.DNSDefault ||
		!slices.Contains(pod.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists}) {
		t.Errorf("the pod is not as a node's DNS has to be: %+v", pod)
	}
	container := pod.Containers[0]
	if capabilities := container.SecurityContext.Capabilities; !slices.Equal(capabilities.Drop, []corev1.Capability{"ALL"}) ||
		!slices.Equal(capabilities.Add, []corev1.Capability{"NET_ADMIN", "NET_BIND_SERVICE"}) {
		t.Errorf("capabilities %+v; want NET_ADMIN and NET_BIND_SERVICE alone", capabilities)
	}
	if len(container.Ports) > 0 {
		t.Errorf("ports %v; want none, as they keep a second pod off the node", container.Ports)
	}
	if container.Resources.Limits.Memory().IsZero() {
		t.Error("no limit of memory")
	}
	for name, probe := range map[string]*corev1.Probe{"readiness": container.ReadinessProbe, "liveness": container.LivenessProbe} {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Host != "169.254.20.10" {
			t.Errorf("the %s probe is %+v; want one at 169.254.20.10", name, probe)
		}
	}
	if update := set.Spec.UpdateStrategy.RollingUpdate; update == nil || update.MaxUnavailable.IntValue() != 0 || update.MaxSurge.String() != "10%" {
		t.Errorf("updated by %+v; want the new pod before the old one goes", update)
	}
}
