package kube

import (
	"sync/atomic"
	"time"
)

// The kinds of Service that DNS programming latency is told apart by.
const (
	kindClusterIP               = "cluster_ip"
	kindHeadlessWithSelector    = "headless_with_selector"
	kindHeadlessWithoutSelector = "headless_without_selector"
)

// An Observer is told of what is worth measuring. Each function may be nil, and
// is called from any goroutine.
type Observer struct {
	// Programmed is told how long a change took from its cause in the cluster
	// to the answers: the DNS programming latency of Kubernetes' SLIs. The
	// kind is "cluster_ip", "headless_with_selector" or
	// "headless_without_selector".
	Programmed func(serviceKind string, d time.Duration)
	// RequestLatency is told the time to the first octet of an answer.
	RequestLatency func(verb, host string, d time.Duration)
	// RateLimiterLatency is told how long a request was held back by QPS and
	// Burst. It is not called where neither is set.
	RateLimiterLatency func(verb, host string, d time.Duration)
	// RequestResult is told the status code, or "<error>" where there is none.
	RequestResult func(code, method, host string)
}

var observer atomic.Pointer[Observer]

// SetObserver makes o the observer of every Store in the process. It is for
// once, before the first Open.
func SetObserver(o Observer) { observer.Store(&o) }

func programmed(serviceKind string, d time.Duration) {
	// Clocks of different machines may disagree; a latency is never negative.
	if o := observer.Load(); o != nil && o.Programmed != nil {
		o.Programmed(serviceKind, max(d, 0))
	}
}

func requestLatency(verb, host string, d time.Duration) {
	if o := observer.Load(); o != nil && o.RequestLatency != nil {
		o.RequestLatency(verb, host, d)
	}
}

func rateLimiterLatency(verb, host string, d time.Duration) {
	if o := observer.Load(); o != nil && o.RateLimiterLatency != nil {
		o.RateLimiterLatency(verb, host, d)
	}
}

func requestResult(code, method, host string) {
	if o := observer.Load(); o != nil && o.RequestResult != nil {
		o.RequestResult(code, method, host)
	}
}
