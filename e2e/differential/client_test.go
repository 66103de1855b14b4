package differential

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/miekg/dns"
)

// silentAfter is how long a server may take. It is long beside the tenths of a millisecond that an answer takes, and
// short enough for the questions that stock leaves without one.
const silentAfter = time.Second

// errSilent is that there was no reply.
var errSilent = errors.New("no reply")

// A client asks one server about one block, over connections that it keeps. It is for one goroutine.
type client struct {
	address string
	conns   map[string]*dns.Conn // by network
}

func newClient(address string) *client {
	return &client{address: address, conns: map[string]*dns.Conn{}}
}

func (c *client) close() {
	for network, conn := range c.conns {
		_ = conn.Close()
		delete(c.conns, network)
	}
}

// A reply is a message and the octets it came in.
type reply struct {
	*dns.Msg
	size int
}

// exchange sends a query and returns the reply.
func (c *client) exchange(q question) (reply, error) {
	for attempt := 0; ; attempt++ {
		r, err := c.try(q)
		if err == nil || q.network == "udp" || attempt > 0 {
			return r, err
		}
		// The server may close a TCP connection when it likes.
	}
}

func (c *client) try(q question) (reply, error) {
	conn := c.conns[q.network]
	if conn == nil {
		plain, err := net.Dial(q.network, c.address)
		if err != nil {
			return reply{}, err
		}
		conn = &dns.Conn{Conn: plain, UDPSize: dns.MaxMsgSize}
		c.conns[q.network] = conn
	}
	r, err := ask(conn, q.message)
	if err != nil { // the next question must not meet the reply to this one
		_ = conn.Close()
		delete(c.conns, q.network)
	}
	return r, err
}

func ask(conn *dns.Conn, m *dns.Msg) (reply, error) {
	if err := conn.SetDeadline(time.Now().Add(silentAfter)); err != nil {
		return reply{}, err
	}
	if err := conn.WriteMsg(m); err != nil {
		return reply{}, err
	}
	octets, err := conn.ReadMsgHeader(nil)
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return reply{}, errSilent
	}
	if err != nil {
		return reply{}, err
	}
	r := reply{new(dns.Msg), len(octets)}
	if err := r.Unpack(octets); err != nil {
		return reply{}, fmt.Errorf("reply of %d octets: %w", len(octets), err)
	}
	if r.Id != m.Id {
		return reply{}, fmt.Errorf("reply to %d; want %d", r.Id, m.Id)
	}
	return r, nil
}
