// Listeners are plain TCP: the kernel lets no program choose among those of
// Multipath TCP, with which nodelocal and udpbatch hand connections over.
//
//go:debug multipathtcp=0

// Command coredns is CoreDNS with kubezone in the place of the stock kubernetes
// plugin and without the plugins that need a cloud SDK. Flags, signals and
// output are those of stock CoreDNS. The subcommands doctor and compare are ours.
package main

import (
	"log"
	"os"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	"github.com/kubezone/kubezone/plugin/compare"
	"github.com/kubezone/kubezone/plugin/doctor"
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
	if code, ran := subcommand(os.Args[1:]); ran {
		os.Exit(code)
	}
	refuseLeftOut()
	limitMemory()
	collectLess()
	if isNodeCache(os.Args[1:]) {
		args, err := nodeCache(os.Args[1:])
		if err != nil {
			log.Fatal(err)
		}
		os.Args = append(os.Args[:1], args...) // coremain has a flag set of its own
	}
	coremain.Run()
}

// subcommand runs what the first argument names, if it is one of ours: stock
// CoreDNS takes flags only.
func subcommand(args []string) (code int, ran bool) {
	if len(args) == 0 {
		return 0, false
	}
	switch args[0] {
	case "doctor":
		return doctor.Run(args[1:], doctor.Build{Directives: directives, LeftOut: leftOut}, os.Stdout, os.Stderr), true
	case "compare":
		return compare.Run(args[1:], os.Stdin, os.Stdout, os.Stderr), true
	}
	return 0, false
}
