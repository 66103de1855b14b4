package clusterdns

import (
	"github.com/coredns/coredns/plugin"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var (
	servers = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: directive,
		Name:      "servers",
		Help:      "Servers that are asked for the zones that begin with zone, by where they are known from.",
	}, []string{"zone", "source"})

	retries = promauto.NewCounter(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: directive,
		Name:      "retries_total",
		Help:      "Times that another server was asked because one gave no answer.",
	})

	rejected = promauto.NewCounter(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: directive,
		Name:      "rejected_total",
		Help:      "Queries refused because too many waited.",
	})
)
