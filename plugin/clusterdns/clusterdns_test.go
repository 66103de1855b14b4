package clusterdns

import (
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A fake is a server of the cluster's DNS.
type fake struct {
	address netip.AddrPort
	asked   atomic.Int64 // queries, but for those that look at its health
	rcode   atomic.Int64
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := new(fake)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	s := &dns.Server{Listener: listener, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetRcode(r, int(f.rcode.Load()))
		if r.Question[0].Name != "." {
			f.asked.Add(1)
			if q := r.Question[0]; q.Qtype == dns.TypeA {
				m.Answer = []dns.RR{test.A(q.Name + " 5 IN A 10.96.0.1")}
			}
		}
		_ = w.WriteMsg(m) // a client that is gone needs none
	})}
	go func() { _ = s.ActivateAndServe() }() // ends by Shutdown
	<-started
	t.Cleanup(func() { _ = s.Shutdown() })
	f.address = netip.MustParseAddrPort(listener.Addr().String())
	return f
}

// newClusterDNS is for cluster.local, with servers that are known already.
func newClusterDNS(t *testing.T, addresses ...netip.AddrPort) *ClusterDNS {
	t.Helper()
	p := newPool(config{zones: []string{"cluster.local."}})
	p.learn(fromSlices, addresses)
	t.Cleanup(p.close)
	return &ClusterDNS{
		Next:   test.NextHandler(dns.RcodeRefused, nil),
		config: config{zones: p.cfg.zones, maxConcurrent: defaultConcurrent},
		pool:   p,
	}
}

const name = "kubernetes.default.svc.cluster.local."

// ask returns the rcode of the reply, and how long it took.
func ask(t *testing.T, c *ClusterDNS, name string) (rcode int, took time.Duration) {
	t.Helper()
	began := time.Now()
	w := dnstest.NewRecorder(&test.ResponseWriter{})
	rcode, _ = c.ServeDNS(t.Context(), w, new(dns.Msg).SetQuestion(name, dns.TypeA))
	if w.Msg != nil {
		rcode = w.Msg.Rcode
	}
	return rcode, time.Since(began)
}

func TestSpreadsOverTheServers(t *testing.T) {
	a, b := newFake(t), newFake(t)
	c := newClusterDNS(t, a.address, b.address)
	for range 200 {
		if rcode, _ := ask(t, c, name); rcode != dns.RcodeSuccess {
			t.Fatalf("rcode %s; want NOERROR", dns.RcodeToString[rcode])
		}
	}
	for _, f := range []*fake{a, b} {
		if n := f.asked.Load(); n < 50 {
			t.Errorf("%s got %d of 200 queries; want about half", f.address, n)
		}
	}
	if rcode, _ := ask(t, c, "www.example.org."); rcode != dns.RcodeRefused {
		t.Errorf("a name of another zone has rcode %s; want that of the next plugin, REFUSED", dns.RcodeToString[rcode])
	}
}

// A server that refuses connections costs nothing, and one that is silent costs one timeout.
func TestAsksAnotherServer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, tc := range []struct {
		name string
		dead net.Listener
		most time.Duration
	}{
		{"refused", closed, time.Second},
		{"silent", silent, silence + time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			well := newFake(t)
			c := newClusterDNS(t, netip.MustParseAddrPort(tc.dead.Addr().String()), well.address)
			slow := 0
			for range 30 {
				rcode, took := ask(t, c, name)
				if rcode != dns.RcodeSuccess || took > tc.most {
					t.Errorf("rcode %s after %s; want NOERROR within %s", dns.RcodeToString[rcode], took, tc.most)
				}
				if took > silence/2 {
					slow++
				}
			}
			if slow > 2 {
				t.Errorf("%d of 30 queries waited for the dead server; want it left out after the first", slow)
			}
		})
	}
}

// A server that cannot answer yet says SERVFAIL. That is the answer if no other knows better.
func TestServerFailure(t *testing.T) {
	starting, well := newFake(t), newFake(t)
	starting.rcode.Store(dns.RcodeServerFailure)
	c := newClusterDNS(t, starting.address, well.address)
	for range 20 {
		if rcode, _ := ask(t, c, name); rcode != dns.RcodeSuccess {
			t.Errorf("rcode %s; want NOERROR from the other server", dns.RcodeToString[rcode])
		}
	}
	well.rcode.Store(dns.RcodeServerFailure)
	if rcode, _ := ask(t, c, name); rcode != dns.RcodeServerFailure {
		t.Errorf("rcode %s; want SERVFAIL", dns.RcodeToString[rcode])
	}
	well.rcode.Store(dns.RcodeNameError)
	if rcode, _ := ask(t, c, name); rcode != dns.RcodeNameError {
		t.Errorf("rcode %s; want NXDOMAIN", dns.RcodeToString[rcode])
	}
}

func TestNoServers(t *testing.T) {
	c := newClusterDNS(t)
	if rcode, _ := ask(t, c, name); rcode != dns.RcodeServerFailure {
		t.Errorf("rcode %s; want SERVFAIL", dns.RcodeToString[rcode])
	}
	if c.Ready() {
		t.Error("ready without a server")
	}
	c.maxConcurrent = 0
	if rcode, _ := ask(t, c, name); rcode != dns.RcodeRefused {
		t.Errorf("rcode %s; want REFUSED when too many wait", dns.RcodeToString[rcode])
	}
}

// The first source that knows servers counts, and those that stay keep their connections.
func TestSources(t *testing.T) {
	c := newClusterDNS(t)
	p := c.pool
	known := func(texts ...string) (all []netip.AddrPort) {
		for _, text := range texts {
			all = append(all, netip.MustParseAddrPort(text))
		}
		return all
	}
	addresses := func() string {
		var texts []string
		for _, s := range p.servers() {
			texts = append(texts, s.address.String())
		}
		return strings.Join(texts, " ")
	}
	for _, step := range []struct {
		source int
		found  []netip.AddrPort
		want   string
	}{
		{fromCorefile, known("192.0.2.1:53"), "192.0.2.1:53"},
		{fromHeadless, known("192.0.2.2:53", "192.0.2.3:53"), "192.0.2.2:53 192.0.2.3:53"},
		{fromSlices, known("192.0.2.3:53", "192.0.2.4:53"), "192.0.2.3:53 192.0.2.4:53"},
		{fromSlices, nil, "192.0.2.2:53 192.0.2.3:53"},
		{fromHeadless, nil, "192.0.2.1:53"},
	} {
		before := p.servers()
		p.learn(step.source, step.found)
		if got := addresses(); got != step.want {
			t.Errorf("servers %s; want %s", got, step.want)
		}
		for _, s := range p.servers() {
			if i := slices.IndexFunc(before, func(o *server) bool { return o.address == s.address }); i >= 0 && before[i] != s {
				t.Errorf("%s is another server than before", s.address)
			}
		}
	}
	if got := p.endpoints(); len(got) > 0 {
		t.Errorf("endpoints %v; want none, as an address of the Corefile may be a ClusterIP", got)
	}
}

// Before it is started a pool can be asked, as nodelocal does in a goroutine of its own.
func TestPoolBeforeItsStart(t *testing.T) {
	c := &ClusterDNS{pool: newPool(config{zones: []string{"cluster.local."}})}
	if got := c.Servers(netip.Addr{}); len(got) > 0 || c.Ready() {
		t.Errorf("servers %v, ready %v; want none, and not ready", got, c.Ready())
	}
}

// The name of a headless Service is asked for at the servers of the Corefile.
func TestHeadless(t *testing.T) {
	f := newFake(t)
	p := newPool(config{zones: []string{"cluster.local."}, headless: "upstream.kube-system.svc.cluster.local.", to: []netip.AddrPort{f.address}})
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for deadline := time.Now().Add(10 * time.Second); len(p.endpoints()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no endpoints are found")
		}
	}
	if got := p.endpoints(); len(got) != 1 || got[0] != netip.MustParseAddrPort("10.96.0.1:53") {
		t.Errorf("endpoints %v; want 10.96.0.1:53", got)
	}
}

// Every metric is in the README, and every metric in the README is there.
func TestReadmeListsTheMetrics(t *testing.T) {
	servers.WithLabelValues("cluster.local.", sourceNames[fromSlices])
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var exported, listed []string
	for _, family := range families {
		if strings.HasPrefix(family.GetName(), "coredns_clusterdns_") {
			exported = append(exported, family.GetName())
		}
	}
	for _, name := range regexp.MustCompile("(?m)^\\* `(coredns_clusterdns_[a-z_]+)").FindAllStringSubmatch(readme(t), -1) {
		listed = append(listed, name[1])
	}
	slices.Sort(listed)
	if !slices.Equal(listed, exported) {
		t.Errorf("the README lists\n%q; exported are\n%q", listed, exported)
	}
}
