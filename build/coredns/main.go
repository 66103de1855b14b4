// Command coredns is CoreDNS with kubezone in the place of the stock kubernetes
// plugin and without the plugins that need a cloud SDK. Flags, signals and
// output are those of stock CoreDNS.
package main

import (
	"log"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	"github.com/kubezone/kubezone/plugin/kubezone"
)

// version is kubezone's own, by semver.org.
const version = "0.1.0-dev"

func main() {
	caddy.AppName = "kubezone"
	caddy.AppVersion = version + " (" + coremain.CoreName + "-" + coremain.CoreVersion + ")"
	kubezone.RegisterAs("kubernetes")
	if err := dnsserver.SetDirectives(directives); err != nil {
		log.Fatal(err)
	}
	refuseLeftOut()
	limitMemory()
	coremain.Run()
}
