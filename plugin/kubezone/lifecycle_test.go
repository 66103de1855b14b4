package kubezone

import (
	"testing"

	"github.com/coredns/caddy"
)

// During a reload readiness is that of the instances from before it, which answer
// until it is over; before and after that, of all.
func TestReadyDuringReload(t *testing.T) {
	const away = "endpoint http://127.0.0.1:1"
	known, unknown := start(t, ""), start(t, away)
	ready := func(when string, k *Kubezone, want bool) {
		t.Helper()
		if k.Ready() != want {
			t.Errorf("%s: ready %t; want %t", when, !want, want)
		}
	}
	hook(caddy.NewTestController("dns", ""), known)
	t.Cleanup(func() { forget(known, unknown) })
	ready("alone", known, true)
	prove(known)
	hook(caddy.NewTestController("dns", ""), unknown)
	ready("the reload waits for objects", unknown, true)
	forget(unknown)
	ready("the reload failed", unknown, true)
	hook(caddy.NewTestController("dns", ""), unknown)
	forget(known)
	ready("the reload is over", unknown, false)
	hook(caddy.NewTestController("dns", ""), known)
	ready("another server block knows all", known, false)
}

// forget is close for instances whose stores the test closes.
func forget(list ...*Kubezone) {
	instances.mu.Lock()
	defer instances.mu.Unlock()
	for _, k := range list {
		delete(instances.proven, k)
	}
}
