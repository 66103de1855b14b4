package kubezone

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/metrics"
	"github.com/kubezone/kubezone/plugin/internal/index"
	"github.com/kubezone/kubezone/plugin/internal/kube"
	"github.com/kubezone/kubezone/plugin/internal/schema"

	"github.com/prometheus/client_golang/prometheus"
)

// fakeStatuses makes kindStatuses return list until the test ends.
func fakeStatuses(t *testing.T, list ...kube.KindStatus) {
	t.Helper()
	before := kindStatuses
	kindStatuses = func() []kube.KindStatus { return list }
	t.Cleanup(func() { kindStatuses = before })
}

// emptyRegistry makes the default registry an empty one until the test ends.
func emptyRegistry(t *testing.T) *prometheus.Registry {
	t.Helper()
	before, r := prometheus.DefaultRegisterer, prometheus.NewPedanticRegistry()
	prometheus.DefaultRegisterer = r
	t.Cleanup(func() { prometheus.DefaultRegisterer = before })
	return r
}

// everyMetric returns a registry with all metrics, each of which has a value.
func everyMetric(t *testing.T) *prometheus.Registry {
	t.Helper()
	r := emptyRegistry(t)
	r.MustRegister(ownMetrics...)
	registerStockMetrics()
	fakeStatuses(t, kube.KindStatus{Kind: index.Services, LastEvent: time.Now(), State: kube.Synced})
	countOutcome(schema.Success, schema.Found)
	observeProgrammed("cluster_ip", time.Second)
	observeRequest(stockRequestDuration, "GET", "api", time.Second)
	observeRequest(stockRateLimiterDuration, "GET", "api", time.Second)
	stockRequests.WithLabelValues("200", "GET", "api").Inc()
	return r
}

// samples gathers metrics in the form name{label="value"}. For a histogram the
// value is the number of observations.
func samples(t *testing.T, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			value := m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			all[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = value
		}
	}
	return all
}

func collect(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	return samples(t, r)
}

func TestOutcomes(t *testing.T) {
	c := new(outcomeCounts)
	for range 3 {
		c.count(schema.Success, schema.Found)
	}
	c.count(schema.NameError, schema.NoReadyEndpoint)
	c.count(schema.Alias, schema.IsAlias)
	c.count(schema.NoData, schema.OtherType)
	c.count(schema.NotSynced, schema.PodsMissing)
	got := collect(t, c)
	want := map[string]float64{
		`coredns_kubezone_outcomes_total{outcome="cname",reason="alias"}`:                1,
		`coredns_kubezone_outcomes_total{outcome="nodata",reason="other_type"}`:          1,
		`coredns_kubezone_outcomes_total{outcome="nxdomain",reason="no_ready_endpoint"}`: 1,
		`coredns_kubezone_outcomes_total{outcome="servfail",reason="pods_not_synced"}`:   1,
		`coredns_kubezone_outcomes_total{outcome="success",reason="found"}`:              3,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestCountOutcomeAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(1000, func() { countOutcome(schema.NoData, schema.OtherType) }); n > 0 {
		t.Errorf("allocs = %v; want 0", n)
	}
}

func BenchmarkCountOutcome(b *testing.B) {
	for b.Loop() {
		countOutcome(schema.NoData, schema.OtherType)
	}
}

func TestKinds(t *testing.T) {
	minuteAgo, hourAgo := time.Now().Add(-time.Minute), time.Now().Add(-time.Hour)
	const age = `coredns_kubezone_last_event_age_seconds{kind="services"}`
	for _, tc := range []struct {
		name     string
		statuses []kube.KindStatus
		want     map[string]float64 // but for the age
		age      time.Duration      // 0 for no such metric
	}{
		{"no store", nil, map[string]float64{}, 0},
		{"nothing arrived", []kube.KindStatus{{Kind: index.Services}}, map[string]float64{
			`coredns_kubezone_synced{kind="services"}`:                0,
			`coredns_kubezone_objects{kind="services"}`:               0,
			`coredns_kubezone_relists_total{kind="services"}`:         0,
			`coredns_kubezone_skipped_objects_total{kind="services"}`: 0,
		}, 0},
		{"several kinds", []kube.KindStatus{
			{Kind: index.Services, Synced: true, LastEvent: minuteAgo, Relists: 1, Skipped: 2, Objects: 3},
			{Kind: index.Pods, Objects: 4},
		}, map[string]float64{
			`coredns_kubezone_synced{kind="services"}`:                1,
			`coredns_kubezone_objects{kind="services"}`:               3,
			`coredns_kubezone_relists_total{kind="services"}`:         1,
			`coredns_kubezone_skipped_objects_total{kind="services"}`: 2,
			`coredns_kubezone_synced{kind="pods"}`:                    0,
			`coredns_kubezone_objects{kind="pods"}`:                   4,
			`coredns_kubezone_relists_total{kind="pods"}`:             0,
			`coredns_kubezone_skipped_objects_total{kind="pods"}`:     0,
		}, time.Minute},
		{"several stores, one not synced", []kube.KindStatus{
			{Kind: index.Services, Synced: true, LastEvent: minuteAgo, Relists: 1, Skipped: 2, Objects: 3},
			{Kind: index.Services},
			{Kind: index.Services, Synced: true, LastEvent: hourAgo, Relists: 10, Skipped: 20, Objects: 30},
			{Kind: index.Services, Synced: true, LastEvent: minuteAgo, Relists: 100, Skipped: 200, Objects: 300},
		}, map[string]float64{
			`coredns_kubezone_synced{kind="services"}`:                0,
			`coredns_kubezone_objects{kind="services"}`:               333,
			`coredns_kubezone_relists_total{kind="services"}`:         111,
			`coredns_kubezone_skipped_objects_total{kind="services"}`: 222,
		}, time.Hour},
		{"several stores, the first not synced", []kube.KindStatus{
			{Kind: index.Services},
			{Kind: index.Services, Synced: true, LastEvent: minuteAgo},
		}, map[string]float64{
			`coredns_kubezone_synced{kind="services"}`:                0,
			`coredns_kubezone_objects{kind="services"}`:               0,
			`coredns_kubezone_relists_total{kind="services"}`:         0,
			`coredns_kubezone_skipped_objects_total{kind="services"}`: 0,
		}, time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fakeStatuses(t, tc.statuses...)
			got := collect(t, kindsCollector{})
			seconds, ok := got[age]
			delete(got, age)
			if !maps.Equal(got, tc.want) {
				t.Errorf("got %v\nwant %v", got, tc.want)
			}
			if ok != (tc.age > 0) || seconds < tc.age.Seconds() || seconds > tc.age.Seconds()+30 {
				t.Errorf("%s is %v, %v; want %v", age, seconds, ok, tc.age)
			}
		})
	}
}

func TestStates(t *testing.T) {
	fakeStatuses(t,
		kube.KindStatus{Kind: index.Services, State: kube.Synced, AsOf: time.Now(), Drift: 2},
		kube.KindStatus{Kind: index.Services, State: kube.Stale, Drift: 3, AsOf: time.Now().Add(-time.Hour), Braked: true},
		kube.KindStatus{Kind: index.Namespaces, State: kube.Synced, AsOf: time.Now()},
		kube.KindStatus{Kind: index.Pods})
	want := map[string]float64{
		`coredns_kubezone_drift_total{kind="services"}`:              5,
		`coredns_kubezone_brake_engaged{kind="services"}`:            1,
		`coredns_kubezone_state{kind="services",state="starting"}`:   0,
		`coredns_kubezone_state{kind="services",state="restored"}`:   0,
		`coredns_kubezone_state{kind="services",state="stale"}`:      1,
		`coredns_kubezone_state{kind="services",state="synced"}`:     0,
		`coredns_kubezone_drift_total{kind="namespaces"}`:            0,
		`coredns_kubezone_brake_engaged{kind="namespaces"}`:          0,
		`coredns_kubezone_data_age_seconds{kind="namespaces"}`:       0,
		`coredns_kubezone_state{kind="namespaces",state="starting"}`: 0,
		`coredns_kubezone_state{kind="namespaces",state="restored"}`: 0,
		`coredns_kubezone_state{kind="namespaces",state="stale"}`:    0,
		`coredns_kubezone_state{kind="namespaces",state="synced"}`:   1,
		`coredns_kubezone_drift_total{kind="pods"}`:                  0,
		`coredns_kubezone_brake_engaged{kind="pods"}`:                0,
		`coredns_kubezone_state{kind="pods",state="starting"}`:       1,
		`coredns_kubezone_state{kind="pods",state="restored"}`:       0,
		`coredns_kubezone_state{kind="pods",state="stale"}`:          0,
		`coredns_kubezone_state{kind="pods",state="synced"}`:         0,
	}
	const age = `coredns_kubezone_data_age_seconds{kind="services"}`
	got := collect(t, statesCollector{})
	if seconds := got[age]; seconds < 3600 || seconds > 3630 {
		t.Errorf("age %v; want an hour, that of the older", seconds)
	}
	delete(got, age)
	if !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// TestProgrammed checks that what package kube observes reaches both names.
func TestProgrammed(t *testing.T) {
	names := []string{
		`coredns_kubezone_dns_programming_duration_seconds{service_kind="headless_with_selector"}`,
		`coredns_kubernetes_dns_programming_duration_seconds{service_kind="headless_with_selector"}`,
	}
	r := emptyRegistry(t)
	r.MustRegister(programmingDuration)
	registerStockMetrics()
	before := samples(t, r)
	observeProgrammed("headless_with_selector", time.Second)
	after := samples(t, r)
	for _, name := range names {
		if after[name] != before[name]+1 {
			t.Errorf("%s went from %v to %v observations; want one more", name, before[name], after[name])
		}
	}
}

func TestLabel(t *testing.T) {
	for in, want := range map[string]string{"10.0.0.1:6443": "10.0.0.1:6443", "a\xffb": "a\uFFFDb"} {
		if got := label(in); got != want {
			t.Errorf("label(%q) = %q; want %q", in, got, want)
		}
	}
}

func TestStockMetricsAreRegisteredOnce(t *testing.T) {
	r := emptyRegistry(t)
	if got := samples(t, r); len(got) != 0 {
		t.Errorf("before: %v; want nothing", got)
	}
	for range 2 { // a reload sets the directive up again
		registerStockMetrics()
	}
	for _, c := range stockMetrics {
		if err := r.Register(c); !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
			t.Errorf("another registration: %v; want AlreadyRegisteredError", err)
		}
	}
}

// TestStockMetricsOfStockPlugin checks that the stock plugin, linked beside
// this one, keeps its own.
func TestStockMetricsOfStockPlugin(t *testing.T) {
	const name = "coredns_kubernetes_rest_client_requests_total"
	r := emptyRegistry(t)
	theirs := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: "Theirs."}, []string{"code", "method", "host"})
	r.MustRegister(theirs)
	theirs.WithLabelValues("200", "GET", "theirs").Inc()
	stockRequests.WithLabelValues("200", "GET", "ours").Inc()
	registerStockMetrics()
	got := samples(t, r)
	if got[name+`{code="200",host="theirs",method="GET"}`] != 1 {
		t.Errorf("the stock plugin's metric is gone: %v", got)
	}
	if _, ok := got[name+`{code="200",host="ours",method="GET"}`]; ok {
		t.Errorf("the stock plugin's metric was replaced: %v", got)
	}
}

// TestPrometheusPlugin scrapes the metrics as an operator does.
func TestPrometheusPlugin(t *testing.T) {
	r := everyMetric(t)
	m := metrics.New("127.0.0.1:0") // serves the default registry
	if err := m.OnStartup(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.OnFinalShutdown(); err != nil {
			t.Error(err)
		}
	}()
	resp, err := http.Get("http://" + metrics.ListenAddr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for name := range shapes(t, r) {
		if !strings.Contains(string(body), "\n# TYPE "+name+" ") {
			t.Errorf("/metrics has no %s:\n%s", name, body)
		}
	}
}

// TestReadmeMetrics compares the README's list of metrics and of their labels
// with what is registered.
func TestReadmeMetrics(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\* `(coredns_[a-z_]+)(\\{(.*)\\})?`").FindAllStringSubmatch(string(text), -1) {
		labels := strings.Split(m[3], ", ")
		slices.Sort(labels)
		documented[m[1]] = strings.Join(labels, ",")
	}
	if registered := shapes(t, everyMetric(t)); !maps.Equal(documented, registered) {
		t.Errorf("README.md has %v\nregistered are %v", documented, registered)
	}
}

// shapes returns the names of metrics, each with its sorted labels.
func shapes(t *testing.T, from prometheus.Gatherer) map[string]string {
	t.Helper()
	value := regexp.MustCompile(`="[^"]*"`)
	all := map[string]string{}
	for sample := range samples(t, from) {
		name, labels, _ := strings.Cut(strings.TrimSuffix(sample, "}"), "{")
		all[name] = value.ReplaceAllString(labels, "")
	}
	return all
}
