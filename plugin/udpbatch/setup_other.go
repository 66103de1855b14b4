//go:build !linux

package udpbatch

import (
	"runtime"
	"sync"

	"github.com/coredns/caddy"
)

// hook says once that the plugin does nothing here.
func hook(*caddy.Controller, config, place) error {
	sayUnsupported()
	return nil
}

var sayUnsupported = sync.OnceFunc(func() {
	log.Warningf("It works on Linux only; on %s it does nothing", runtime.GOOS)
})

// descriptors is of no consequence here.
func descriptors() int { return 0 }
