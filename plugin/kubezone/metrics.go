package kubezone

import (
	"math"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/kubezone/kubezone/plugin/internal/kube"
	"github.com/kubezone/kubezone/plugin/internal/schema"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	subsystem      = "kubezone"
	stockSubsystem = "kubernetes"
)

// programmingBuckets are 1 ms to 524 s, those of the stock plugin, so that
// figures of both can be put side by side.
var programmingBuckets = prometheus.ExponentialBuckets(0.001, 2, 20)

var (
	programmingDuration = histogram(subsystem, "dns_programming_duration_seconds",
		"Time from a change in the cluster until it is answered, as Kubernetes' SLI defines it.", programmingBuckets, "service_kind")

	namesTooLong = prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "names_too_long_total",
		Help:      "Records left out of an answer because a name in them would exceed 255 octets.",
	}, func() float64 { return float64(schema.TooLongNames()) })

	snapshotErrors = prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "snapshot_errors_total",
		Help:      "Times that a snapshot could not be read or written.",
	}, func() float64 { return float64(kube.SnapshotErrors()) })

	outcomes = new(outcomeCounts)
)

// The stock kubernetes plugin's metrics, for dashboards made for it.
var (
	stockProgrammingDuration = histogram(stockSubsystem, "dns_programming_duration_seconds",
		"Time from a change in the cluster until it is answered, as Kubernetes' SLI defines it.", programmingBuckets, "service_kind")

	stockRequestDuration = histogram(stockSubsystem, "rest_client_request_duration_seconds",
		"Time that requests to the API server take.", prometheus.DefBuckets, "verb", "host")

	stockRateLimiterDuration = histogram(stockSubsystem, "rest_client_rate_limiter_duration_seconds",
		"Time that requests to the API server are held back by the limits set for them.", prometheus.DefBuckets, "verb", "host")

	stockRequests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: stockSubsystem,
		Name:      "rest_client_requests_total",
		Help:      "Requests to the API server.",
	}, []string{"code", "method", "host"})
)

var (
	ownMetrics   = []prometheus.Collector{programmingDuration, namesTooLong, snapshotErrors, outcomes, kindsCollector{}, statesCollector{}}
	stockMetrics = []prometheus.Collector{stockProgrammingDuration, stockRequestDuration, stockRateLimiterDuration, stockRequests}
)

func init() {
	prometheus.MustRegister(ownMetrics...)
	kube.SetObserver(kube.Observer{
		Programmed:         observeProgrammed,
		RequestLatency:     func(verb, host string, d time.Duration) { observeRequest(stockRequestDuration, verb, host, d) },
		RateLimiterLatency: func(verb, host string, d time.Duration) { observeRequest(stockRateLimiterDuration, verb, host, d) },
		RequestResult: func(code, method, host string) {
			stockRequests.WithLabelValues(code, method, label(host)).Inc()
		},
	})
}

// registerStockMetrics publishes the metrics that have the stock plugin's
// names. It may be called again, as on every reload.
func registerStockMetrics() {
	for _, c := range stockMetrics {
		// The only error there can be is that the name is taken: by an earlier
		// call, or by the stock plugin if that is linked too. Either may stay.
		_ = prometheus.Register(c)
	}
}

func histogram(subsystem, name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace:                   plugin.Namespace,
		Subsystem:                   subsystem,
		Name:                        name,
		Help:                        help,
		Buckets:                     buckets,
		NativeHistogramBucketFactor: plugin.NativeHistogramBucketFactor,
	}, labels)
}

func observeProgrammed(serviceKind string, d time.Duration) {
	programmingDuration.WithLabelValues(serviceKind).Observe(d.Seconds())
	stockProgrammingDuration.WithLabelValues(serviceKind).Observe(d.Seconds())
}

func observeRequest(h *prometheus.HistogramVec, verb, host string, d time.Duration) {
	h.WithLabelValues(verb, label(host)).Observe(d.Seconds())
}

// label makes text fit for a label's value, which has to be UTF-8: a kubeconfig
// may hold anything for a host.
func label(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// countOutcome counts an answer. It costs one atomic addition.
func countOutcome(o schema.Outcome, r schema.Reason) { outcomes.count(o, r) }

// outcomeNames are values of a label.
var outcomeNames = [...]string{
	schema.Success:   "success",
	schema.Alias:     "cname",
	schema.NoData:    "nodata",
	schema.NameError: "nxdomain",
	schema.NotSynced: "servfail",
}

// outcomeCounts count answers by outcome and reason. There is a place for
// whatever a schema.Reason can be, so that no index is out of range.
type outcomeCounts [len(outcomeNames)][math.MaxUint8 + 1]atomic.Uint64

func (c *outcomeCounts) count(o schema.Outcome, r schema.Reason) { c[o][r].Add(1) }

var outcomesDesc = describeMetric("outcomes_total", "Answers to queries in the plugin's zones.", "outcome", "reason")

// Describe implements prometheus.Collector.
func (c *outcomeCounts) Describe(ch chan<- *prometheus.Desc) { ch <- outcomesDesc }

// Collect implements prometheus.Collector. Most pairs of outcome and reason
// cannot be; those that never were are left out.
func (c *outcomeCounts) Collect(ch chan<- prometheus.Metric) {
	for _, r := range schema.Reasons() {
		for o, name := range outcomeNames {
			if n := c[o][r].Load(); n > 0 {
				ch <- prometheus.MustNewConstMetric(outcomesDesc, prometheus.CounterValue, float64(n), name, r.String())
			}
		}
	}
}

// kindStatuses returns the state of every kind of every open store. It is
// replaced by an init function only, and called by any goroutine.
var kindStatuses = func() []kube.KindStatus { return nil }

// A kindsCollector reads the state of the stores when metrics are scraped. The
// labels do not tell stores apart: those of one kind are taken together.
type kindsCollector struct{}

var (
	syncedDesc    = describeMetric("synced", "Whether all objects of a kind are known, 1, or not, 0; with several API servers, in all of them.", "kind")
	objectsDesc   = describeMetric("objects", "Objects held of a kind.", "kind")
	lastEventDesc = describeMetric("last_event_age_seconds", "Time since the source last said something about a kind; with several API servers, the longest.", "kind")
	relistsDesc   = describeMetric("relists_total", "Full lists of a kind after the first.", "kind")
	skippedDesc   = describeMetric("skipped_objects_total", "Objects of a kind, or parts of them, that were left out because they are not valid.", "kind")
)

func describeMetric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, name), help, labels, nil)
}

// Describe implements prometheus.Collector.
func (kindsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{syncedDesc, objectsDesc, lastEventDesc, relistsDesc, skippedDesc} {
		ch <- desc
	}
}

// Collect implements prometheus.Collector.
func (kindsCollector) Collect(ch chan<- prometheus.Metric) {
	for kind, st := range mergeKinds(kindStatuses()) {
		send := func(desc *prometheus.Desc, t prometheus.ValueType, value float64) {
			ch <- prometheus.MustNewConstMetric(desc, t, value, kind)
		}
		send(syncedDesc, prometheus.GaugeValue, oneIf(st.Synced))
		send(objectsDesc, prometheus.GaugeValue, float64(st.Objects))
		send(relistsDesc, prometheus.CounterValue, float64(st.Relists))
		send(skippedDesc, prometheus.CounterValue, float64(st.Skipped))
		if !st.LastEvent.IsZero() {
			send(lastEventDesc, prometheus.GaugeValue, time.Since(st.LastEvent).Seconds())
		}
	}
}

// mergeKinds makes one status for each kind, by its name: the worst of what is a state, the
// sum of what is a number.
func mergeKinds(all []kube.KindStatus) map[string]kube.KindStatus {
	merged := make(map[string]kube.KindStatus)
	for _, st := range all {
		m, ok := merged[st.Name()]
		if !ok {
			merged[st.Name()] = st
			continue
		}
		m.Synced = m.Synced && st.Synced
		m.Braked = m.Braked || st.Braked
		m.Drift += st.Drift
		m.State = min(m.State, st.State)
		if st.AsOf.Before(m.AsOf) {
			m.AsOf = st.AsOf
		}
		m.Objects += st.Objects
		m.Relists += st.Relists
		m.Skipped += st.Skipped
		if m.LastEvent.IsZero() || !st.LastEvent.IsZero() && st.LastEvent.Before(m.LastEvent) {
			m.LastEvent = st.LastEvent
		}
		merged[st.Name()] = m
	}
	return merged
}

// A statesCollector tells how far what is held can be relied on.
type statesCollector struct{}

var (
	stateDesc = describeMetric("state", "1 for the state that a kind is in, 0 for the others; with several API servers, the worst.", "kind", "state")
	ageDesc   = describeMetric("data_age_seconds", "Time since what is held of a kind was last known to be right; 0 while it is synced.", "kind")
	driftDesc = describeMetric("drift_total", "Objects that differed from those of the API server without its having said so, and were repaired.", "kind")
	brakeDesc = describeMetric("brake_engaged", "Whether a list that would take most of a kind away is held back, 1, or not, 0.", "kind")
)

// Describe implements prometheus.Collector.
func (statesCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{stateDesc, ageDesc, driftDesc, brakeDesc} {
		ch <- desc
	}
}

// Collect implements prometheus.Collector.
func (statesCollector) Collect(ch chan<- prometheus.Metric) {
	for kind, st := range mergeKinds(kindStatuses()) {
		for _, state := range kube.States {
			ch <- prometheus.MustNewConstMetric(stateDesc, prometheus.GaugeValue, oneIf(st.State == state), kind, state.String())
		}
		ch <- prometheus.MustNewConstMetric(brakeDesc, prometheus.GaugeValue, oneIf(st.Braked), kind)
		ch <- prometheus.MustNewConstMetric(driftDesc, prometheus.CounterValue, float64(st.Drift), kind)
		switch {
		case st.State == kube.Synced:
			ch <- prometheus.MustNewConstMetric(ageDesc, prometheus.GaugeValue, 0, kind)
		case !st.AsOf.IsZero():
			ch <- prometheus.MustNewConstMetric(ageDesc, prometheus.GaugeValue, time.Since(st.AsOf).Seconds(), kind)
		}
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
