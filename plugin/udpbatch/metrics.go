//go:build linux

package udpbatch

import (
	"maps"
	"slices"

	"github.com/coredns/coredns/plugin"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Why a query has no reply.
const (
	dropQueue = "queue" // too many waited for a worker, and it was the oldest
	dropWrite = "write" // the kernel did not take the reply
)

// Why a connection was closed by us, or not taken.
const (
	closeIdle   = "idle"   // nothing came in time
	closeLimit  = "limit"  // it was the longest idle when there were too many
	closeClient = "client" // the same, of one client
	closeWrite  = "write"  // the client did not take a reply in time
	closeFull   = "full"   // all others were in use
)

var (
	batches = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: directive,
		Name:      "batches_total",
		Help:      "Reads that returned packets, from the plugin's own sockets.",
	}, []string{"server"})

	packets = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: directive,
		Name:      "packets_total",
		Help:      "Packets that arrived, by the socket: own, or ordinary for CoreDNS's.",
	}, []string{"server", "socket"})

	dispatched = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: directive,
		Name:      "dispatched_total",
		Help:      "Queries that workers handled, by why: expected to take long, or late and overtaken.",
	}, []string{"server", "reason"})

	drops = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: directive,
		Name:      "dropped_total",
		Help:      "Queries without a reply, by reason.",
	}, []string{"server", "reason"})

	readErrors = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: directive,
		Name:      "read_errors_total",
		Help:      "Reads that failed.",
	}, []string{"server"})

	accepted = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: directive,
		Name:      "connections_total",
		Help:      "TCP connections that were served.",
	}, []string{"server"})

	closed = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: directive,
		Name:      "connections_closed_total",
		Help:      "TCP connections that the server closed before the client did, by reason.",
	}, []string{"server", "reason"})

	acceptErrors = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: directive,
		Name:      "accept_errors_total",
		Help:      "TCP connections that could not be accepted, mostly for want of descriptors.",
	}, []string{"server"})
)

var (
	workersBusy = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, directive, "workers_busy"),
		"Workers that are handling a query.", []string{"server"}, nil)
	queueLength = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, directive, "queue_length"),
		"Queries that wait for a worker.", []string{"server"}, nil)
	sockets = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, directive, "sockets"),
		"The plugin's own UDP sockets.", []string{"server"}, nil)
	connections = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, directive, "connections"),
		"TCP connections that are open.", []string{"server"}, nil)
)

func init() { prometheus.MustRegister(gauges{}) }

// gauges collects what listeners know anyway.
type gauges struct{}

func (gauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- workersBusy
	ch <- queueLength
	ch <- sockets
	ch <- connections
}

func (gauges) Collect(ch chan<- prometheus.Metric) {
	process.mu.Lock()
	listeners := slices.Collect(maps.Values(process.listeners))
	process.mu.Unlock()
	gauge := func(desc *prometheus.Desc, n int, server string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n), server)
	}
	for _, e := range listeners {
		busy, waiting := e.workers.load()
		gauge(workersBusy, busy, e.address)
		gauge(queueLength, waiting, e.address)
		gauge(sockets, len(e.open()), e.address)
		gauge(connections, e.streams.count(), e.address)
	}
}

// listenerMetrics are those of one address.
type listenerMetrics struct {
	batches, packets, ordinary, readErrors prometheus.Counter
	expected, late                         prometheus.Counter
	queue, write                           prometheus.Counter
	accepted, acceptErrors                 prometheus.Counter
	closed                                 map[string]prometheus.Counter // by reason
}

func newListenerMetrics(server string) *listenerMetrics {
	m := &listenerMetrics{
		batches:    batches.WithLabelValues(server),
		packets:    packets.WithLabelValues(server, "own"),
		ordinary:   packets.WithLabelValues(server, "ordinary"),
		readErrors: readErrors.WithLabelValues(server),
		expected:   dispatched.WithLabelValues(server, "expected"),
		late:       dispatched.WithLabelValues(server, "late"),
		queue:      drops.WithLabelValues(server, dropQueue),
		write:      drops.WithLabelValues(server, dropWrite),

		accepted:     accepted.WithLabelValues(server),
		acceptErrors: acceptErrors.WithLabelValues(server),
		closed:       make(map[string]prometheus.Counter),
	}
	for _, reason := range []string{closeIdle, closeLimit, closeClient, closeWrite, closeFull} {
		m.closed[reason] = closed.WithLabelValues(server, reason)
	}
	return m
}
