//go:build !linux

package nodelocal

import (
	"runtime"

	"github.com/coredns/caddy"

	"github.com/kubezone/kubezone/plugin/internal/corefile"
)

// hook refuses to go on: nothing of what the plugin does can be had here.
func hook(_ *caddy.Controller, _ config, at corefile.Place) error {
	return at.Errorf("%s works on Linux only, with nftables; this is %s: use bind with addresses that are there", directive, runtime.GOOS)
}
