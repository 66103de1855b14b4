package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubezone/kubezone/e2e/harness"
)

const (
	byHand     = "by-hand"               // the node whose pods stages.yaml leaves alone
	toldAfter  = time.Second             // how much later than the API server the clients' node hears of endpoints
	forgetting = 1                       // seconds after which connection tracking forgets a UDP client
	mustBeTold = 3500 * time.Millisecond // after SIGTERM: before lameduck (5 s) is over for those that tracking remembers
	podNetwork = "10.244.9."             // of the pods by hand
	inRollout  = ".rollout.svc.cluster.local."
)

// A rolling update of the recommended deployment: two replicas from our image, each in a network namespace of its own, are
// replaced one after the other while clients ask at the address of the Service, and no query is lost. The controllers are
// real; kubelet and kube-proxy are this test.
func TestRollingUpdateLosesNothing(t *testing.T) {
	t.Parallel()
	if err := podsRefused(); err != nil {
		t.Skipf("skipped: %v", err)
	}
	c := newCluster(t, harness.Options{Families: harness.IPv4Only, Workloads: true})
	c.Apply(t, "rollout", "testdata/nginx-service.yaml")
	c.Apply(t, "rollout", "testdata/no-selector.yaml")
	ip := c.Service(t, "rollout", "nginx-service").Spec.ClusterIP
	onlyByHand(t, c)
	apply(t, c, render(t, manifests+"/overlays/recommended"))
	k := startKubelet(t, c)
	k.awaitRollout(t)

	// What the authors of lameduck times count on is that nodes hear in time that a replica ends. On a machine so busy
	// that they did not, a lost query says nothing.
	for range 5 {
		old := k.names(t)
		load := startLoad(t, k.clients.At(dnsAddress+":53"), map[string]string{
			"nginx-service" + inRollout + " A":             "A " + ip,
			"_web._tcp.nginx-service" + inRollout + " SRV": "SRV 5000 nginx-service" + inRollout,
			"database" + inRollout + " A":                  "A 192.0.2.101, A 192.0.2.102",
			"nothing" + inRollout + " A":                   "NXDOMAIN",
			harness.Reverse(ip) + " PTR":                   "PTR nginx-service" + inRollout,
			"www.example.org. A":                           "A 198.51.100.80",
		})
		restart := fmt.Sprintf(`{"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": %q}}}}}`, time.Now().Format(time.RFC3339Nano))
		_, err := c.Client.AppsV1().Deployments("kube-system").Patch(t.Context(), "coredns", types.StrategicMergePatchType, []byte(restart), metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		k.awaitRollout(t)
		if names := k.names(t); slices.ContainsFunc(names, func(name string) bool { return slices.Contains(old, name) }) {
			t.Fatalf("pods %v; want others than %v", names, old)
		}
		slowest := k.slowest(old)
		if slowest < mustBeTold {
			t.Logf("the clients' node heard of an end within %.1fs", slowest.Seconds())
			load.stop(t)
			return
		}
		load.abandon()
		t.Logf("the clients' node heard of an end only after %.1fs; once more", slowest.Seconds())
	}
	t.Fatalf("nodes never heard of an end within %.1fs", mustBeTold.Seconds())
}

// onlyByHand makes the node by-hand, and keeps new pods off the others.
func onlyByHand(t *testing.T, c *harness.Cluster) {
	t.Helper()
	nodes := c.Client.CoreV1().Nodes()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: byHand, Labels: map[string]string{corev1.LabelOSStable: "linux", corev1.LabelHostname: byHand}}}
	if _, err := nodes.Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"node-0", "node-1"} {
		if _, err := nodes.Patch(t.Context(), name, types.MergePatchType, []byte(`{"spec": {"unschedulable": true}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// A kubelet runs the pods of the node by-hand, each in a network namespace of its own: it probes them, says what has become
// of them, and ends them in their own time. Beside it is a namespace of clients, in which the address of the Service leads
// to the ready endpoints by rules like kube-proxy's.
type kubelet struct {
	cluster *harness.Cluster
	clients *harness.Netns
	running map[string]*runningPod // by name; those that have ended too

	mu        sync.Mutex           // guards the rest
	endpoints []string             // to which the Service leads
	left      map[string]time.Time // when one was taken off the rules
}

// A runningPod is one that was started.
type runningPod struct {
	*node
	address string
	ready   bool
	probed  time.Time // last
	ending  time.Time // when it was told to end
}

func startKubelet(t *testing.T, c *harness.Cluster) *kubelet {
	t.Helper()
	k := &kubelet{cluster: c, clients: harness.NewNetns(t), running: map[string]*runningPod{}, left: map[string]time.Time{}}
	for _, command := range []string{
		"ip link add pods type bridge",
		"ip link set pods up",
		"ip address add " + podNetwork + "254/24 dev pods",
		"ip route add " + dnsAddress + "/32 dev pods",
		"nft add table ip proxy",
		"nft add chain ip proxy output { type nat hook output priority -100; }",
		// All clients have one address here, so that a port comes again soon. What tracking remembers of it must not lead to
		// a replica that has gone meanwhile.
		fmt.Sprintf("sysctl -q -w net.netfilter.nf_conntrack_udp_timeout=%d net.netfilter.nf_conntrack_udp_timeout_stream=%[1]d", forgetting),
	} {
		words := strings.Fields(command)
		k.clients.Run(t, words[0], words[1:]...)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var proxying sync.WaitGroup
	proxying.Go(func() { k.proxy(ctx, t) })
	t.Cleanup(func() {
		cancel()
		proxying.Wait()
	})
	return k
}

// sync does for every pod what is next.
func (k *kubelet) sync(t *testing.T) []corev1.Pod {
	t.Helper()
	pods := k.cluster.Client.CoreV1().Pods("kube-system")
	list, err := pods.List(t.Context(), metav1.ListOptions{LabelSelector: "k8s-app=kube-dns", FieldSelector: "spec.nodeName=" + byHand})
	if err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		pod := &list.Items[i]
		p := k.running[pod.Name]
		probe := pod.Spec.Containers[0].ReadinessProbe
		switch {
		case p == nil:
			k.start(t, pod)
		case pod.DeletionTimestamp != nil && p.ending.IsZero():
			p.ending = time.Now()
			p.server.Signal(syscall.SIGTERM)
		case pod.DeletionTimestamp != nil && p.server.Ended():
			now := int64(0)
			_ = pods.Delete(t.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}) // it may be gone by now
		case pod.DeletionTimestamp == nil && p.server.Ended():
			t.Fatalf("%s ended by itself:\n%s", pod.Name, p.server.Tail(20))
		case !p.ready && time.Since(p.probed) > time.Duration(probe.PeriodSeconds)*time.Second:
			p.probed = time.Now()
			if status, _, err := p.server.Get(p.server.Ready + probe.HTTPGet.Path); err == nil && status == 200 {
				p.ready = true
				k.tell(t, pod.Name, p.address)
			}
		}
	}
	return list.Items
}

// start runs a pod's container, and gives it its address.
func (k *kubelet) start(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	number := len(k.running) + 1
	p := &runningPod{node: newNode(t, k.cluster), address: fmt.Sprint(podNetwork, number)}
	end := fmt.Sprint("pod", number)
	k.clients.Link(t, end, p.Netns, "eth0")
	k.clients.Run(t, "ip", "link", "set", end, "master", "pods")
	p.Run(t, "ip", "address", "add", p.address+"/24", "dev", "eth0")
	p.startPod(t, k.cluster, pod.Spec)
	k.running[pod.Name] = p
}

// tell says that a pod is ready.
func (k *kubelet) tell(t *testing.T, name, address string) {
	t.Helper()
	status := fmt.Sprintf(`{"status": {"phase": "Running", "podIP": %q, "podIPs": [{"ip": %[1]q}], "conditions": [{"type": "Ready", "status": "True"}]}}`, address)
	_, err := k.cluster.Client.CoreV1().Pods("kube-system").Patch(t.Context(), name, types.StrategicMergePatchType, []byte(status), metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
}

// proxy has the rules follow the ready endpoints, as late as on a node.
func (k *kubelet) proxy(ctx context.Context, t *testing.T) {
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		ready, err := k.cluster.ReadyAddresses(ctx, "kube-system", "kube-dns", discoveryv1.AddressTypeIPv4)
		if err != nil || len(ready) == 0 || slices.Equal(ready, k.leadsTo()) {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(toldAfter):
		}
		if err := k.lead(ready); err != nil {
			t.Error(err)
			return
		}
	}
}

// lead has the address of the Service lead to endpoints, each as often as the others.
func (k *kubelet) lead(endpoints []string) error {
	var choice []string
	for i, address := range endpoints {
		choice = append(choice, fmt.Sprintf("%d : %s", i, address))
	}
	rules := "flush chain ip proxy output\n"
	for _, protocol := range []string{"udp", "tcp"} {
		rules += fmt.Sprintf("add rule ip proxy output ip daddr %s %s dport 53 dnat to numgen random mod %d map { %s }\n",
			dnsAddress, protocol, len(endpoints), strings.Join(choice, ", "))
	}
	nft := k.clients.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader(rules)
	if output, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s\n%s", err, output, rules)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, address := range k.endpoints {
		if !slices.Contains(endpoints, address) {
			k.left[address] = time.Now()
		}
	}
	k.endpoints = endpoints
	return nil
}

func (k *kubelet) leadsTo() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.endpoints
}

// slowest is how long after they were told to end the rules led to some of these pods.
func (k *kubelet) slowest(names []string) (slowest time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, name := range names {
		p := k.running[name]
		slowest = max(slowest, k.left[p.address].Sub(p.ending))
	}
	return slowest
}

// names are the pods that run and are not told to end.
func (k *kubelet) names(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, pod := range k.cluster.Pods(t, "kube-system", "k8s-app=kube-dns") {
		list = append(list, pod.Name)
	}
	return list
}

// awaitRollout works until the Deployment is whole and of one revision, nothing of another is left, and the rules follow.
func (k *kubelet) awaitRollout(t *testing.T) {
	t.Helper()
	harness.Eventually(t, 3*time.Minute, func() error {
		pods := k.sync(t)
		d := deployment(t, k.cluster)
		if s := d.Status; s.ObservedGeneration != d.Generation || s.Replicas != 2 || s.UpdatedReplicas != 2 || s.AvailableReplicas != 2 || len(pods) != 2 {
			return fmt.Errorf("of %d pods on the node %d are updated and %d available; want 2", len(pods), s.UpdatedReplicas, s.AvailableReplicas)
		}
		var addresses []string
		for _, pod := range pods {
			addresses = append(addresses, pod.Status.PodIP)
		}
		slices.Sort(addresses)
		if got := k.leadsTo(); !slices.Equal(got, addresses) {
			return fmt.Errorf("the Service leads to %v; want %v", got, addresses)
		}
		return nil
	})
}
