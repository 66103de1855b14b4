package kubezone

import (
	"slices"
	"sync"

	"github.com/coredns/caddy"
	"github.com/kubezone/kubezone/plugin/internal/kube"
)

// instances are the plugin's instances that hold a store. Caddy tells the old
// instance, not the new one, how a reload went: its OnRestart runs first, then
// the new Corefile is set up and started, then either the old OnShutdown or the
// old OnRestartFailed runs. So an instance is proven only when the next reload
// begins, and those that are not when a reload failed are what the failure left
// behind.
var instances struct {
	mu     sync.Mutex // guards proven
	proven map[*Kubezone]bool
}

// hook ties the store to the life of the instance. At SIGTERM OnShutdown runs
// before the lameduck pause, in which the watches must go on: the store is given
// back in OnFinalShutdown then.
func hook(c *caddy.Controller, k *Kubezone) {
	instances.mu.Lock()
	if instances.proven == nil {
		instances.proven = map[*Kubezone]bool{}
	}
	instances.proven[k] = false
	instances.mu.Unlock()

	c.OnStartup(k.awaitSync)
	restarting := false
	c.OnRestart(func() error {
		restarting = true
		prove(k)
		return nil
	})
	c.OnRestartFailed(func() error {
		restarting = false
		closeUnproven()
		return nil
	})
	c.OnShutdown(func() error {
		if restarting {
			k.close()
		}
		return nil
	})
	c.OnFinalShutdown(func() error {
		k.close()
		return nil
	})
}

func prove(k *Kubezone) {
	instances.mu.Lock()
	defer instances.mu.Unlock()
	instances.proven[k] = true
}

func closeUnproven() {
	for _, k := range unproven() {
		k.close()
	}
}

func unproven() []*Kubezone {
	instances.mu.Lock()
	defer instances.mu.Unlock()
	var list []*Kubezone
	for k, proven := range instances.proven {
		if !proven {
			list = append(list, k)
		}
	}
	return list
}

// replaces tells whether k, in a reload, brings a store that no instance before
// it had.
func replaces(k *Kubezone) bool {
	instances.mu.Lock()
	defer instances.mu.Unlock()
	reload := false
	for old, proven := range instances.proven {
		if proven && old.store == k.store {
			return false
		}
		reload = reload || proven
	}
	return reload
}

// serving are the instances that clients are answered by: during a reload, and
// after one that failed, those that were there before it. It is k alone where
// there is no server.
func serving(k *Kubezone) []*Kubezone {
	instances.mu.Lock()
	defer instances.mu.Unlock()
	var proven, all []*Kubezone
	for instance, isProven := range instances.proven {
		all = append(all, instance)
		if isProven {
			proven = append(proven, instance)
		}
	}
	switch {
	case proven != nil:
		return proven
	case all != nil:
		return all
	}
	return []*Kubezone{k}
}

// close gives the store back, once.
func (k *Kubezone) close() {
	instances.mu.Lock()
	_, held := instances.proven[k]
	delete(instances.proven, k)
	instances.mu.Unlock()
	if held {
		k.store.Close()
	}
}

// openStores are the stores of all instances, each once.
func openStores() []*kube.Store {
	instances.mu.Lock()
	defer instances.mu.Unlock()
	var stores []*kube.Store
	for k := range instances.proven {
		if !slices.Contains(stores, k.store) {
			stores = append(stores, k.store)
		}
	}
	return stores
}
