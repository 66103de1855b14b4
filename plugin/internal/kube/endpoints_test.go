package kube

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const kubeDNS = `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-1, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports: [{name: dns, port: 5353, protocol: UDP}, {name: dns-tcp, port: 5354, protocol: TCP}, {name: metrics, port: 9153, protocol: TCP}]
endpoints:
- {addresses: [10.244.0.2]}
- {addresses: [10.244.0.3], conditions: {ready: false, serving: true, terminating: true}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-2, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv6
ports: [{name: other, port: 9153, protocol: TCP}]
endpoints:
- {addresses: ["fd00:244::2"]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: metrics-1, namespace: kube-system, labels: {kubernetes.io/service-name: metrics}}
addressType: IPv4
ports: [{name: dns-tcp, port: 53, protocol: TCP}]
endpoints:
- {addresses: [10.244.0.9]}
`

// A sink remembers what was found last.
type sink struct {
	mu   sync.Mutex // guards text
	text string
}

func (s *sink) put(found []netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = strings.Trim(fmt.Sprint(found), "[]")
}

func (s *sink) awaits(t *testing.T, want string) {
	t.Helper()
	eventually(t, want, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.text == want
	})
}

func TestFollowEndpoints(t *testing.T) {
	a := newAPIServer(t, kubeDNS)
	var s sink
	e, err := FollowEndpoints(a.config(t), "kube-system", "kube-dns", s.put)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	s.awaits(t, "10.244.0.2:5354 [fd00:244::2]:53")

	// An endpoint that is not ready counts if no other is.
	a.remove("endpointslices", "kube-system/kube-dns-2")
	s.awaits(t, "10.244.0.2:5354")
	a.apply(t, strings.ReplaceAll(strings.Split(kubeDNS, "---")[0], "{addresses: [10.244.0.2]}", "{addresses: [10.244.0.2], conditions: {ready: false}}"))
	s.awaits(t, "10.244.0.3:5354")

	// What happens while the API server is away is seen later, also where the watch cannot go on.
	a.refuseAll("endpointslices", status(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "away"))
	a.cutWatches()
	a.apply(t, strings.Split(kubeDNS, "---")[0])
	a.compact()
	a.refuseAll("endpointslices", nil)
	s.awaits(t, "10.244.0.2:5354")

	for _, r := range a.asked("endpointslices") {
		if got := r.query.Get("labelSelector"); got != "kubernetes.io/service-name=kube-dns" {
			t.Errorf("asked for the slices with labels %q; want those of the service alone", got)
		}
	}
}

func TestFollowEndpointsWithoutTheRight(t *testing.T) {
	a := newAPIServer(t, kubeDNS)
	a.refuseAll("endpointslices", status(http.StatusForbidden, metav1.StatusReasonForbidden, "no"))
	var s sink
	e, err := FollowEndpoints(a.config(t), "kube-system", "kube-dns", s.put)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	eventually(t, "two attempts", func() bool { return len(a.asked("endpointslices")) > 1 })
	a.refuseAll("endpointslices", nil)
	s.awaits(t, "10.244.0.2:5354 [fd00:244::2]:53")
}
