package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubezone/kubezone/e2e/harness"
)

// Scenario c: pods that have names.
func TestPodsByHostnameAndSubdomain(t *testing.T) {
	t.Parallel()
	const namespace = "names"
	cluster.Apply(t, namespace, "testdata/pods.yaml")
	s := serveAll(t)
	all := cluster.AwaitEndpoints(t, namespace, "default-subdomain", discoveryv1.AddressTypeIPv4, 9)
	address := func(pod string) string { return cluster.AwaitRunning(t, namespace, pod).Status.PodIP }
	dashed := func(address string) string { return strings.ReplaceAll(address, ".", "-") }
	const below = ".default-subdomain.names.svc.cluster.local. "

	tests := []struct{ name, question, want string }{
		{"all", "default-subdomain.names.svc.cluster.local. A", harness.Records("A", all...)},
		{"hostname and subdomain", "busybox-1" + below + "A", "A " + address("busybox1")},
		{"hostname and subdomain, another pod", "busybox-2" + below + "A", "A " + address("busybox2")},
		{"the other family", "busybox-1" + below + "AAAA", "NODATA"},
		{"case", "BusyBox-1" + below + "A", "A " + address("busybox1")},
		{"no dashed name beside the hostname", dashed(address("busybox1")) + below + "A", "NXDOMAIN"},
		{"reverse", harness.Reverse(address("busybox1")) + " PTR", "PTR busybox-1.default-subdomain.names.svc.cluster.local."},
		{"two pods of one hostname", "twin" + below + "A", harness.Records("A", address("twin-a"), address("twin-b"))},
		{"reverse of one of them", harness.Reverse(address("twin-b")) + " PTR", "PTR twin.default-subdomain.names.svc.cluster.local."},
		{"hostname as FQDN changes nothing", "busybox-fqdn" + below + "A", "A " + address("fqdn")},
		{"another hostname inside changes nothing", "busybox-override" + below + "A", "A " + address("override")},
		{"another hostname inside is no name", "something-else" + below + "A", "NXDOMAIN"},
		{"hostname alone", "lonely" + below + "A", "NXDOMAIN"},
		{"hostname alone: a dashed name", dashed(address("hostname-alone")) + below + "A", "A " + address("hostname-alone")},
		{"subdomain alone", "subdomain-alone" + below + "A", "NXDOMAIN"},
		{"subdomain alone: a dashed name", dashed(address("subdomain-alone")) + below + "A", "A " + address("subdomain-alone")},
		{"subdomain that is no service", "stray" + below + "A", "NXDOMAIN"},
		{"subdomain that is no service, as asked", "stray.another-subdomain.names.svc.cluster.local. A", "NXDOMAIN"},
		{"pod's name", "busybox1" + below + "A", "NXDOMAIN"},
		{"pod by address", dashed(address("busybox1")) + ".names.pod.cluster.local. A", "A " + address("busybox1")},
		{"pod by address in no namespace", dashed(address("busybox1")) + ".nowhere.pod.cluster.local. A", "NXDOMAIN"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { s.Expect(t, test.question, test.want) })
	}
	t.Run("every SRV target resolves", func(t *testing.T) {
		for _, one := range s {
			reply, err := one.Try(t, harness.Question{Text: "_foo._tcp" + below[:len(below)-1] + " SRV", Network: "tcp"})
			if err != nil {
				t.Fatal(err)
			}
			targets := srvTargets(reply)
			if len(targets) != 8 { // nine pods, of which two are one target
				t.Errorf("%d targets %v from %s; want 8", len(targets), targets, one.DNS)
			}
			for _, target := range targets {
				if got := harness.Text(one.Ask(t, target+" A")); !strings.HasPrefix(got, "A ") {
					t.Errorf("target %s: %s from %s", target, got, one.DNS)
				}
			}
		}
	})
}

// Deleting a pod takes its name away; making it anew brings it back.
func TestPodNameFollowsThePod(t *testing.T) {
	t.Parallel()
	const namespace = "reborn"
	cluster.Apply(t, namespace, "testdata/pods.yaml")
	s := serveAll(t)
	const question = "busybox-1.default-subdomain.reborn.svc.cluster.local. A"
	cluster.AwaitEndpoints(t, namespace, "default-subdomain", discoveryv1.AddressTypeIPv4, 9)
	s.ExpectWithin(t, shownWithin, question, "A "+cluster.AwaitRunning(t, namespace, "busybox1").Status.PodIP)

	err := cluster.Client.CoreV1().Pods(namespace).Delete(t.Context(), "busybox1", metav1.DeleteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cluster.AwaitEndpoints(t, namespace, "default-subdomain", discoveryv1.AddressTypeIPv4, 8)
	s.ExpectWithin(t, shownWithin, question, "NXDOMAIN")
	harness.Eventually(t, harness.SettleWithin, func() error { // what is still there would be changed, and then go
		if _, err := cluster.Client.CoreV1().Pods(namespace).Get(t.Context(), "busybox1", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("pod busybox1 is still there, %v", err)
		}
		return nil
	})

	cluster.Apply(t, namespace, "testdata/pods.yaml")
	cluster.AwaitEndpoints(t, namespace, "default-subdomain", discoveryv1.AddressTypeIPv4, 9)
	s.ExpectWithin(t, shownWithin, question, "A "+cluster.AwaitRunning(t, namespace, "busybox1").Status.PodIP)
}

// The pods of a StatefulSet are known by ordinal, and a rollout takes them one by one from the last to the first.
func TestStatefulSetRollsOutByOrdinal(t *testing.T) {
	t.Parallel()
	const namespace = "ordinals"
	cluster.Apply(t, namespace, "testdata/statefulset.yaml")
	s := serveAll(t)
	cluster.AwaitEndpoints(t, namespace, "etcd-headless", discoveryv1.AddressTypeIPv4, 3)
	record(t, cluster, s[0], namespace, "etcd-headless") // of the others the steps below ask enough
	member := func(ordinal int) string {
		return fmt.Sprintf("etcd-%d.etcd-headless.ordinals.svc.cluster.local.", ordinal)
	}
	answers := func(t *testing.T, ordinal int) {
		t.Helper()
		pod := cluster.AwaitRunning(t, namespace, fmt.Sprintf("etcd-%d", ordinal))
		s.ExpectWithin(t, shownWithin, member(ordinal)+" A", "A "+pod.Status.PodIP)
		// Two services hold the pod: the one that knows its hostname comes first.
		for _, one := range s.uncached() {
			reverse := one.Ask(t, harness.Reverse(pod.Status.PodIP)+" PTR").Answer
			if len(reverse) != 2 || !strings.HasSuffix(reverse[0].String(), "PTR\t"+member(ordinal)) {
				t.Errorf("reverse of %s: %v from %s; want %s first, then the name in etcd-peers", pod.Status.PodIP, reverse, one.DNS, member(ordinal))
			}
		}
	}
	for ordinal := range 3 {
		answers(t, ordinal)
	}
	var targets []string
	for ordinal := range 3 {
		targets = append(targets, "2379 "+member(ordinal))
	}
	s.Expect(t, "_client._tcp.etcd-headless.ordinals.svc.cluster.local. SRV", harness.Records("SRV", targets...))
	s.Expect(t, "etcd-3.etcd-headless.ordinals.svc.cluster.local. A", "NXDOMAIN")

	// The new pods do not become ready by themselves, so that the rollout stops at each.
	patch := `{"spec":{"template":{"metadata":{"annotations":{"kubezone.test/ready":"false"}}}}}`
	_, err := cluster.Client.AppsV1().StatefulSets(namespace).Patch(t.Context(), "etcd", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for ordinal := 2; ordinal >= 0; ordinal-- {
		name := fmt.Sprintf("etcd-%d", ordinal)
		harness.Eventually(t, harness.SettleWithin, func() error {
			pod := cluster.AwaitRunning(t, namespace, name)
			if pod.Annotations["kubezone.test/ready"] != "false" {
				return fmt.Errorf("pod %s is of the old revision", name)
			}
			return nil
		})
		cluster.AwaitEndpoints(t, namespace, "etcd-headless", discoveryv1.AddressTypeIPv4, 2)
		s.ExpectWithin(t, shownWithin, member(ordinal)+" A", "NXDOMAIN")
		for other := range 3 {
			if other != ordinal {
				answers(t, other)
			}
		}
		// The service for those who must find each other before they are ready shows it all the time.
		all := cluster.AwaitEndpoints(t, namespace, "etcd-peers", discoveryv1.AddressTypeIPv4, 3)
		s.ExpectWithin(t, shownWithin, "etcd-peers.ordinals.svc.cluster.local. A", harness.Records("A", all...))

		cluster.SetReady(t, namespace, name, corev1.ConditionTrue)
		answers(t, ordinal)
	}
	s.Expect(t, "_client._tcp.etcd-headless.ordinals.svc.cluster.local. SRV", harness.Records("SRV", targets...))
}

// A slice that an operator made by hand counts as one of the controller's.
func TestSliceWithoutSelector(t *testing.T) {
	t.Parallel()
	const namespace = "byhand"
	cluster.Apply(t, namespace, "testdata/no-selector.yaml")
	cluster.Apply(t, namespace, "testdata/odd-slices.yaml")
	s := serveAll(t)
	legacy := cluster.Service(t, namespace, "legacy-api").Spec.ClusterIP

	tests := []struct{ name, question, want string }{
		{"IPv4", "database.byhand.svc.cluster.local. A", "A 192.0.2.101, A 192.0.2.102"},
		{"IPv6", "database.byhand.svc.cluster.local. AAAA", "AAAA 2001:db8:7::, AAAA 2001:db8::101"},
		{"hostname, IPv4", "primary.database.byhand.svc.cluster.local. A", "A 192.0.2.101"},
		{"hostname, IPv6", "primary.database.byhand.svc.cluster.local. AAAA", "AAAA 2001:db8::101"},
		{"dashed name", "192-0-2-102.database.byhand.svc.cluster.local. A", "A 192.0.2.102"},
		{"dashed name, the other family", "192-0-2-102.database.byhand.svc.cluster.local. AAAA", "NODATA"},
		{"dashed name that would end in a dash", "2001-db8-7--0.database.byhand.svc.cluster.local. AAAA", "AAAA 2001:db8:7::"},
		{"not ready", "192-0-2-103.database.byhand.svc.cluster.local. A", "NXDOMAIN"},
		{"SRV", "_postgres._tcp.database.byhand.svc.cluster.local. SRV", harness.Records("SRV",
			"5432 primary.database.byhand.svc.cluster.local.",
			"5432 192-0-2-102.database.byhand.svc.cluster.local.",
			"5432 2001-db8-7--0.database.byhand.svc.cluster.local.")},
		{"reverse of a hostname", harness.Reverse("192.0.2.101") + " PTR", "PTR primary.database.byhand.svc.cluster.local."},
		{"reverse of a dashed name", harness.Reverse("192.0.2.102") + " PTR", "PTR 192-0-2-102.database.byhand.svc.cluster.local."},
		{"reverse, IPv6", harness.Reverse("2001:db8::101") + " PTR", "PTR primary.database.byhand.svc.cluster.local."},
		{"reverse, not ready", harness.Reverse("192.0.2.103") + " PTR", "NXDOMAIN"},
		{"reverse of a slice without a service", harness.Reverse("192.0.2.199") + " PTR", "NXDOMAIN"},
		{"ClusterIP", "legacy-api.byhand.svc.cluster.local. A", "A " + legacy},
		{"ClusterIP: the service's port", "_https._tcp.legacy-api.byhand.svc.cluster.local. SRV", "SRV 443 legacy-api.byhand.svc.cluster.local."},
		{"ClusterIP: an endpoint", "192-0-2-110.legacy-api.byhand.svc.cluster.local. A", "A 192.0.2.110"},
		{"ClusterIP: reverse of an endpoint", harness.Reverse("192.0.2.110") + " PTR", "PTR 192-0-2-110.legacy-api.byhand.svc.cluster.local."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { s.Expect(t, test.question, test.want) })
	}
}

func srvTargets(reply *dns.Msg) []string {
	var targets []string
	for _, rr := range reply.Answer {
		if srv, ok := rr.(*dns.SRV); ok {
			targets = append(targets, srv.Target)
		}
	}
	return targets
}
