//go:build linux

package udpbatch

import (
	"context"
	"fmt"
	"io"
	golog "log"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/multisocket"
	_ "github.com/coredns/coredns/plugin/proxyproto"
	_ "github.com/coredns/coredns/plugin/shed"
	_ "github.com/coredns/coredns/plugin/timeouts"
	_ "github.com/coredns/coredns/plugin/tsig"
	"github.com/coredns/coredns/request"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	golog.SetOutput(io.Discard)
	dnsserver.Quiet = true
	after := slices.Index(dnsserver.Directives, "shed") + 1
	dnsserver.Directives = slices.Insert(dnsserver.Directives, after, directive)
	dnsserver.Directives = append(dnsserver.Directives, "answer")
	plugin.Register("answer", setupAnswer)
	goleak.VerifyTestMain(m)
}

// answer is a plugin that does what the first label of the question says.
type answer struct{}

func setupAnswer(c *caddy.Controller) error {
	config := dnsserver.GetConfig(c)
	config.AddPlugin(func(plugin.Handler) plugin.Handler { return answer{} })
	for c.Next() {
		if slices.Contains(c.RemainingArgs(), "update") {
			config.AllowOpcode(dns.OpcodeUpdate)
		}
	}
	return nil
}

func (answer) Name() string { return "answer" }

// gates are what handlers of "wait-NAME." wait for.
var gates sync.Map // name -> chan struct{}

func (answer) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	m := new(dns.Msg).SetReply(r)
	txt := func(s string) {
		m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{s}})
	}
	label, _, _ := strings.Cut(r.Question[0].Name, ".")
	do, argument, _ := strings.Cut(label, "-")
	state := request.Request{W: w, Req: r}
	switch do {
	case "who":
		txt(fmt.Sprintf("%s %T %s %d %v %v", state.Proto(), w.RemoteAddr(), state.IP(), state.Family(),
			ctx.Value(dnsserver.Key{}).(*dnsserver.Server).Addr == "", ctx.Value(dnsserver.LoopKey{})))
	case "tsig":
		txt(fmt.Sprint(w.TsigStatus()))
	case "many":
		for i := range 300 {
			txt(fmt.Sprint(i))
		}
	case "panic":
		panic("as asked")
	case "refused":
		return dns.RcodeRefused, nil
	case "nothing":
		return dns.RcodeSuccess, nil
	case "raw":
		packed, err := m.Pack()
		if err != nil {
			return dns.RcodeServerFailure, err
		}
		if n, err := w.Write(packed); n < len(packed) || err != nil { // by TCP, CoreDNS counts the length in front, too
			return dns.RcodeServerFailure, fmt.Errorf("Write: %d, %w", n, err)
		}
		return dns.RcodeSuccess, nil
	case "close":
		w.Hijack()
		if w.Close() != nil || w.Close() == nil || w.WriteMsg(m) == nil {
			txt("a closed writer writes")
		}
		return dns.RcodeSuccess, nil
	case "hijack":
		w.Hijack()
		go func() {
			time.Sleep(10 * time.Millisecond)
			_ = w.WriteMsg(m)
			_ = w.Close()
		}()
		return dns.RcodeSuccess, nil
	case "later":
		go func() {
			time.Sleep(10 * time.Millisecond)
			_ = w.WriteMsg(m)
		}()
		return dns.RcodeSuccess, nil
	case "wait":
		if gate, ok := gates.Load(argument); ok {
			<-gate.(chan struct{})
		}
	case "sleep":
		if d, err := time.ParseDuration(argument); err == nil {
			time.Sleep(d)
		}
	}
	return dns.RcodeSuccess, w.WriteMsg(m)
}

// start serves a Corefile until the test ends.
func start(t testing.TB, corefile string) *caddy.Instance {
	t.Helper()
	i, err := caddy.Start(input(corefile))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, i) })
	return i
}

func input(corefile string) caddy.Input {
	return caddy.CaddyfileInput{Filepath: "Corefile", Contents: []byte(corefile), ServerTypeName: "dns"}
}

// stop ends an instance as SIGTERM does. It may have ended already.
func stop(t testing.TB, i *caddy.Instance) {
	t.Helper()
	if !alive(i) {
		return
	}
	begun(t)
	for _, err := range i.ShutdownCallbacks() {
		t.Error(err)
	}
	if err := i.Stop(); err != nil {
		t.Error(err)
	}
}

// reload serves another Corefile with one server block.
func reload(t testing.TB, i *caddy.Instance, corefile string) *caddy.Instance {
	t.Helper()
	begun(t)
	next, err := i.Restart(input(corefile))
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// begun waits until CoreDNS's own server is at work: if it is stopped before, it
// never ends.
func begun(t testing.TB) {
	t.Helper()
	stacks := make([]byte, 16<<20)
	eventually(t, "CoreDNS's own server", func() bool {
		all := string(stacks[:runtime.Stack(stacks, true)])
		return strings.Contains(all, "dns.(*Server).serveUDP(") && strings.Contains(all, "dns.(*Server).serveTCP(")
	})
}

// freePort returns a port that is free for UDP and TCP on all addresses at the
// time of the call.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		udp, err := net.ListenPacket("udp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		port := udp.LocalAddr().(*net.UDPAddr).Port
		tcp, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		_ = udp.Close()
		if err == nil {
			_ = tcp.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// listenerOf waits until the address is served and returns its listener. The
// hook runs in a goroutine of CoreDNS.
func listenerOf(t testing.TB, address string) *listener {
	t.Helper()
	var e *listener
	eventually(t, "the listener of "+address, func() bool {
		process.mu.Lock()
		defer process.mu.Unlock()
		e = process.listeners["dns://"+address]
		return e != nil && e.ready()
	})
	return e
}

// ready tells whether the listener has done what the last server asked for.
func (e *listener) ready() bool {
	if !e.group.TryLock() {
		return false
	}
	defer e.group.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.lanes) == e.wanted && (e.streams.socket != nil) == (e.streams.limit > 0)
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// metric returns the value of a metric of a listener, with all of these label
// values.
func metric(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != plugin.Namespace+"_"+directive+"_"+name {
			continue
		}
	metrics:
		for _, m := range family.GetMetric() {
			var values []string
			for _, label := range m.GetLabel() {
				values = append(values, label.GetValue())
			}
			for _, want := range labels {
				if !slices.Contains(values, want) {
					continue metrics
				}
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return 0
}

// ask sends a question such as "who.example.org. TXT" and returns the reply.
func ask(t testing.TB, server, question string) *dns.Msg {
	t.Helper()
	reply, err := try(server, question, 5*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", question, err)
	}
	return reply
}

func try(server, question string, timeout time.Duration) (*dns.Msg, error) {
	name, qtype, _ := strings.Cut(question, " ")
	client := dns.Client{Timeout: timeout, UDPSize: dns.MaxMsgSize}
	reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, dns.StringToType[qtype]), server)
	return reply, err
}

// text returns the TXT records of a reply.
func text(reply *dns.Msg) string {
	var all []string
	for _, rr := range reply.Answer {
		if txt, ok := rr.(*dns.TXT); ok {
			all = append(all, txt.Txt...)
		}
	}
	return strings.Join(all, ",")
}

func TestServes(t *testing.T) {
	for _, tc := range []struct {
		name, bind, address, query string
		want                       string
	}{
		{"one IPv4 address", "bind 127.0.0.1", "127.0.0.1:%d", "127.0.0.1", "udp *net.UDPAddr 127.0.0.1 1 false 0"},
		{"one IPv6 address", "bind ::1", "[::1]:%d", "::1", "udp *net.UDPAddr ::1 2 false 0"},
		{"all IPv4 addresses", "bind 0.0.0.0", "0.0.0.0:%d", "127.0.0.1", "udp *net.UDPAddr 127.0.0.1 1 false 0"},
		{"all addresses, asked by IPv4", "", ":%d", "127.0.0.1", "udp *net.UDPAddr 127.0.0.1 1 false 0"},
		{"all addresses, asked by IPv6", "", ":%d", "::1", "udp *net.UDPAddr ::1 2 false 0"},
		{"one of two addresses", "bind 127.0.0.1 127.0.0.2", "127.0.0.2:%d", "127.0.0.2", "udp *net.UDPAddr 127.0.0.1 1 false 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			port := freePort(t)
			start(t, fmt.Sprintf(".:%d {\n%s\nudpbatch\nanswer\n}", port, tc.bind))
			e := listenerOf(t, fmt.Sprintf(tc.address, port))
			before := metric(t, "packets_total", e.address, "ordinary")
			for range 50 {
				reply := ask(t, net.JoinHostPort(tc.query, fmt.Sprint(port)), "who.example.org. TXT")
				if got := text(reply); got != tc.want {
					t.Fatalf("got %q; want %q", got, tc.want)
				}
			}
			if n := metric(t, "packets_total", e.address, "ordinary") - before; n != 0 {
				t.Errorf("%v of 50 queries were served the ordinary way; want 0", n)
			}
		})
	}
}

// The reply has to come from the address that was asked, whatever the routes
// say: 127.0.0.0/8 is all local.
func TestSourceAddressIsTheOneAsked(t *testing.T) {
	port := freePort(t)
	start(t, fmt.Sprintf(".:%d {\nudpbatch\nanswer\n}", port))
	listenerOf(t, fmt.Sprintf(":%d", port))
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 9)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	query, err := new(dns.Msg).SetQuestion("x.example.org.", dns.TypeTXT).Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, last := range []byte{1, 5, 77, 254} {
		asked := &net.UDPAddr{IP: net.IPv4(127, 0, 0, last), Port: port}
		if _, err := conn.WriteTo(query, asked); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, from, err := conn.ReadFromUDP(make([]byte, 512))
		if err != nil {
			t.Fatal(err)
		}
		if from.String() != asked.String() {
			t.Errorf("asked at %s, the reply came from %s", asked, from)
		}
	}
}

func TestWriter(t *testing.T) {
	port := freePort(t)
	start(t, fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch\nanswer\n}", port))
	server := fmt.Sprintf("127.0.0.1:%d", port)
	listenerOf(t, server)
	for _, name := range []string{"raw", "later", "plain"} {
		ask(t, server, name+".example.org. TXT")
	}
	for name, want := range map[string]int{"panic": dns.RcodeServerFailure, "refused": dns.RcodeRefused} {
		if reply := ask(t, server, name+".example.org. TXT"); reply.Rcode != want {
			t.Errorf("%s: rcode %s; want %s", name, dns.RcodeToString[reply.Rcode], dns.RcodeToString[want])
		}
	}
	for _, name := range []string{"close", "nothing"} {
		if reply, err := try(server, name+".example.org. TXT", 50*time.Millisecond); err == nil {
			t.Errorf("%s: got a reply, %q; want none", name, text(reply))
		}
	}
}
