package respond

import (
	"context"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/nonwriter"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"

	"github.com/miekg/dns"
)

// replies is a plugin that gives every query the records of a kind that its
// first label names.
var replies = plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	m := newReply(r)
	name := r.Question[0].Name
	h := dns.RR_Header{Name: name, Class: dns.ClassINET, Ttl: 5}
	switch dns.SplitDomainName(name)[0] {
	case "one":
		h.Rrtype = dns.TypeA
		m.Answer = []dns.RR{&dns.A{Hdr: h, A: net.IPv4(10, 0, 0, 1)}}
	case "many", "toomany":
		h.Rrtype = dns.TypeA
		for i := range map[string]int{"many": 25, "toomany": 200}[dns.SplitDomainName(name)[0]] {
			m.Answer = append(m.Answer, &dns.A{Hdr: h, A: net.IPv4(10, 0, 0, byte(i))})
		}
	case "text":
		h.Rrtype = dns.TypeTXT
		m.Answer = []dns.RR{&dns.TXT{Hdr: h, Txt: []string{"1.1.0"}}}
	default:
		m.Rcode = dns.RcodeNameError
	}
	return dns.RcodeSuccess, w.WriteMsg(m)
})

// serveOn runs a server as CoreDNS does, with a Gate or without, and returns its
// address.
func serveOn(t *testing.T, network string, decorate dns.DecorateWriter, gated bool) string {
	t.Helper()
	s := &dns.Server{DecorateWriter: decorate, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		var h plugin.Handler = replies
		if gated {
			h = Gate{Next: replies, Zones: Zones{{Name: "cluster.local."}}}
		}
		if _, err := h.ServeDNS(context.Background(), request.NewScrubWriter(r, w), r); err != nil {
			t.Error(err)
		}
	})}
	var address string
	if network == "udp" {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.PacketConn, address = conn, conn.LocalAddr().String()
	} else {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.Listener, address = l, l.Addr().String()
	}
	started, ended := make(chan struct{}), make(chan error, 1)
	s.NotifyStartedFunc = func() { close(started) }
	go func() { ended <- s.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return address
}

// A client gets the same with the Gate's writer as without.
func TestWriterIsTransparent(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		plain, gated := serveOn(t, network, nil, false), serveOn(t, network, nil, true)
		client := dns.Client{Net: network, Timeout: 5 * time.Second, UDPSize: dns.MaxMsgSize}
		for _, name := range []string{"one", "many", "toomany", "text", "none", `odd\.label`, "ONE"} {
			for _, edns := range []uint16{0, 512, 1232} {
				q := new(dns.Msg).SetQuestion(name+".cluster.local.", dns.TypeA)
				if edns > 0 {
					q.SetEdns0(edns, true)
				}
				want, _, err := client.Exchange(q, plain)
				if err != nil {
					t.Fatal(err)
				}
				got, _, err := client.Exchange(q, gated)
				if err != nil {
					t.Fatal(err)
				}
				if got.String() != want.String() {
					t.Errorf("%s, %s, EDNS %d: got %s\nwant %s", network, name, edns, got, want)
				}
			}
		}
	}
}

// Who decorates the server's writer sees every reply.
func TestWriterLeavesDecorationAlone(t *testing.T) {
	var seen atomic.Int32
	address := serveOn(t, "udp", func(w dns.Writer) dns.Writer { return countingWriter{w, &seen} }, true)
	if _, err := dns.Exchange(new(dns.Msg).SetQuestion("one.cluster.local.", dns.TypeA), address); err != nil {
		t.Fatal(err)
	}
	if seen.Load() != 1 {
		t.Errorf("the decorated writer wrote %d replies; want 1", seen.Load())
	}
}

type countingWriter struct {
	dns.Writer
	seen *atomic.Int32
}

func (w countingWriter) Write(b []byte) (int, error) {
	w.seen.Add(1)
	return w.Writer.Write(b)
}

// Who catches messages, as a lookup through the chain does, gets them unpacked.
func TestWriterIsForServersAlone(t *testing.T) {
	r := new(dns.Msg).SetQuestion("one.cluster.local.", dns.TypeA)
	catcher := nonwriter.New(&test.ResponseWriter{})
	g := Gate{Next: replies, Zones: Zones{{Name: "cluster.local."}}}
	if _, err := g.ServeDNS(context.Background(), request.NewScrubWriter(r, catcher), r); err != nil {
		t.Fatal(err)
	}
	if catcher.Msg == nil || len(catcher.Msg.Answer) != 1 {
		t.Errorf("caught %v; want the reply", catcher.Msg)
	}
}

// The types by whose names the writer goes are still there: without them replies
// would be right, but as slow as ever.
func TestOrdinaryWriterIsKnown(t *testing.T) {
	var taken []bool
	done := make(chan struct{})
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		taken = append(taken, takesPacked(w), takesPacked(nonwriter.New(w)))
		_ = w.WriteMsg(newReply(r))
		close(done)
	})}
	ended := make(chan error, 1)
	go func() { ended <- s.ActivateAndServe() }()
	if _, err := dns.Exchange(new(dns.Msg).SetQuestion("a.", dns.TypeA), conn.LocalAddr().String()); err != nil {
		t.Fatal(err)
	}
	<-done
	if err := s.Shutdown(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if want := []bool{true, false}; !slices.Equal(taken, want) {
		t.Errorf("takes packed messages: server's writer, one that catches: %v; want %v", taken, want)
	}
}
