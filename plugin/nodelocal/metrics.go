package nodelocal

import (
	"github.com/coredns/coredns/plugin"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var (
	switched = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: directive,
		Name:      "switched",
		Help:      "Whether queries for the address are led to this server (1) or take the ordinary path (0).",
	}, []string{"address"})

	selfQueries = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: directive,
		Name:      "self_queries_total",
		Help:      "Queries of the server to itself by address and result: answered, other for another process at the address, unanswered.",
	}, []string{"address", "result"})

	repairs = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: directive,
		Name:      "repairs_total",
		Help:      "What was found missing and put back: address, accept or table.",
	}, []string{"what"})

	fallbackEndpoints = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: directive,
		Name:      "fallback_servers",
		Help:      "Servers of the cluster's DNS that are known for when this one is gone.",
	})
)
