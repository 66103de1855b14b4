package chain

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubezone/kubezone/e2e/harness"
)

const sharing = `.:{$DNS} {
	ready :{$READY}
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		kubeconfig {$KUBECONFIG}
		ttl %[1]d
	}
}
other.example:{$DNS} {
	kubernetes {
		kubeconfig {$KUBECONFIG}
		pods insecure
	}
}
third.example:{$HEALTH} {
	kubernetes {
		kubeconfig {$KUBECONFIG}
		ignore empty_service
		fallthrough
	}
}
`

// Server blocks that need the same objects share one set of watches, and a reload keeps it.
func TestSharedWatchesAndReload(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	kubeconfig, _ := c.Kubeconfig(t, "", "kube-system", "coredns")
	s := serve(t, fmt.Sprintf(sharing, 11), "KUBECONFIG="+kubeconfig)
	s.Expect(t, "kubernetes.default.svc.cluster.local. A", "A 10.96.0.1")
	s.Expect(t, "kubernetes.default.svc.other.example. A", "A 10.96.0.1")

	before := c.Requests(t, "kube-system", "coredns")
	count := make(map[string]int)
	for _, request := range before {
		count[request]++
	}
	for _, resource := range []string{"services", "endpointslices", "namespaces"} {
		if lists, watches := count["list "+resource], count["watch "+resource]; watches != 1 || lists > 1 {
			t.Errorf("%s: %d lists and %d watches; want one set: %v", resource, lists, watches, before)
		}
	}

	s.WriteCorefile(t, fmt.Sprintf(sharing, 12))
	s.Reload()
	harness.Eventually(t, 20*time.Second, func() error {
		if ttl := s.Ask(t, "kubernetes.default.svc.cluster.local. A").Answer[0].Header().Ttl; ttl != 12 {
			return fmt.Errorf("TTL %d; want 12", ttl)
		}
		return nil
	})
	if after := c.Requests(t, "kube-system", "coredns"); !slices.Equal(before, after) {
		t.Errorf("a reload made the requests %v", after[len(before):])
	}
	if strings.Contains(s.Log(), "[ERROR]") {
		t.Error("errors in the log")
	}
}

// The serial grows with every change and across a restart, and two replicas have the same.
func TestSerialAcrossRestart(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	kubeconfig, _ := c.Kubeconfig(t, "", "kube-system", "coredns")
	start := func() *harness.Server { return serve(t, fmt.Sprintf(sharing, 5), "KUBECONFIG="+kubeconfig) }
	create := func(name string) {
		t.Helper()
		_, err := c.Client.CoreV1().Services("default").Create(t.Context(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	await := func(s *harness.Server, name string) {
		t.Helper()
		harness.Eventually(t, 5*time.Second, func() error {
			if len(s.Ask(t, name+".default.svc.cluster.local. A").Answer) == 0 {
				return fmt.Errorf("%s is not there", name)
			}
			return nil
		})
	}
	first := start()
	atFirst := serial(t, first, "cluster.local.")
	create("one")
	await(first, "one")
	afterChange := serial(t, first, "cluster.local.")
	if afterChange <= atFirst {
		t.Errorf("serial %d after a change; it was %d", afterChange, atFirst)
	}
	create("two")
	await(first, "two")
	first.Stop()
	create("three")
	second, third := start(), start()
	restarted, replica := serial(t, second, "cluster.local."), serial(t, third, "cluster.local.")
	if restarted <= afterChange {
		t.Errorf("serial %d after a restart; it was %d", restarted, afterChange)
	}
	if restarted != replica {
		t.Errorf("serials %d and %d of two replicas", restarted, replica)
	}
	if reverse := serial(t, second, "in-addr.arpa."); reverse != restarted {
		t.Errorf("serial %d of the reverse zone; want %d", reverse, restarted)
	}
}
