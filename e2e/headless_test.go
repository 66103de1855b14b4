package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubezone/kubezone/e2e/harness"
)

// Scenario b: a headless service over a Deployment.
func TestHeadlessService(t *testing.T) {
	t.Parallel()
	const namespace = "default"
	s := serveAll(t)

	for _, step := range []struct {
		name, path string
		hostname   string // the label that both pods answer to, if any
	}{
		{"no names", "testdata/nginx-headless.yaml", ""},
		{"subdomain only", "testdata/nginx-headless-subdomain.yaml", ""},
		{"hostname and subdomain", "testdata/nginx-headless-hostname.yaml", "web"},
	} {
		t.Run(step.name, func(t *testing.T) {
			cluster.Apply(t, namespace, step.path)
			awaitRollout(t, namespace, "nginx-headless")
			addresses := cluster.AwaitEndpoints(t, namespace, "nginx", discoveryv1.AddressTypeIPv4, 2)
			s.ExpectWithin(t, shownWithin, "nginx.default.svc.cluster.local. A", harness.Records("A", addresses...))
			s.Expect(t, "nginx.default.svc.cluster.local. AAAA", "NODATA")

			pods := cluster.Pods(t, namespace, "app=nginx-headless")
			if len(pods) != 2 {
				t.Fatalf("%d pods; want 2", len(pods))
			}
			for _, pod := range pods {
				s.Expect(t, pod.Name+".nginx.default.svc.cluster.local. A", "NXDOMAIN")
			}
			var targets []string
			for _, address := range addresses {
				dashed := strings.ReplaceAll(address, ".", "-") + ".nginx.default.svc.cluster.local."
				target := dashed
				if step.hostname != "" {
					target = step.hostname + ".nginx.default.svc.cluster.local."
					s.Expect(t, dashed+" A", "NXDOMAIN") // the hostname takes the dashed name's place
				} else {
					s.Expect(t, dashed+" A", "A "+address)
				}
				targets = append(targets, "80 "+target)
				s.uncached().Expect(t, harness.Reverse(address)+" PTR", "PTR "+target) // a step's pods may have the addresses of the one before
			}
			if step.hostname != "" {
				s.Expect(t, step.hostname+".nginx.default.svc.cluster.local. A", harness.Records("A", addresses...))
				s.Expect(t, step.hostname+".nginx.default.svc.cluster.local. AAAA", "NODATA")
				targets = targets[:1] // both pods are one target
			}
			s.Expect(t, "_http._tcp.nginx.default.svc.cluster.local. SRV", harness.Records("SRV", targets...))
		})
	}
}

// What happens to the pods of a headless service shows within a second of the slice's change, whatever it is.
func TestHeadlessServiceFollowsItsPods(t *testing.T) {
	t.Parallel()
	const namespace = "follow"
	s := serveAll(t)
	cluster.Apply(t, namespace, "testdata/nginx-headless.yaml")
	cluster.AwaitEndpoints(t, namespace, "nginx", discoveryv1.AddressTypeIPv4, 2)
	record(t, cluster, s[0], namespace, "nginx") // of the others the steps below ask enough
	shows := func(t *testing.T, count int) []string {
		t.Helper()
		addresses := cluster.AwaitEndpoints(t, namespace, "nginx", discoveryv1.AddressTypeIPv4, count)
		want := "NXDOMAIN"
		if count > 0 {
			want = harness.Records("A", addresses...)
		}
		s.ExpectWithin(t, shownWithin, "nginx.follow.svc.cluster.local. A", want)
		return addresses
	}
	shows(t, 2)

	t.Run("scaling up", func(t *testing.T) {
		scale(t, namespace, "nginx-headless", 5)
		shows(t, 5)
	})
	t.Run("scaling down", func(t *testing.T) {
		scale(t, namespace, "nginx-headless", 3)
		shows(t, 3)
	})
	t.Run("loss of readiness", func(t *testing.T) {
		pod := cluster.Pods(t, namespace, "app=nginx-headless")[0]
		cluster.SetReady(t, namespace, pod.Name, corev1.ConditionFalse)
		for _, address := range shows(t, 2) {
			if address == pod.Status.PodIP {
				t.Errorf("%s is not ready and still among the addresses", address)
			}
		}
		s.ExpectWithin(t, shownWithin, harness.Reverse(pod.Status.PodIP)+" PTR", "NXDOMAIN")
		cluster.SetReady(t, namespace, pod.Name, corev1.ConditionTrue)
		shows(t, 3)
	})
	t.Run("deletion", func(t *testing.T) {
		pod := cluster.Pods(t, namespace, "app=nginx-headless")[0]
		if err := cluster.Client.CoreV1().Pods(namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		awaitRollout(t, namespace, "nginx-headless") // another takes its place
		shows(t, 3)
	})
	t.Run("rollout", func(t *testing.T) {
		before := cluster.Pods(t, namespace, "app=nginx-headless")
		patch := `{"spec":{"template":{"spec":{"containers":[{"name":"nginx","image":"nginx:1.28"}]}}}}`
		_, err := cluster.Client.AppsV1().Deployments(namespace).Patch(t.Context(), "nginx-headless",
			types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		awaitRollout(t, namespace, "nginx-headless")
		for _, pod := range cluster.Pods(t, namespace, "app=nginx-headless") {
			for _, old := range before {
				if pod.Name == old.Name {
					t.Errorf("pod %s was not replaced", pod.Name)
				}
			}
		}
		shows(t, 3)
	})
	t.Run("nothing left", func(t *testing.T) {
		scale(t, namespace, "nginx-headless", 0)
		shows(t, 0)
		for _, question := range []string{"AAAA", "SRV", "TXT"} { // existence does not depend on the type
			s.Expect(t, "nginx.follow.svc.cluster.local. "+question, "NXDOMAIN")
		}
		s.Expect(t, "_http._tcp.nginx.follow.svc.cluster.local. SRV", "NXDOMAIN")
	})
}

// scale changes the number of pods of a Deployment.
func scale(t *testing.T, namespace, deployment string, replicas int) {
	t.Helper()
	patch := fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas)
	_, err := cluster.Client.AppsV1().Deployments(namespace).Patch(t.Context(), deployment, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// awaitRollout waits until a Deployment has replaced what it has to and no old pod is left.
func awaitRollout(t *testing.T, namespace, name string) {
	t.Helper()
	harness.Eventually(t, harness.SettleWithin, func() error {
		deployment, err := cluster.Client.AppsV1().Deployments(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		status, want := deployment.Status, *deployment.Spec.Replicas
		if status.ObservedGeneration != deployment.Generation || status.Replicas != want || status.UpdatedReplicas != want || status.AvailableReplicas != want {
			return fmt.Errorf("deployment %s/%s: %d of %d replicas are up to date, %d are available, %d exist",
				namespace, name, status.UpdatedReplicas, want, status.AvailableReplicas, status.Replicas)
		}
		pods, err := cluster.Client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(deployment.Spec.Selector)})
		if err != nil {
			return err
		}
		if len(pods.Items) != int(want) {
			return fmt.Errorf("deployment %s/%s: %d pods are left; want %d", namespace, name, len(pods.Items), want)
		}
		return nil
	})
}
