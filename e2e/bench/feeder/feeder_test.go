package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/kubezone/kubezone/e2e/bench/population"
	"github.com/kubezone/kubezone/e2e/harness"
)

// start serves population a with its pods until the test ends.
func start(t *testing.T) (f *feeder, client *kubernetes.Clientset, control string) {
	t.Helper()
	p, err := population.New("a")
	if err != nil {
		t.Fatal(err)
	}
	f = newFeeder(p, true)
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	listener, controlListener := listen(), listen()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- f.serve(ctx, listener, controlListener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	client, err = kubernetes.NewForConfig(&rest.Config{
		Host: "http://" + listener.Addr().String(), QPS: -1,
		ContentConfig: rest.ContentConfig{AcceptContentTypes: runtime.ContentTypeProtobuf, ContentType: runtime.ContentTypeProtobuf},
	})
	if err != nil {
		t.Fatal(err)
	}
	return f, client, "http://" + controlListener.Addr().String()
}

func post(t *testing.T, url string) *http.Response {
	t.Helper()
	response, err := http.Post(url, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %s", url, response.Status)
	}
	return response
}

func TestListByPages(t *testing.T) {
	f, client, _ := start(t)
	seen := map[string]bool{}
	options := metav1.ListOptions{Limit: 7}
	version := ""
	for {
		page, err := client.CoreV1().Services("").List(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		if version != "" && page.ResourceVersion != version {
			t.Fatalf("a page of version %s in a list of version %s", page.ResourceVersion, version)
		}
		version = page.ResourceVersion
		for _, s := range page.Items {
			seen[s.Namespace+"/"+s.Name] = true
		}
		if options.Continue = page.Continue; page.Continue == "" {
			break
		}
	}
	if len(seen) != len(f.store.population.Services) {
		t.Errorf("%d services; want %d", len(seen), len(f.store.population.Services))
	}
}

func TestObjectsArriveAsTheyAre(t *testing.T) {
	f, client, _ := start(t)
	p := f.store.population
	headless := metav1.ListOptions{LabelSelector: corev1.IsHeadlessService}
	list, err := client.DiscoveryV1().EndpointSlices("").List(t.Context(), headless)
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) == len(p.Slices) || len(list.Items) == 0 {
		t.Fatalf("%d slices with label %s; want some of %d", len(list.Items), corev1.IsHeadlessService, len(p.Slices))
	}
	last := list.Items[slices.IndexFunc(list.Items, func(s discoveryv1.EndpointSlice) bool {
		return s.Name == population.Headless5000+"-04900"
	})]
	e := last.Endpoints[99]
	if *e.Hostname != "pod-4999" || e.Addresses[0] != population.Addr(20+4999).String() || !*e.Conditions.Ready {
		t.Errorf("the last endpoint of %s is %+v", last.Name, e)
	}
	pods, err := client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got := pods.Items[0].Status.PodIP; got != population.Addr(0).String() {
		t.Errorf("the first pod has address %s", got)
	}
}

// An informer, as the stock plugin uses it, has everything, follows every change, and starts anew after a restart.
func TestInformerFollows(t *testing.T) {
	f, client, control := start(t)
	p := f.store.population
	factory := informers.NewSharedInformerFactory(client, 0)
	store := factory.Discovery().V1().EndpointSlices().Informer().GetStore()
	stop := make(chan struct{})
	defer func() {
		close(stop)
		factory.Shutdown()
	}()
	factory.Start(stop)
	factory.WaitForCacheSync(stop)
	if got := len(store.ListKeys()); got != len(p.Slices) {
		t.Fatalf("%d slices; want %d", got, len(p.Slices))
	}

	response := post(t, control+"/churn?rate=500&for=1s&service="+population.Headless5000)
	defer response.Body.Close()
	changes := 0
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		var c Change
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		addr, err := netip.ParseAddr(c.Addr)
		if err != nil {
			t.Fatal(err)
		}
		changes++
		harness.Eventually(t, 10*time.Second, func() error { return holds(store, addr) })
	}
	if changes < 400 {
		t.Errorf("%d changes in a second; want 500", changes)
	}

	for _, test := range []struct{ name, query string }{
		{"with the objects as they were", "away=100ms"},
		{"with new resource versions", "rewrite=true"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := lists(t, control)
			post(t, control+"/restart?"+test.query).Body.Close()
			harness.Eventually(t, 30*time.Second, func() error {
				if now := lists(t, control); now == before {
					return context.DeadlineExceeded
				}
				return nil
			})
		})
	}
}

func holds(store cache.Store, addr netip.Addr) error {
	for _, o := range store.List() {
		for _, e := range o.(*discoveryv1.EndpointSlice).Endpoints {
			if e.Addresses[0] == addr.String() {
				return nil
			}
		}
	}
	return &net.AddrError{Err: "not seen", Addr: addr.String()}
}

// lists counts the lists of slices that were asked for.
func lists(t *testing.T, control string) int {
	t.Helper()
	response, err := http.Get(control + "/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var s Stats
	if err := json.NewDecoder(response.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	if s.Sent == 0 {
		t.Error("nothing was sent")
	}
	return s.Requests["list endpointslices"] + s.Requests["watchlist endpointslices"]
}
