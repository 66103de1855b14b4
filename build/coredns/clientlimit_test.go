package main

import (
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A client that asks without pause is refused, over UDP and TCP together, while another is answered.
func TestNoisyClient(t *testing.T) {
	corefile := filepath.Join(t.TempDir(), "Corefile")
	write(t, corefile, fmt.Sprintf(".:%d {\n    bind 127.0.0.1\n    clientlimit 1 20\n    whoami\n}\n", freePort(t)))
	server := start(t, corefile)
	server.wants(t, "noisy.example.org. A", "NODATA")

	ask := func(from net.Addr, network string) string {
		client := dns.Client{Net: network, Timeout: patience, Dialer: &net.Dialer{LocalAddr: from}}
		reply, _, err := client.Exchange(new(dns.Msg).SetQuestion("example.org.", dns.TypeA), server.address)
		if err != nil {
			t.Fatal(err)
		}
		return dns.RcodeToString[reply.Rcode]
	}
	noisy, other := net.IPv4(127, 0, 0, 3), net.IPv4(127, 0, 0, 4)
	got := map[string]int{}
	for range 20 {
		got[ask(&net.UDPAddr{IP: noisy}, "udp")]++
		got[ask(&net.TCPAddr{IP: noisy}, "tcp")]++
	}
	if got["NOERROR"] < 20 || got["REFUSED"] < 5 {
		t.Errorf("the noisy client got %v of 40; want its burst of 20 answered and others refused", got)
	}
	for range 10 {
		if rcode := ask(&net.UDPAddr{IP: other}, "udp"); rcode != "NOERROR" {
			t.Errorf("the other client got %s; want NOERROR", rcode)
		}
	}
	server.logs(t, "Client 127.0.0.3 goes beyond 1 queries a second: refuse")
}

// While a client floods the server, another within its limit has every answer, and none is refused; the one that floods has
// its burst and its rate, and no more.
func TestFloodBesideAnotherClient(t *testing.T) {
	const (
		qps, burst = 50, 100
		flood      = 2000 // queries, in 2 s: few enough for a busy machine, and twenty times the limit
		questions  = 80   // of the other client, below the burst
	)
	for _, test := range []struct{ sockets, directive string }{{"CoreDNS's", ""}, {"udpbatch's", "udpbatch"}} {
		t.Run(test.sockets, func(t *testing.T) {
			corefile := filepath.Join(t.TempDir(), "Corefile")
			write(t, corefile, fmt.Sprintf(".:%d {\n    bind 127.0.0.1\n    %s\n    clientlimit %d %d\n    whoami\n}\n", freePort(t), test.directive, qps, burst))
			server := start(t, corefile)
			server.wants(t, "started.example.org. A", "NODATA")

			noisy := connect(t, server.address, net.IPv4(127, 0, 0, 2))
			begun, sent := time.Now(), make(chan struct{})
			go func() {
				defer close(sent)
				pace := time.NewTicker(10 * time.Millisecond)
				defer pace.Stop()
				for i := range flood {
					if i%10 == 0 {
						<-pace.C
					}
					if err := noisy.WriteMsg(new(dns.Msg).SetQuestion("example.org.", dns.TypeA)); err != nil {
						t.Error(err)
						return
					}
				}
			}()
			got, counted := map[string]int{}, make(chan struct{})
			go func() {
				defer close(counted)
				for {
					reply, err := noisy.ReadMsg()
					if err != nil {
						return // the deadline below
					}
					got[dns.RcodeToString[reply.Rcode]]++
				}
			}()

			other := connect(t, server.address, net.IPv4(127, 0, 0, 3))
			repeated, pace := 0, time.NewTicker(2*time.Second/questions)
			defer pace.Stop()
			for range questions {
				<-pace.C
				reply, tries := exchange(t, other)
				repeated += tries - 1
				if reply.Rcode != dns.RcodeSuccess {
					t.Errorf("the other client got %s; want NOERROR", dns.RcodeToString[reply.Rcode])
				}
			}
			<-sent
			if err := noisy.SetReadDeadline(time.Now().Add(time.Second)); err != nil { // for what is under way
				t.Fatal(err)
			}
			<-counted
			if most := burst + qps*time.Since(begun).Seconds() + 1; got["NOERROR"] < burst/2 || float64(got["NOERROR"]) > most || got["REFUSED"] == 0 {
				t.Errorf("of %d queries the noisy client got %v; want %d to %.0f answered and others refused", flood, got, burst/2, most)
			}
			t.Logf("noisy: %v of %d; the other: %d of %d, %d asked again", got, flood, questions, questions, repeated)
		})
	}
}

// connect opens a socket to a server from one of the loopback addresses.
func connect(t *testing.T, server string, from net.IP) *dns.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: from}}
	conn, err := dialer.DialContext(t.Context(), "udp", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &dns.Conn{Conn: conn}
}

// exchange asks as a resolver does: again after a second without an answer, as a packet may be lost where the flood fills
// the server's socket while others have the CPU. It returns how often it asked.
func exchange(t *testing.T, conn *dns.Conn) (reply *dns.Msg, tries int) {
	t.Helper()
	client := dns.Client{Timeout: time.Second}
	for tries = 1; tries <= int(patience/client.Timeout); tries++ {
		if reply, _, err := client.ExchangeWithConn(new(dns.Msg).SetQuestion("example.org.", dns.TypeA), conn); err == nil {
			return reply, tries
		}
	}
	t.Fatalf("no answer to %d queries, one a second", tries-1)
	return nil, 0
}
