package e2e

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/kubezone/kubezone/e2e/harness"
)

// verifying reads every kind of object.
var verifying = strings.Replace(plain, "pods insecure", "pods verified", 1)

// With the rights that build/kube-system gives, the server asks for what they cover and for nothing else.
func TestServerAsksForNoMoreThanItsRights(t *testing.T) {
	t.Parallel()
	c := newCluster(t, harness.Options{Families: harness.IPv4Only})
	if err := c.GrantRights(t.Context(), "..", "pods"); err != nil {
		t.Fatal(err)
	}
	s := serve(t, c, verifying)
	s.Expect(t, "kubernetes.default.svc.cluster.local. A", "A "+apiAddress)
	requests := c.Requests(t, "kube-system", "coredns")
	for _, resource := range []string{"services", "endpointslices", "namespaces", "pods"} {
		if !slices.Contains(requests, "watch "+resource) {
			t.Errorf("no watch for %s among %v", resource, requests)
		}
	}
	role := []string{"list services", "watch services", "list endpointslices", "watch endpointslices",
		"list namespaces", "watch namespaces", "list pods", "watch pods", "list servicecidrs"}
	for _, request := range requests {
		if !slices.Contains(role, request) {
			t.Errorf("the server asked for %q", request)
		}
	}
}

// Without the rights to one kind, what does not depend on that kind is served, and the log says what is missing.
func TestMissingRights(t *testing.T) {
	t.Parallel()
	const namespace = "rights"
	cluster.Apply(t, namespace, "testdata/readers.yaml")
	cluster.Apply(t, namespace, "testdata/nginx-service.yaml")
	cluster.Apply(t, namespace, "testdata/nginx-headless.yaml")
	ip := cluster.Service(t, namespace, "nginx-service").Spec.ClusterIP
	pods := harness.Records("A", cluster.AwaitEndpoints(t, namespace, "nginx", discoveryv1.AddressTypeIPv4, 2)...)
	const (
		clusterIP = "nginx-service.rights.svc.cluster.local. A"
		headless  = "nginx.rights.svc.cluster.local. A"
		pod       = "192-0-2-1.rights.pod.cluster.local. A"
	)

	type answer struct{ question, want string }
	for _, test := range []struct {
		resource string
		answers  []answer // first those that show that the other kinds are in
	}{
		{"services", []answer{{pod, "NXDOMAIN"}, {clusterIP, "SERVFAIL"}, {headless, "SERVFAIL"}}},
		{"endpointslices", []answer{{clusterIP, "A " + ip}, {pod, "NXDOMAIN"}, {headless, "SERVFAIL"}}},
		{"namespaces", []answer{{clusterIP, "A " + ip}, {headless, pods}}},
		{"pods", []answer{{clusterIP, "A " + ip}, {headless, pods}, {pod, "SERVFAIL"}}},
	} {
		t.Run(test.resource, func(t *testing.T) {
			t.Parallel()
			kubeconfig, _ := cluster.Kubeconfig(t, "", namespace, "no-"+test.resource)
			s := harness.StartServer(t, verifying, "KUBECONFIG="+kubeconfig)
			for _, answer := range test.answers {
				s.ExpectWithin(t, 15*time.Second, answer.question, answer.want)
			}
			complaint := regexp.MustCompile(`(?m)^.*\b(list|watch)\b.*\b` + test.resource + `\b.*$`)
			harness.Eventually(t, 10*time.Second, func() error {
				if !complaint.MatchString(s.Log()) {
					return fmt.Errorf("the log names neither the verb nor %s", test.resource)
				}
				return nil
			})
			if status, _, err := s.Get(s.Ready + "/ready"); err == nil && status == http.StatusOK {
				t.Errorf("the server says that it is ready without %s", test.resource)
			}
		})
	}
}
