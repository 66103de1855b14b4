// Command stock is CoreDNS as its authors release it: the side that tests and benchmarks compare kubezone with.
//
// It is a module of its own so that its dependencies stay at the versions that CoreDNS pins.
package main

import (
	_ "github.com/coredns/coredns/core/plugin" // every plugin of a stock build
	"github.com/coredns/coredns/coremain"
)

func main() {
	coremain.Run()
}
