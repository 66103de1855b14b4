package differential

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/miekg/dns"
)

// silentAfter is how long a server may take. It is long beside the tenths of a millisecond that an answer takes, and
// short enough for the questions that stock leaves without one.
const silentAfter = time.Second

// patientAfter is for the questions that nobody should leave without an answer.
const patientAfter = 20 * time.Second

// errSilent is that there was no reply.
var errSilent = errors.New("no reply")

// A client asks one server about one block, over connections that it keeps. It is for one goroutine.
type client struct {
	address  string
	patience time.Duration
	conns    map[string]*dns.Conn // by network
}

func newClient(address string) *client {
	return &client{address: address, patience: silentAfter, conns: map[string]*dns.Conn{}}
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

// insist asks again, and waits so long that no machine is too busy to answer. By then a server has closed a TCP
// connection on which it has nothing to say.
func (c *client) insist(q question) (reply, error) {
	c.patience = patientAfter
	defer func() { c.patience = silentAfter }()
	r, err := c.exchange(q)
	if errors.Is(err, io.EOF) {
		err = errSilent
	}
	return r, err
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
	r, err := ask(conn, q.message, c.patience)
	if err != nil { // the next question must not meet the reply to this one
		_ = conn.Close()
		delete(c.conns, q.network)
	}
	return r, err
}

func ask(conn *dns.Conn, m *dns.Msg, within time.Duration) (reply, error) {
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
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
