package kubezone

import (
	"testing"

	"github.com/coredns/caddy"
)

// With endpoints headless the endpoints of other services are not watched, so
// that it is known without them that they have no names.
func TestHeadlessEndpoints(t *testing.T) {
	k := start(t, "endpoints headless\nendpoint http://127.0.0.1:1")
	if c := k.kube(); !c.Slices || !c.HeadlessOnly {
		t.Errorf("slices watched %t, only those of headless services %t; want both", c.Slices, c.HeadlessOnly)
	}
	expectBeforeSync(t, k, `
		10-244-0-10.web.prod.svc.cluster.local. A = SERVFAIL
		db.prod.svc.cluster.local. A = SERVFAIL
		10.0.244.10.in-addr.arpa. PTR = SERVFAIL`)

	// The same with objects: those that the API server would not send are in the
	// file, and must make no difference to the names of endpoints.
	with := start(t, "")
	cfg, err := parse(caddy.NewTestController("dns", "kubezone cluster.local {\nendpoints headless\n}"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range with.Zones {
		with.Zones[i].Schema.Features = cfg.features()
	}
	expect(t, with, `
		web.prod.svc.cluster.local. A = 10.96.0.10
		_http._tcp.web.prod.svc.cluster.local. SRV = 0 100 80 web.prod.svc.cluster.local. + 10.96.0.10
		10-244-0-10.web.prod.svc.cluster.local. A = NXDOMAIN
		10-244-0-10.web.prod.svc.cluster.local. SRV = NXDOMAIN
		db.prod.svc.cluster.local. A = 10.244.1.10, 10.244.1.11
		db-0.db.prod.svc.cluster.local. A = 10.244.1.10
		10-244-2-10.plain.prod.svc.cluster.local. A = 10.244.2.10
		11.1.244.10.in-addr.arpa. PTR = db-1.db.prod.svc.cluster.local.
	`)
}
