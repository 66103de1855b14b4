package faults

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubezone/kubezone/e2e/harness"
)

// watched is a Corefile with everything that the dashboard has a picture of.
const watched = `.:{$DNS} {
	udpbatch {
		#udpbatch
	}
	errors
	health :{$HEALTH}
	ready :{$READY}
	prometheus :{$METRICS}
	reload 2s 1s
	kubezone cluster.local in-addr.arpa ip6.arpa {
		kubeconfig {$KUBECONFIG}
		fallthrough in-addr.arpa ip6.arpa
		#options
	}
	cache 30
	forward . {$UPSTREAM}
}
`

// A watch is a server whose metrics are scraped. Between two pages lie 15 s for the rules and milliseconds for the test:
// what a rule says about rates and states it says of either.
type watch struct {
	*rig
	proxy    *proxy
	server   *harness.Server
	snapshot string
	pages    string // the folder of what was scraped
	scraped  int
}

// An alarm is a fault, and the alerts that it must set off.
type alarm struct {
	fault       string
	alerts      []string
	perhaps     []string // alerts that it may set off as well, if it lasts
	options     string   // of kubezone
	udpbatch    string
	environment string
	upstream    string       // "silent" for one that never answers
	began       func(*watch) // before the first page; nil for a server that is ready
	run         func(*watch) // after the first pages
}

// Pages of five minutes, which is the longest `for` and the span of most rates, and a few more.
const calm, whole = 5, 30

var alarms = []alarm{
	{fault: "none", environment: "GOMEMLIMIT=1GiB", run: func(w *watch) {
		w.slice("pods", time.Now(), "192.0.2.21")
		w.scrape(whole)
	}},
	{fault: "the server is gone", alerts: []string{"KubezoneAbsent"}, run: func(w *watch) {
		w.server.Kill()
		w.scrape(2 * whole) // until what is remembered is too old
	}},
	{fault: "no API server at the start", alerts: []string{"KubezoneNotSynced", "KubezoneServfail"},
		began: func(w *watch) {
			w.server.ExpectWithin(w, 10*time.Second, w.question("kept"), "SERVFAIL")
		},
		run: func(w *watch) { w.scrape(whole) }},
	{fault: "the API server goes away", alerts: []string{"KubezoneStale"}, run: func(w *watch) {
		w.proxy.refuse()
		w.awaits(`coredns_kubezone_state{kind="services",state="stale"} 1`)
		w.scrape(whole)
	}},
	{fault: "a watch drops a window", alerts: []string{"KubezoneDrift"}, options: "selfcheck 2s", run: func(w *watch) {
		w.proxy.set(func() { w.proxy.silent = true })
		w.make("lost", "")
		time.Sleep(500 * time.Millisecond) // the event is on its way, and dropped
		w.proxy.mend()
		w.awaits(`coredns_kubezone_drift_total{kind="services"} 1`)
		w.scrape(calm)
	}},
	{fault: "a list without services", alerts: []string{"KubezoneBrakeEngaged", "KubezoneStale"}, run: func(w *watch) {
		w.proxy.set(func() {
			w.proxy.answer = func(r *http.Request) int {
				if isServices(r) && isWatch(r) && r.URL.Query().Get("sendInitialEvents") == "" {
					return http.StatusGone
				}
				return 0
			}
			w.proxy.rewrap = func(r *http.Request) {
				if q := r.URL.Query(); isServices(r) {
					q.Set("labelSelector", "none=such")
					r.URL.RawQuery = q.Encode()
				}
			}
		})
		w.proxy.cut()
		w.awaits(`coredns_kubezone_brake_engaged{kind="services"} 1`)
		w.scrape(whole)
	}},
	{fault: "changes take 10 s to be told of", alerts: []string{"KubezoneProgrammingSlow"}, run: func(w *watch) {
		for n := range whole {
			w.slice("pods", time.Now().Add(-10*time.Second), fmt.Sprintf("192.0.2.%d", 100+n))
			w.scrape(1)
		}
	}},
	{fault: "an upstream that does not answer", alerts: []string{"KubezoneSheds"}, perhaps: []string{"KubezoneServfail"}, upstream: "silent", udpbatch: "workers 2\n\t\tqueue 1",
		run: func(w *watch) {
			for n := range whole {
				w.burst(fmt.Sprintf("burst-%d.example.org.", n))
				w.scrape(1)
			}
		}},
	{fault: "a small limit of memory", alerts: []string{"KubezoneMemoryNearLimit"}, environment: "GOMEMLIMIT=20MiB",
		run: func(w *watch) { w.scrape(whole) }},
	{fault: "a snapshot that cannot be written", alerts: []string{"KubezoneSnapshotErrors"}, options: "snapshot #snapshot/file 1s",
		run: func(w *watch) {
			if err := os.RemoveAll(w.snapshot); err != nil {
				w.Fatal(err)
			}
			w.make("one-more", "")
			w.awaits(`coredns_kubezone_snapshot_errors_total 1`)
			w.scrape(calm)
		}},
	{fault: "a slice with an address that is none", alerts: []string{"KubezoneSkippedObjects"}, run: func(w *watch) {
		cluster.PutRaw(w, "endpointslices/"+w.namespace+"/broken", strings.ReplaceAll(brokenSlice, "NAMESPACE", w.namespace))
		w.awaits(`coredns_kubezone_skipped_objects_total{kind="endpointslices"} 1`)
		w.scrape(calm)
	}},
	{fault: "a broken Corefile", alerts: []string{"CorednsReloadFailed"}, run: func(w *watch) {
		text, err := os.ReadFile(w.server.Corefile)
		if err != nil {
			w.Fatal(err)
		}
		harness.WriteFile(w, w.server.Corefile, strings.Replace(string(text), "fallthrough", "ttl soon\n\t\tfallthrough", 1))
		w.awaits(`coredns_reload_failed_total 1`)
		w.scrape(calm)
	}},
	// A panic cannot be had from outside: the pages are changed.
	{fault: "a panic", alerts: []string{"CorednsPanics"}, run: func(w *watch) {
		w.scrape(calm)
		pages, err := filepath.Glob(filepath.Join(w.pages, "*"))
		if err != nil {
			w.Fatal(err)
		}
		for _, path := range pages[len(pages)-calm:] {
			page, err := os.ReadFile(path)
			if err != nil {
				w.Fatal(err)
			}
			harness.WriteFile(w, path, strings.Replace(string(page), "\ncoredns_panics_total 0\n", "\ncoredns_panics_total 1\n", 1))
		}
	}},
}

const brokenSlice = `{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
	"metadata": {"name": "broken", "namespace": "NAMESPACE", "uid": "5a8d1b1e-0000-4000-8000-000000000001",
		"creationTimestamp": "2020-01-01T00:00:00Z", "labels": {"kubernetes.io/service-name": "pods"}},
	"addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.300"]}]}`

// Every rule is evaluated on what the server really offers while something is wrong: the alerts that belong to the fault
// fire, and no others. While nothing is wrong every record and every query of the dashboard has something to show.
func TestAlerts(t *testing.T) {
	promcheck := filepath.Join(t.TempDir(), "promcheck")
	if output, err := exec.Command("go", "-C", "../promcheck", "build", "-o", promcheck, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build promcheck: %v\n%s", err, output)
	}
	fired := map[string]bool{}
	var all map[string]string
	for n, a := range alarms {
		t.Run(a.fault, func(t *testing.T) {
			w := startWatch(t, a, fmt.Sprintf("alarm-%d", n))
			w.scrape(calm)
			a.run(w)
			v := w.judge(promcheck)
			all = v.Alerts
			for name, state := range v.Alerts {
				if state != "firing" {
					continue
				}
				fired[name] = true
				if !slices.Contains(a.alerts, name) && !slices.Contains(a.perhaps, name) {
					t.Errorf("%s fires", name)
				}
			}
			for _, name := range a.alerts {
				if state := v.Alerts[name]; state != "firing" {
					t.Errorf("%s is %q; want it to fire", name, state)
				}
			}
			if a.fault == "none" {
				hasEverything(t, v)
			}
		})
	}
	for name := range all {
		if !fired[name] && !t.Failed() {
			t.Errorf("%s never fired: the table lacks its fault", name)
		}
	}
}

// A verdict is what promcheck says.
type verdict struct {
	Records, Queries map[string]int
	Alerts           map[string]string
}

// hasEverything checks that nothing on the dashboard is empty.
func hasEverything(t *testing.T, v verdict) {
	t.Helper()
	if len(v.Records) == 0 || len(v.Queries) == 0 || len(v.Alerts) == 0 {
		t.Errorf("%d records, %d queries, %d alerts; want some of each", len(v.Records), len(v.Queries), len(v.Alerts))
	}
	for _, list := range []map[string]int{v.Records, v.Queries} {
		for name, series := range list {
			if series == 0 {
				t.Errorf("%s shows nothing", name)
			}
		}
	}
	t.Logf("%d records and %d queries have series, %d alerts are silent", len(v.Records), len(v.Queries), len(v.Alerts))
}

// startWatch starts a server on a service, a headless one, and many more so that a list may lack most.
func startWatch(t *testing.T, a alarm, namespace string) *watch {
	t.Helper()
	w := &watch{rig: &rig{T: t, cluster: cluster, namespace: namespace, truth: newTruth(0)}, proxy: startProxy(t, cluster), pages: t.TempDir()}
	w.snapshot = filepath.Join(t.TempDir(), "snapshot")
	if err := os.Mkdir(w.snapshot, 0o755); err != nil {
		t.Fatal(err)
	}
	w.makeNamespace()
	for n := range 120 {
		if a.fault == "a list without services" {
			w.make(fmt.Sprintf("many-%d", n), "")
		}
	}
	w.make("kept", "")
	w.make("pods", corev1.ClusterIPNone)
	if a.began != nil {
		w.proxy.refuse()
	}
	kubeconfig, _ := cluster.Kubeconfig(t, w.proxy.url, "kube-system", "coredns")
	text := strings.NewReplacer("#options", a.options, "#udpbatch", a.udpbatch).Replace(watched)
	text = strings.ReplaceAll(text, "#snapshot", w.snapshot)
	environment := []string{"KUBECONFIG=" + kubeconfig, "UPSTREAM=" + startUpstream(t, a.upstream)}
	if a.environment != "" {
		environment = append(environment, a.environment)
	}
	w.server = startServer(t, ours, text, environment...)
	if a.began != nil {
		a.began(w)
	} else {
		w.server.AwaitReady(t)
	}
	return w
}

// startUpstream starts a resolver of the world outside, or one that never answers, and returns its address.
func startUpstream(t *testing.T, kind string) string {
	t.Helper()
	if kind == "silent" {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = udp.Close() })
		return udp.LocalAddr().String()
	}
	_, address := harness.ServeUpstream(t, "www.example.org. 300 IN A 198.51.100.80")
	return address
}

// scrape takes pages, each after a few questions. A server that is gone gives an empty one.
func (w *watch) scrape(pages int) {
	w.Helper()
	for range pages {
		select {
		case <-w.server.Done():
		default:
			w.ask()
		}
		_, page, err := w.server.Get(w.server.Metrics + "/metrics")
		if err != nil {
			page = ""
		}
		w.scraped++
		harness.WriteFile(w, filepath.Join(w.pages, fmt.Sprintf("%04d", w.scraped)), page)
	}
}

// ask asks what every page is to have news of. An upstream that does not answer is left alone, as it takes seconds.
func (w *watch) ask() {
	for _, question := range []string{w.question("kept"), w.question("pods"), w.question("missing")} {
		_, _ = w.server.Try(w, harness.Question{Text: question}) // the metrics tell
	}
	if !strings.Contains(w.Name(), "upstream") {
		for _, question := range []string{"www.example.org. A", fmt.Sprintf("other-%d.example.org. A", w.scraped)} {
			_, _ = w.server.Try(w, harness.Question{Text: question})
		}
	}
}

// burst sends more queries at once than may wait, and does not wait for what becomes of them.
func (w *watch) burst(name string) {
	w.Helper()
	conn, err := net.Dial("udp", w.server.DNS)
	if err != nil {
		w.Fatal(err)
	}
	defer conn.Close()
	var sent sync.WaitGroup
	defer sent.Wait()
	for range 20 {
		query, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
		if err != nil {
			w.Fatal(err)
		}
		sent.Go(func() { _, _ = conn.Write(query) })
	}
}

// awaits waits for a line of the metrics.
func (w *watch) awaits(line string) {
	w.Helper()
	(&side{name: "kubezone", server: w.server}).awaitMetric(w, line, 30*time.Second)
}

// slice gives a headless service an endpoint, for a change at a time.
func (w *watch) slice(service string, changed time.Time, address string) {
	w.Helper()
	slices := w.cluster.Client.DiscoveryV1().EndpointSlices(w.namespace)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: service, Labels: map[string]string{discoveryv1.LabelServiceName: service},
			Annotations: map[string]string{corev1.EndpointsLastChangeTriggerTime: changed.UTC().Format(time.RFC3339Nano)},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address}}},
	}
	_, err := slices.Create(w.Context(), slice, metav1.CreateOptions{})
	if err != nil {
		_, err = slices.Update(w.Context(), slice, metav1.UpdateOptions{})
	}
	if err != nil {
		w.Fatal(err)
	}
	w.server.ExpectWithin(w, 10*time.Second, w.question(service), "A "+address)
}

// judge has promcheck evaluate the rules and the dashboard on the pages.
func (w *watch) judge(promcheck string) (v verdict) {
	w.Helper()
	const monitoring = "../../build/monitoring/"
	command := exec.Command(promcheck, monitoring+"rules.yaml", monitoring+"dashboard.json", w.pages)
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		w.Fatalf("promcheck: %v", err)
	}
	if err := json.Unmarshal(output, &v); err != nil {
		w.Fatal(err)
	}
	return v
}
