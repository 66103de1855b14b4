package nodelocal

import (
	"os"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"

	_ "github.com/coredns/coredns/plugin/bind"
)

func TestMain(m *testing.M) {
	if err := dnsserver.SetDirectives([]string{"bind", directive}); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
