package nodelocal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/plugin/internal/selfmark"
)

const (
	// selfTimeout is how long an answer to ourselves may take. Two that fail in
	// a row are over before switchTimeout.
	selfTimeout = time.Second
	// exchangeTimeout is how long one packet is waited for.
	exchangeTimeout = selfTimeout / 3
	// selfTries is how many connections are tried until one is to this process
	// and not to another one with the same address: the kernel chooses anew for
	// each, so that one of two is missed once in 256 times.
	selfTries = 8
)

// An outcome is what came of asking ourselves.
type outcome int

const (
	unanswered      outcome = iota
	answeredByOther         // another process answers at the address
	answeredByUs
)

func (o outcome) String() string {
	return [...]string{"unanswered", "other", "answered"}[o]
}

// A selfQuery asks the server at an address over the network, as a pod does.
type selfQuery struct {
	server netip.AddrPort
	name   string
}

// ask asks over UDP and over TCP, and returns the worse of both.
func (q selfQuery) ask(ctx context.Context) outcome {
	results := make([]outcome, 2)
	var both sync.WaitGroup
	for i, network := range []string{"udp", "tcp"} {
		both.Go(func() { results[i] = q.askOver(ctx, network) })
	}
	both.Wait()
	return min(results[0], results[1])
}

// askOver asks until we answer, or time is over: a busy server may lose a packet.
func (q selfQuery) askOver(ctx context.Context, network string) outcome {
	ctx, cancel := context.WithTimeout(ctx, selfTimeout)
	defer cancel()
	result := unanswered
	for tries := 0; tries < selfTries && ctx.Err() == nil; tries++ {
		who, err := q.exchange(ctx, network)
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			return result // nobody is there
		case err != nil:
		case who == identity:
			return answeredByUs
		default:
			result = answeredByOther
		}
	}
	return result
}

// exchange asks once and returns who answered. Its packets are marked, as those of
// other programs may come from the same address.
func (q selfQuery) exchange(ctx context.Context, network string) (who string, err error) {
	client := dns.Client{Net: network, Timeout: exchangeTimeout, Dialer: &net.Dialer{LocalAddr: localAddr(network, q.server.Addr()), Control: selfmark.Set, Timeout: exchangeTimeout}}
	client.Dialer.SetMultipathTCP(false)
	m := new(dns.Msg).SetQuestion(q.name, dns.TypeTXT)
	reply, _, err := client.ExchangeContext(ctx, m, q.server.String())
	if err != nil {
		return "", err
	}
	if len(reply.Answer) == 1 {
		if txt, ok := reply.Answer[0].(*dns.TXT); ok && len(txt.Txt) == 1 {
			return txt.Txt[0], nil
		}
	}
	return "", fmt.Errorf("%s answers %s with %s; want who it is", q.server, q.name, dns.RcodeToString[reply.Rcode])
}

func localAddr(network string, a netip.Addr) net.Addr {
	if network == "tcp" {
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
	}
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
}
