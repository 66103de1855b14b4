package kube

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

// labelledAndNot are a headless Service with a slice that has the label, one
// with slices that do not, and one with a ClusterIP.
func labelledAndNot(unlabelled int) string {
	var b strings.Builder
	b.WriteString(`
apiVersion: v1
kind: Service
metadata: {name: db, namespace: prod}
spec: {clusterIP: None}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: prod, labels: {kubernetes.io/service-name: db, service.kubernetes.io/headless: ""}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1]}]
---
apiVersion: v1
kind: Service
metadata: {name: legacy, namespace: prod}
spec: {clusterIP: None}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: prod}
spec: {clusterIP: 10.96.0.1}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: prod, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.2]}]
`)
	for n := range unlabelled {
		fmt.Fprintf(&b, `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: by-hand-%d, namespace: prod, labels: {kubernetes.io/service-name: legacy}}
addressType: IPv4
endpoints: [{addresses: [10.0.1.%[1]d]}]
`, n)
	}
	return b.String()
}

// HeadlessOnly watches the slices that have the label, and tells once of those
// that ought to have it.
func TestHeadlessOnly(t *testing.T) {
	for _, c := range []struct {
		unlabelled int
		want       string // "" for no warning
	}{
		{0, ""},
		{1, "prod/by-hand-0. Label"},
		{3, "prod/by-hand-0, prod/by-hand-1, prod/by-hand-2. Label"},
		{5, "prod/by-hand-0, prod/by-hand-1, prod/by-hand-2 and 2 more. Label"},
	} {
		t.Run(fmt.Sprint(c.unlabelled), func(t *testing.T) {
			logged := captureLog(t)
			api := newAPIServer(t, labelledAndNot(c.unlabelled))
			config := api.config(t)
			config.HeadlessOnly = true
			s := openSynced(t, config)
			if n := s.Index().Count(index.EndpointSlices); n != 1 {
				t.Errorf("%d slices are held; want the one with the label", n)
			}
			if st := s.Index().Service(dbKey); st == nil || !st.Ready() {
				t.Error("the headless service has no endpoint")
			}
			looked := func() bool {
				for _, r := range api.asked("endpointslices") {
					if r.query.Get("labelSelector") == notLabelledHeadless {
						return true
					}
				}
				return false
			}
			eventually(t, "a look for slices without the label", looked)
			if c.want != "" {
				eventually(t, "the warning "+c.want, func() bool { return logged.count(c.want) == 1 })
			}
			s.Close() // ends whatever would log more
			if n := logged.count("lack the label"); n != min(c.unlabelled, 1) {
				t.Errorf("%d warnings; want %d", n, min(c.unlabelled, 1))
			}
		})
	}
}
