package clientlimit

import (
	"github.com/coredns/coredns/plugin"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var (
	limited = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: directive,
		Name:      "limited_total",
		Help:      "Queries beyond their client's limit, by what became of them.",
	}, []string{"server", "action"})

	evicted = promauto.NewCounter(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: directive,
		Name:      "evicted_total",
		Help:      "Clients that were given up for others, with what they had used.",
	})
)
