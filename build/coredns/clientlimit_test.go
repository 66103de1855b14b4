package main

import (
	"fmt"
	"net"
	"path/filepath"
	"testing"

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
