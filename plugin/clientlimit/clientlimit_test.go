package clientlimit

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// start makes the plugin in front of one that answers.
func start(cfg config) *ClientLimit {
	l := newClientLimit(cfg)
	l.Next = test.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		return dns.RcodeSuccess, w.WriteMsg(new(dns.Msg).SetReply(r))
	})
	return l
}

// ask sends n queries from a client, and returns how many were answered and how
// many refused.
func ask(t *testing.T, l *ClientLimit, client string, n int) (answered, refused int) {
	t.Helper()
	for range n {
		w := dnstest.NewRecorder(&test.ResponseWriter{RemoteIP: client})
		rcode, err := l.ServeDNS(context.Background(), w, new(dns.Msg).SetQuestion("example.org.", dns.TypeA))
		switch {
		case err != nil:
			t.Fatal(err)
		case w.Msg != nil:
			answered++
		case rcode == dns.RcodeRefused:
			refused++
		}
	}
	return answered, refused
}

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(config{qps: 10, burst: 25, clients: minClients, exempt: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
		for _, step := range []struct {
			name                         string
			after                        time.Duration
			client                       string
			queries, answered, atHowMany int
		}{
			{"the burst", 0, "10.0.0.1", 25, 25, 0},
			{"beyond it", 0, "10.0.0.1", 5, 0, 5},
			{"another client", 0, "10.0.0.2", 25, 25, 0},
			{"the same in IPv6", 0, "fd00::1", 25, 25, 0},
			{"one that is exempt", 0, "192.0.2.7", 1000, 1000, 0},
			{"what a second brings", time.Second, "10.0.0.1", 12, 10, 2},
			{"after a long pause the burst and no more", time.Hour, "10.0.0.1", 30, 25, 5},
		} {
			time.Sleep(step.after)
			answered, refused := ask(t, l, step.client, step.queries)
			if answered != step.answered || refused != step.atHowMany {
				t.Errorf("%s: %d answered, %d refused; want %d, %d", step.name, answered, refused, step.answered, step.atHowMany)
			}
		}
	})
}

func count(t *testing.T, c prometheus.Metric) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func TestDrop(t *testing.T) {
	before := count(t, limited.WithLabelValues("", "drop"))
	answered, refused := ask(t, start(config{qps: 1, burst: 1, action: drop, clients: minClients}), "10.0.0.1", 10)
	if answered != 1 || refused != 0 {
		t.Errorf("%d answered, %d refused; want 1 answered and the others without a reply", answered, refused)
	}
	if n := count(t, limited.WithLabelValues("", "drop")) - before; n != 9 {
		t.Errorf("%v counted; want 9", n)
	}
}

// However many clients there are, no more are kept than asked for, and the ones
// that are given up are counted.
func TestMemoryIsBounded(t *testing.T) {
	l := start(config{qps: 1, burst: 1, clients: minClients})
	before := count(t, evicted)
	const clients = 20 * minClients
	for i := range clients {
		ask(t, l, fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&0xff, i&0xff), 1)
	}
	kept := l.buckets.Len()
	if kept > minClients {
		t.Errorf("%d clients are kept; want at most %d", kept, minClients)
	}
	if n := count(t, evicted) - before; int(n) != clients-kept {
		t.Errorf("%v counted; want %d", n, clients-kept)
	}
}

// What has no address has no limit.
func TestAddrOf(t *testing.T) {
	for _, tc := range []struct {
		addr net.Addr
		want string
		ok   bool
	}{
		{&net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}, "10.0.0.1", true},
		{&net.TCPAddr{IP: net.ParseIP("::ffff:10.0.0.1"), Port: 2}, "10.0.0.1", true},
		{&net.UDPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}, "fe80::1", true},
		{&net.UnixAddr{Name: "@"}, "invalid IP", false},
	} {
		if got, ok := addrOf(tc.addr); got.String() != tc.want || ok != tc.ok {
			t.Errorf("%v: %v, %t; want %s, %t", tc.addr, got, ok, tc.want, tc.ok)
		}
	}
}

func BenchmarkServeDNS(b *testing.B) {
	l := newClientLimit(config{qps: 1e6, burst: 1e6, clients: defaultClients})
	l.Next = test.NextHandler(dns.RcodeSuccess, nil)
	w, r := &test.ResponseWriter{}, new(dns.Msg).SetQuestion("example.org.", dns.TypeA)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.ServeDNS(context.Background(), w, r); err != nil {
			b.Fatal(err)
		}
	}
}
