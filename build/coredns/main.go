package main

import (
	"github.com/coredns/coredns/coremain"
	_ "github.com/kubezone/kubezone/plugin/kubezone"
)

func main() { coremain.Run() }
