package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/kubezone/kubezone/e2e/harness"
)

// crowded is a headless service of more pods than the controller puts in one slice.
const crowded = `
apiVersion: v1
kind: Service
metadata: {name: crowd}
spec:
  clusterIP: None
  selector: {app: crowd}
  ports: [{name: web, port: 80}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: crowd}
spec:
  serviceName: crowd
  podManagementPolicy: Parallel
  replicas: 130
  selector: {matchLabels: {app: crowd}}
  template:
    metadata: {labels: {app: crowd}}
    spec: {containers: [{name: web, image: "nginx:1"}]}
`

// Another port has the controller spread the endpoints anew, one slice after the other, so that for a moment many are in
// none. The pods are there all the time, and so are their names.
func TestEndpointsMoveBetweenSlices(t *testing.T) {
	t.Parallel()
	const namespace, pods = "moving", 130
	if err := cluster.ApplyYAML(t.Context(), namespace, crowded); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 2*harness.SettleWithin, func() error { // so many pods take their time
		ready, err := cluster.ReadyAddresses(t.Context(), namespace, "crowd", discoveryv1.AddressTypeIPv4)
		if err == nil && len(ready) != pods {
			err = fmt.Errorf("%d pods are ready; want %d", len(ready), pods)
		}
		return err
	})
	s := serve(t, cluster, plain)
	right := make(map[string]string)
	for _, pod := range cluster.Pods(t, namespace, "app=crowd") {
		right[pod.Name+".crowd.moving.svc.cluster.local. A"] = "A " + pod.Status.PodIP
	}
	for question, want := range right {
		s.ExpectWithin(t, shownWithin, question, want)
	}

	slices := cluster.Client.DiscoveryV1().EndpointSlices(namespace)
	of := metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=crowd"}
	watcher, err := slices.Watch(t.Context(), of)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	least := pods
	running.Go(func() { least = fewestHostnames(ctx, watcher, pods) })
	for range 4 {
		running.Go(func() {
			for ctx.Err() == nil {
				for question, want := range right { // in another order each time
					if reply, err := s.Try(t, harness.Question{Text: question}); err != nil || harness.Text(reply) != want {
						t.Errorf("%s: %v %v; want %s", question, reply, err, want)
						return
					}
				}
			}
		})
	}
	patch := `{"spec":{"ports":[{"name":"web","port":81}]}}`
	if _, err := cluster.Client.CoreV1().Services(namespace).Patch(t.Context(), "crowd", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, harness.SettleWithin, func() error {
		list, err := slices.List(t.Context(), of)
		if err != nil {
			return err
		}
		for _, slice := range list.Items {
			if len(slice.Endpoints) > 0 && (len(slice.Ports) != 1 || *slice.Ports[0].Port != 81) {
				return fmt.Errorf("slice %s has the ports %v", slice.Name, slice.Ports)
			}
		}
		return nil
	})
	time.Sleep(time.Second) // in which what was to go has gone
	stop()
	watcher.Stop()
	running.Wait()
	t.Logf("at one moment the slices held %d of %d pods", least, pods)
	if least == pods {
		t.Error("no endpoint was ever missing from the slices: nothing was tested")
	}
}

// fewestHostnames is the least number of hostnames that all slices together held at any moment after they held all.
func fewestHostnames(ctx context.Context, watcher watch.Interface, all int) int {
	held := make(map[string][]discoveryv1.Endpoint) // by slice
	least, began := all, false
	for {
		select {
		case <-ctx.Done():
			return least
		case event, open := <-watcher.ResultChan():
			slice, ok := event.Object.(*discoveryv1.EndpointSlice)
			if !open || !ok {
				return least
			}
			delete(held, slice.Name)
			if event.Type != watch.Deleted {
				held[slice.Name] = slice.Endpoints
			}
			hostnames := make(map[string]bool)
			for _, endpoints := range held {
				for _, e := range endpoints {
					hostnames[*e.Hostname] = true
				}
			}
			if began = began || len(hostnames) == all; began {
				least = min(least, len(hostnames))
			}
		}
	}
}
