package harness

import (
	"net"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// An Upstream is a DNS server outside the cluster: it answers the records it was given, and NXDOMAIN with a SOA for the
// rest. It counts what it is asked.
type Upstream struct {
	zone []dns.RR

	mu    sync.Mutex // guards asked
	asked map[string]int
}

// StartUpstream serves zone, in the text of a zone file, on a UDP socket and a TCP listener until the test ends.
func StartUpstream(t testing.TB, udp net.PacketConn, tcp net.Listener, zone ...string) *Upstream {
	t.Helper()
	u := &Upstream{asked: make(map[string]int)}
	for _, text := range zone {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		u.zone = append(u.zone, rr)
	}
	var running sync.WaitGroup
	t.Cleanup(running.Wait) // last: cleanups run in reverse order
	for _, server := range []*dns.Server{{PacketConn: udp}, {Listener: tcp}} {
		server.Handler = u
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		running.Go(func() { _ = server.ActivateAndServe() })
		<-started
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	return u
}

// ServeUpstream is StartUpstream on the loopback interface. It returns the address too.
func ServeUpstream(t testing.TB, zone ...string) (u *Upstream, address string) {
	t.Helper()
	for range 10 { // as somebody else may have the port in the other protocol
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			return StartUpstream(t, udp, tcp, zone...), tcp.Addr().String()
		}
		t.Log(err)
		_ = tcp.Close()
	}
	t.Fatal("no port that is free in UDP and TCP")
	return nil, ""
}

// Asked returns how often a question, such as "example.org. A", has come.
func (u *Upstream) Asked(question string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.asked[question]
}

// ServeDNS implements dns.Handler.
func (u *Upstream) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	question := query.Question[0]
	u.mu.Lock()
	u.asked[question.Name+" "+dns.TypeToString[question.Qtype]]++
	u.mu.Unlock()

	reply := new(dns.Msg).SetReply(query)
	reply.RecursionAvailable = true
	reply.Rcode = dns.RcodeNameError
	for _, rr := range u.zone {
		if dns.CanonicalName(rr.Header().Name) != dns.CanonicalName(question.Name) {
			continue
		}
		reply.Rcode = dns.RcodeSuccess
		if rr.Header().Rrtype == question.Qtype {
			reply.Answer = append(reply.Answer, rr)
		}
	}
	if len(reply.Answer) == 0 {
		reply.Ns = []dns.RR{&dns.SOA{
			Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60},
			Ns:  "ns.invalid.", Mbox: "hostmaster.invalid.", Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: 60,
		}}
	}
	_ = w.WriteMsg(reply) // a client that is gone asks again
}
