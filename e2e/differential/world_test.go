package differential

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubezone/kubezone/e2e/harness"
)

// A key names an object in its namespace.
type key struct{ namespace, name string }

// A world is the state of the cluster, as the API server holds it.
type world struct {
	namespaces map[string]*corev1.Namespace
	services   map[key]*corev1.Service
	slices     map[key]*discoveryv1.EndpointSlice
	pods       map[key]*corev1.Pod
	imports    map[key]*serviceImport

	theirs *world // shared, worked out once
}

// What the random objects are made of. The pools are small, so that names come back as other things and addresses belong
// to several.
var (
	namespaceNames = []string{"blue", "red", "green", "svc", "7up"}
	serviceNames   = []string{"web", "db", "3scale", "a", "x-y", "svc", "pod", "dns", "ext", "_tcp", strings.Repeat("l", 63)}
	hostnames      = []string{"web-0", "web-1", "db-0", "10-244-0-1", "a", "zone", "h" + strings.Repeat("o", 62)}
	podNames       = []string{"web-0", "web-1", "p.with.dots", "client", strings.Repeat("p", 63), strings.Repeat("q", 64)}
	portNames      = []string{"http", "dns", "dns-tcp", "p", "tcp", "1a"}
	topologyZones  = []string{"west", "east", "West-1", "west.a", ""}
	tiers          = []string{"front", "back", ""}
	teams          = []string{"a", "b", ""}
	externalNames  = []string{"www.example.org", "www.example.org.", "alias.example.org", "lost.example.org", "away.example.org",
		"big.example.org", "missing.example.org", "x.fail.test", "www.example.invalid", "192.0.2.1",
		"a.blue.svc.cluster.local", "web.blue.svc.cluster.local", "web.red.svc.cluster.local", "ext.blue.svc.cluster.local",
		"ext.red.svc.cluster.local", "db.green.svc.cluster.local", "missing.blue.svc.cluster.local", "blue.svc.cluster.local",
		"nowhere.cluster.local", "dns-version.cluster.local"}
	protocols = []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}
)

// pick returns one of several at random.
func pick[T any](random *rand.Rand, from []T) T { return from[random.IntN(len(from))] }

// in tells whether something happens that does so once in n times.
func in(random *rand.Rand, n int) bool { return random.IntN(n) == 0 }

func endpointAddress(random *rand.Rand, family discoveryv1.AddressType) string {
	if family == discoveryv1.AddressTypeIPv6 {
		return fmt.Sprintf(pick(random, []string{"fd00:244::%x", "fd00:244:%x::", "fd00:244::1:0:0:%x"}), 1+random.IntN(12))
	}
	return fmt.Sprintf("10.244.%d.%d", random.IntN(2), 1+random.IntN(12))
}

// clusterIP is one of two of each family that a service may have by its name.
func clusterIP(random *rand.Rand, at key, family corev1.IPFamily) string {
	n := slices.Index(namespaceNames, at.namespace)
	s := 2*slices.Index(serviceNames, at.name) + random.IntN(2)
	if family == corev1.IPv6Protocol {
		return fmt.Sprintf("fd00:10:96::%x%02x", n+1, s)
	}
	return fmt.Sprintf("10.96.%d.%d", n+1, s)
}

// A gardener changes the cluster at random.
type gardener struct {
	cluster    *harness.Cluster
	random     *rand.Rand
	world      *world
	generation int
}

// change makes a number of random changes, marks the end of each kind of them, and reads the whole state back.
func (g *gardener) change(t *testing.T, changes int) {
	t.Helper()
	for range changes {
		n := pick(g.random, namespaceNames)
		var err error
		switch what := g.random.IntN(30); {
		case g.world.namespaces[n] == nil:
			err = g.createNamespace(t.Context(), n)
		case what == 0 && len(g.world.namespaces) > len(namespaceNames): // some of those below it are the API server's own
			err = g.deleteNamespace(t.Context(), n)
		case what == 1:
			err = g.relabelNamespace(t.Context(), n)
		case what < 8:
			err = g.changeService(t.Context(), key{n, pick(g.random, serviceNames[:len(serviceNames)-1])})
		case what == 8:
			err = g.changeService(t.Context(), key{n, serviceNames[len(serviceNames)-1]})
		case what < 17:
			err = g.changeSlice(t.Context(), n)
		case what >= 25:
			err = g.changeImport(t.Context(), key{n, pick(g.random, serviceNames[:5])})
		case what >= 20:
			err = g.changeImportedSlice(t.Context(), n)
		default:
			err = g.changePod(t.Context(), key{n, pick(g.random, podNames)})
		}
		if err != nil {
			t.Fatalf("state %d: %v", g.generation, err)
		}
	}
	g.generation++
	if err := g.mark(t.Context()); err != nil {
		t.Fatalf("state %d: marks: %v", g.generation, err)
	}
	g.read(t)
}

// read takes the state from the API server, defaults and all.
func (g *gardener) read(t *testing.T) {
	t.Helper()
	ctx, all := t.Context(), metav1.ListOptions{}
	namespaces, err := g.cluster.Client.CoreV1().Namespaces().List(ctx, all)
	if err != nil {
		t.Fatal(err)
	}
	services, err := g.cluster.Client.CoreV1().Services("").List(ctx, all)
	if err != nil {
		t.Fatal(err)
	}
	sliceList, err := g.cluster.Client.DiscoveryV1().EndpointSlices("").List(ctx, all)
	if err != nil {
		t.Fatal(err)
	}
	pods, err := g.cluster.Client.CoreV1().Pods("").List(ctx, all)
	if err != nil {
		t.Fatal(err)
	}
	imports, err := g.readImports(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		namespaces: map[string]*corev1.Namespace{}, services: map[key]*corev1.Service{}, slices: map[key]*discoveryv1.EndpointSlice{},
		pods: map[key]*corev1.Pod{}, imports: imports,
	}
	for i := range namespaces.Items {
		w.namespaces[namespaces.Items[i].Name] = &namespaces.Items[i]
	}
	for i := range services.Items {
		w.services[key{services.Items[i].Namespace, services.Items[i].Name}] = &services.Items[i]
	}
	for i := range sliceList.Items {
		w.slices[key{sliceList.Items[i].Namespace, sliceList.Items[i].Name}] = &sliceList.Items[i]
	}
	for i := range pods.Items {
		w.pods[key{pods.Items[i].Namespace, pods.Items[i].Name}] = &pods.Items[i]
	}
	w.theirs = w.shared()
	g.world = w
}

func (g *gardener) createNamespace(ctx context.Context, name string) error {
	made, err := g.cluster.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: g.label("team", teams)},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	g.world.namespaces[name] = made
	// Admission may still see a namespace of this name that has just been deleted.
	return harness.Poll(harness.SettleWithin, func() error {
		_, err := g.cluster.Client.CoreV1().ConfigMaps(name).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "probe"}},
			metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	})
}

func (g *gardener) label(name string, values []string) map[string]string {
	if value := pick(g.random, values); value != "" {
		return map[string]string{name: value}
	}
	return nil
}

func (g *gardener) relabelNamespace(ctx context.Context, name string) error {
	namespace := g.world.namespaces[name].DeepCopy()
	namespace.Labels = g.label("team", teams)
	changed, err := g.cluster.Client.CoreV1().Namespaces().Update(ctx, namespace, metav1.UpdateOptions{})
	g.world.namespaces[name] = changed
	return err
}

// deleteNamespace empties a namespace and deletes it, as the namespace controller does.
func (g *gardener) deleteNamespace(ctx context.Context, name string) error {
	for at := range g.world.services {
		if at.namespace == name {
			if err := g.deleteService(ctx, at); err != nil {
				return err
			}
		}
	}
	for at := range g.world.slices {
		if at.namespace == name {
			if err := g.deleteSlice(ctx, at); err != nil {
				return err
			}
		}
	}
	for at := range g.world.pods {
		if at.namespace == name {
			if err := g.deletePod(ctx, at); err != nil {
				return err
			}
		}
	}
	for at := range g.world.imports {
		if at.namespace == name {
			if err := g.deleteImport(ctx, at); err != nil {
				return err
			}
		}
	}
	return g.finalize(ctx, name)
}

// finalize deletes an empty namespace.
func (g *gardener) finalize(ctx context.Context, name string) error {
	namespaces := g.cluster.Client.CoreV1().Namespaces()
	if err := namespaces.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	namespace, err := namespaces.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	namespace.Spec.Finalizers = nil
	_, err = namespaces.Finalize(ctx, namespace, metav1.UpdateOptions{})
	delete(g.world.namespaces, name)
	return err
}

// changeService creates, deletes or updates a service.
func (g *gardener) changeService(ctx context.Context, at key) error {
	services := g.cluster.Client.CoreV1().Services(at.namespace)
	have := g.world.services[at]
	switch {
	case at.name == "_tcp":
		return nil // no service may be called this; queries are
	case have != nil && in(g.random, 2):
		return g.deleteService(ctx, at)
	case have != nil:
		changed := have.DeepCopy()
		changed.Labels = g.label("tier", tiers)
		switch {
		case have.Spec.Type == corev1.ServiceTypeExternalName:
			changed.Spec.ExternalName = pick(g.random, externalNames)
		case have.Spec.Type == corev1.ServiceTypeClusterIP: // the others' ports have node ports, which would have to stay
			changed.Spec.Ports = g.servicePorts(have.Spec.ClusterIP != corev1.ClusterIPNone)
		}
		changed, err := services.Update(ctx, changed, metav1.UpdateOptions{})
		g.world.services[at] = changed
		return err
	}
	made := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: at.name, Labels: g.label("tier", tiers)}}
	g.specify(&made.Spec, at)
	made, err := services.Create(ctx, made, metav1.CreateOptions{})
	g.world.services[at] = made
	if err != nil || made.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return err
	}
	made.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.88"}, {Hostname: "lb.example.org"}}
	g.world.services[at], err = services.UpdateStatus(ctx, made, metav1.UpdateOptions{})
	return err
}

func (g *gardener) deleteService(ctx context.Context, at key) error {
	delete(g.world.services, at)
	return g.cluster.Client.CoreV1().Services(at.namespace).Delete(ctx, at.name, metav1.DeleteOptions{})
}

func (g *gardener) deleteSlice(ctx context.Context, at key) error {
	delete(g.world.slices, at)
	return g.cluster.Client.DiscoveryV1().EndpointSlices(at.namespace).Delete(ctx, at.name, metav1.DeleteOptions{})
}

func (g *gardener) specify(spec *corev1.ServiceSpec, at key) {
	kind := g.random.IntN(12)
	if at.name == "ext" || kind == 0 {
		spec.Type, spec.ExternalName = corev1.ServiceTypeExternalName, pick(g.random, externalNames)
		if in(g.random, 2) {
			spec.Ports = g.servicePorts(false)
		}
		return
	}
	families := [][]corev1.IPFamily{{corev1.IPv4Protocol}, {corev1.IPv4Protocol}, {corev1.IPv6Protocol},
		{corev1.IPv4Protocol, corev1.IPv6Protocol}, {corev1.IPv6Protocol, corev1.IPv4Protocol}}
	spec.IPFamilies = pick(g.random, families)
	policy := corev1.IPFamilyPolicySingleStack
	if len(spec.IPFamilies) == 2 {
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	spec.IPFamilyPolicy = &policy
	if kind < 6 {
		spec.ClusterIP = corev1.ClusterIPNone
		spec.Ports = g.servicePorts(false)
		return
	}
	for _, family := range spec.IPFamilies {
		spec.ClusterIPs = append(spec.ClusterIPs, clusterIP(g.random, at, family))
	}
	spec.ClusterIP = spec.ClusterIPs[0]
	spec.Ports = g.servicePorts(true)
	switch kind {
	case 6:
		spec.Type = corev1.ServiceTypeNodePort
	case 7:
		spec.Type = corev1.ServiceTypeLoadBalancer
		spec.ExternalIPs = []string{"192.0.2.99"}
	}
}

// servicePorts are none, an unnamed one, or several.
func (g *gardener) servicePorts(needed bool) []corev1.ServicePort {
	if !needed && in(g.random, 4) {
		return nil
	}
	if in(g.random, 4) {
		return []corev1.ServicePort{{Port: g.port(), Protocol: pick(g.random, protocols)}}
	}
	var ports []corev1.ServicePort
	for _, name := range portNames {
		port := corev1.ServicePort{Name: name, Port: g.port(), Protocol: pick(g.random, protocols)}
		taken := slices.ContainsFunc(ports, func(p corev1.ServicePort) bool { return p.Port == port.Port && p.Protocol == port.Protocol })
		if !taken && in(g.random, 3) {
			ports = append(ports, port)
		}
	}
	if len(ports) == 0 {
		ports = []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}
	}
	return ports
}

func (g *gardener) port() int32 { return int32(80 + g.random.IntN(5)) }

// changeSlice creates, deletes or updates a slice, most of the time one of a service.
func (g *gardener) changeSlice(ctx context.Context, namespace string) error {
	service := pick(g.random, serviceNames[:4])
	family := pick(g.random, []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6})
	if in(g.random, 60) {
		family = discoveryv1.AddressTypeFQDN
	}
	name := fmt.Sprintf("%s-%s-%d", service, strings.ToLower(string(family)), g.random.IntN(2))
	at := key{namespace, name}
	if g.world.slices[at] != nil && in(g.random, 4) {
		return g.deleteSlice(ctx, at)
	}
	labels := map[string]string{}
	if !in(g.random, 20) {
		labels[discoveryv1.LabelServiceName] = service
	}
	return g.putSlice(ctx, at, family, labels)
}

// putSlice creates or updates a slice with these labels and one at random.
func (g *gardener) putSlice(ctx context.Context, at key, family discoveryv1.AddressType, labels map[string]string) error {
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: at.name}, AddressType: family}
	have := g.world.slices[at]
	if have != nil {
		slice.ObjectMeta = *have.ObjectMeta.DeepCopy()
	}
	maps.Copy(labels, g.label("tier", tiers))
	slice.Labels = labels
	slice.Ports = g.slicePorts()
	count := g.random.IntN(5)
	switch g.random.IntN(15) {
	case 0:
		count = 40 // more than a UDP reply holds
	case 1, 2:
		count = 8 // without the addresses of the targets, a small one holds them
	}
	for i := range count {
		e := g.endpoint(family, at.namespace, i, count)
		if labels[labelImport] != "" {
			for i := range e.Addresses {
				e.Addresses[i] = foreign(e.Addresses[i])
			}
		}
		for _, other := range slice.Endpoints {
			if slices.ContainsFunc(other.Addresses, func(a string) bool { return slices.Contains(e.Addresses, a) }) {
				e.Zone = other.Zone // an address is in one place
			}
		}
		slice.Endpoints = append(slice.Endpoints, e)
	}
	slicesOf := g.cluster.Client.DiscoveryV1().EndpointSlices(at.namespace)
	var err error
	if have == nil {
		slice, err = slicesOf.Create(ctx, slice, metav1.CreateOptions{})
	} else {
		slice, err = slicesOf.Update(ctx, slice, metav1.UpdateOptions{})
	}
	g.world.slices[at] = slice
	return err
}

func (g *gardener) slicePorts() []discoveryv1.EndpointPort {
	var ports []discoveryv1.EndpointPort
	if in(g.random, 5) {
		return nil
	}
	if in(g.random, 5) {
		number, protocol, none := g.port(), pick(g.random, protocols), ""
		return []discoveryv1.EndpointPort{{Name: &none, Port: &number, Protocol: &protocol}}
	}
	for _, name := range portNames {
		if in(g.random, 4) {
			number, protocol := g.port(), pick(g.random, protocols)
			ports = append(ports, discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: &protocol})
		}
	}
	return ports
}

func (g *gardener) endpoint(family discoveryv1.AddressType, namespace string, i, count int) discoveryv1.Endpoint {
	if family == discoveryv1.AddressTypeFQDN {
		return discoveryv1.Endpoint{Addresses: []string{"host.example.org"}}
	}
	e := discoveryv1.Endpoint{Addresses: []string{endpointAddress(g.random, family)}}
	switch {
	case count > 10 && family == discoveryv1.AddressTypeIPv4:
		e.Addresses[0] = fmt.Sprintf("10.244.7.%d", i)
	case count > 10:
		e.Addresses[0] = fmt.Sprintf("fd00:244:7::%x", i+1)
	case in(g.random, 10):
		e.Addresses = append(e.Addresses, endpointAddress(g.random, family))
	case in(g.random, 15): // an endpoint at the ClusterIP of a service
		if ips := g.clusterIPs(family); len(ips) > 0 {
			e.Addresses[0] = pick(g.random, ips)
		}
	}
	if local := machineIn(family); local != "" && in(g.random, 60) { // a service in front of the servers themselves
		e.Addresses = []string{local}
	}
	e.Conditions = discoveryv1.EndpointConditions{Ready: maybe(g.random), Serving: maybe(g.random), Terminating: maybe(g.random)}
	if in(g.random, 3) {
		hostname := pick(g.random, hostnames)
		e.Hostname = &hostname
	}
	if in(g.random, 2) {
		e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: pick(g.random, podNames)}
	}
	if zone := pick(g.random, topologyZones); zone != "" {
		e.Zone = &zone
	}
	return e
}

// clusterIPs are those that services have now, of one family.
func (g *gardener) clusterIPs(family discoveryv1.AddressType) []string {
	var all []string
	for _, at := range slices.SortedFunc(maps.Keys(g.world.services), key.compare) {
		for _, ip := range g.world.services[at].Spec.ClusterIPs {
			if ip != corev1.ClusterIPNone && strings.Contains(ip, ":") == (family == discoveryv1.AddressTypeIPv6) {
				all = append(all, ip)
			}
		}
	}
	return all
}

// machineIn is an address of this machine in a family, or "".
func machineIn(family discoveryv1.AddressType) string {
	for _, a := range machine() {
		if a.Is4() == (family == discoveryv1.AddressTypeIPv4) {
			return a.String()
		}
	}
	return ""
}

// maybe is true, absent or false; false is rarer.
func maybe(random *rand.Rand) *bool {
	yes, no := true, false
	return pick(random, []*bool{&yes, &yes, nil, nil, &no})
}

func (g *gardener) changePod(ctx context.Context, at key) error {
	if len(at.name) > 63 || strings.Contains(at.name, ".") {
		return nil // names of endpoints' pods only
	}
	pods := g.cluster.Client.CoreV1().Pods(at.namespace)
	pod := g.world.pods[at]
	var err error
	switch {
	case pod != nil && in(g.random, 3):
		return g.deletePod(ctx, at)
	case pod == nil:
		pod, err = pods.Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: at.name, Labels: g.label("tier", tiers)},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "c"}}},
		}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
	}
	pod = pod.DeepCopy()
	pod.Status.Phase = pick(g.random, []corev1.PodPhase{corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed})
	pod.Status.PodIPs = []corev1.PodIP{{IP: endpointAddress(g.random, discoveryv1.AddressTypeIPv4)}}
	if in(g.random, 2) {
		pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: endpointAddress(g.random, discoveryv1.AddressTypeIPv6)})
	}
	pod.Status.PodIP = pod.Status.PodIPs[0].IP
	g.world.pods[at], err = pods.UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	return err
}

func (g *gardener) deletePod(ctx context.Context, at key) error {
	delete(g.world.pods, at)
	now := int64(0)
	return g.cluster.Client.CoreV1().Pods(at.namespace).Delete(ctx, at.name, metav1.DeleteOptions{GracePeriodSeconds: &now})
}

// markNamespace holds the marks. Every option set shows it.
const markNamespace = "mark"

// mark writes one object of each kind last, whose answer then tells that everything before it has been seen: an API
// server sends the changes of a kind in order.
func (g *gardener) mark(ctx context.Context) error {
	front, team := map[string]string{"tier": "front"}, map[string]string{"team": "a"}
	client := g.cluster.Client
	if g.world.namespaces[markNamespace] == nil {
		for _, name := range []string{markNamespace, markNamespace + "-0"} {
			_, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: team}}, metav1.CreateOptions{})
			if err != nil {
				return err
			}
		}
	}
	spec := corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "c"}}}
	pod, err := client.CoreV1().Pods(markNamespace).Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "mark", Labels: front}, Spec: spec}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		pod, err = client.CoreV1().Pods(markNamespace).Get(ctx, "mark", metav1.GetOptions{})
	}
	if err != nil {
		return err
	}
	pod.Status.Phase, pod.Status.PodIP, pod.Status.PodIPs = corev1.PodRunning, g.markAddress(), []corev1.PodIP{{IP: g.markAddress()}}
	if _, err := client.CoreV1().Pods(markNamespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
		return err
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "mark", Labels: map[string]string{"tier": "front", discoveryv1.LabelServiceName: "slices"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{g.markAddress()}}},
	}
	services := client.CoreV1().Services(markNamespace)
	now := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "services", Labels: front},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: g.markName()},
	}
	if have := g.world.services[key{markNamespace, "services"}]; have == nil {
		headless := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "slices", Labels: front}, Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}}
		if _, err := services.Create(ctx, headless, metav1.CreateOptions{}); err != nil {
			return err
		}
		for _, s := range []*discoveryv1.EndpointSlice{slice, staying(slice)} {
			if _, err := client.DiscoveryV1().EndpointSlices(markNamespace).Create(ctx, s, metav1.CreateOptions{}); err != nil {
				return err
			}
		}
		if _, err := services.Create(ctx, now, metav1.CreateOptions{}); err != nil {
			return err
		}
	} else {
		now.ObjectMeta = have.ObjectMeta
		if _, err := services.Update(ctx, now, metav1.UpdateOptions{}); err != nil {
			return err
		}
		slice.ObjectMeta = g.world.slices[key{markNamespace, "mark"}].ObjectMeta
		if _, err := client.DiscoveryV1().EndpointSlices(markNamespace).Update(ctx, slice, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	if err := g.markImports(ctx); err != nil {
		return err
	}
	// The namespaces last: one of two goes, the other comes.
	_, err = client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: g.markedNamespace(g.generation), Labels: team}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return g.finalize(ctx, g.markedNamespace(g.generation-1))
}

// stayingAddress is that of an endpoint that stays, beside one that goes with each state. From several slices of a service
// we take away what is gone a little later than stock does, in case it has but moved.
const stayingAddress = "10.254.0.1"

// staying is a second slice of a mark's service.
func staying(mark *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	second := mark.DeepCopy()
	second.Name += "-too"
	second.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{stayingAddress}}}
	return second
}

func (g *gardener) markedNamespace(generation int) string {
	return fmt.Sprintf("%s-%d", markNamespace, generation%2)
}

func (g *gardener) markName() string { return fmt.Sprintf("state-%d.example.org", g.generation) }

func (g *gardener) markAddress() string {
	return fmt.Sprintf("10.255.%d.%d", g.generation>>8, g.generation&0xff)
}

// marks are questions and the answers that tell that a server has seen the latest state, for one block.
func (g *gardener) marks(b *block) map[string]string {
	zone := ".svc." + harness.Domain + ". "
	marks := map[string]string{
		"services." + markNamespace + zone + "CNAME":   "CNAME " + g.markName() + ".",
		g.markedNamespace(g.generation) + zone + "A":   "NODATA",
		g.markedNamespace(g.generation-1) + zone + "A": missing(b, g.markedNamespace(g.generation-1)+zone[:len(zone)-1]),
	}
	if !b.noEndpoints {
		marks["slices."+markNamespace+zone+"A"] = "A " + stayingAddress + ", A " + g.markAddress()
	}
	if slices.Contains(b.zones, importZone) {
		zone := "." + markNamespace + ".svc." + importZone + " A"
		marks["imports"+zone], marks["imported"+zone] = "A "+g.markAddress(), "A "+stayingAddress+", A "+g.markAddress()
	}
	if b.pods == podsVerified {
		name := strings.ReplaceAll(g.markAddress(), ".", "-") + "." + markNamespace + ".pod." + harness.Domain + ". A"
		marks[name] = "A " + g.markAddress()
	}
	return marks
}

// missing is what an A query for a name that does not exist comes to.
func missing(b *block, name string) string {
	if b.fallsThrough(name) {
		return "NODATA" // the next plugin has a wildcard
	}
	return "NXDOMAIN"
}

// awaitBoth waits until both servers have seen the latest state in every block.
func (g *gardener) awaitBoth(t *testing.T, servers ...*harness.Server) {
	t.Helper()
	const within = 30 * time.Second // a change takes milliseconds; a start of two servers on a busy machine takes seconds
	for _, s := range servers {
		for _, b := range blocks {
			marks := g.marks(b)
			at := *s
			at.DNS = b.at(s)
			harness.Eventually(t, within, func() error {
				for _, text := range slices.Sorted(maps.Keys(marks)) {
					reply, err := at.Exchange(harness.Question{Text: text}.Message(t), "udp")
					if err != nil {
						return fmt.Errorf("%s, %s: %w", b.name, text, err)
					}
					if got := harness.Text(reply); got != marks[text] {
						return fmt.Errorf("%s, %s: %s; want %s", b.name, text, got, marks[text])
					}
				}
				return nil
			})
		}
	}
}
