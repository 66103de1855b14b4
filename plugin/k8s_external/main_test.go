package k8sexternal

import (
	"os"
	"slices"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/template"
	_ "github.com/coredns/coredns/plugin/transfer"
	_ "github.com/coredns/coredns/plugin/whoami"
	"github.com/kubezone/kubezone/plugin/kubezone"
)

func TestMain(m *testing.M) {
	kubezone.RegisterAs("kubernetes")
	at := slices.Index(dnsserver.Directives, "kubernetes")
	dnsserver.Directives = slices.Insert(dnsserver.Directives, at, "kubezone")
	caddy.Quiet, dnsserver.Quiet = true, true
	os.Exit(m.Run())
}
