//go:build linux

package udpbatch

import (
	"container/list"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	lengthSize = 2 // of what goes before each message (RFC 1035 section 4.2.2)

	// queryRoom is what a connection reads into: any usual query with its length.
	// It grows with what has arrived of a longer one, never with what was
	// announced.
	queryRoom = 512
)

// A connection is a TCP connection with what it takes to serve it. One goroutine
// runs it at a time: it reads a query, handles it, and so on. If a handler does
// not return soon, or is known to take long, another goroutine takes the
// connection over, and the first one then handles that query only; so replies
// may leave in another order (RFC 7766 section 7).
type connection struct {
	streams *streams
	conn    *net.TCPConn
	remote  netip.AddrPort

	// These belong to whoever runs the connection.
	in         []byte
	start, end int // what has arrived in in and has not been handled
	queries    int // read so far

	// These are guarded by streams.mu.
	place    *list.Element // in streams.idle, if no query is at work
	busy     int           // queries at work
	turn     uint64        // counts queries
	handling bool          // whoever runs the connection handles a query
	ended    bool          // nothing more will be read
	hijacked bool          // a plugin closes it
	timer    *time.Timer

	writing sync.Mutex // held while a reply is written
}

func newConnection(t *streams, conn *net.TCPConn) *connection {
	c := &connection{streams: t, conn: conn, remote: addrPort(conn.RemoteAddr()), in: make([]byte, queryRoom)}
	c.timer = time.AfterFunc(time.Hour, c.late)
	c.timer.Stop()
	return c
}

func (c *connection) client() netip.Addr { return c.remote.Addr() }

// run serves the connection. It returns true if another goroutine does so now.
func (c *connection) run() (lost bool) {
	for {
		server := c.streams.listener.server()
		most := server.MaxTCPQueries // CoreDNS's default is -1, for any number
		if most >= 0 && c.queries >= most {
			c.finish(nil)
			return false
		}
		timeout := server.IdleTimeout
		if c.queries == 0 {
			timeout = server.ReadTimeout
		}
		message, err := c.next(timeout)
		if err != nil {
			c.finish(err)
			return false
		}
		c.queries++
		if !c.serve(message) {
			return true
		}
	}
}

// next reads a message. It is valid until the next call.
func (c *connection) next(timeout time.Duration) ([]byte, error) {
	err := c.await(timeout)
	if m, ok := c.message(); ok && err == nil {
		return m, nil
	}
	for err == nil {
		c.makeRoom()
		var n int
		n, err = c.conn.Read(c.in[c.end:])
		c.end += n
		if m, ok := c.message(); ok {
			return m, nil
		}
	}
	return nil, err
}

// await sets how long a message is waited for. An error says that none is.
func (c *connection) await(timeout time.Duration) error {
	t := c.streams
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case c.hijacked:
		return net.ErrClosed
	case !t.leaving.IsZero():
		return c.conn.SetReadDeadline(c.lastRead())
	}
	return c.conn.SetReadDeadline(time.Now().Add(timeout))
}

// lastRead is when reading ends as the connections leave. It is called with
// streams.mu held.
func (c *connection) lastRead() time.Time {
	if c.turn == 0 {
		return c.streams.leaving.Add(firstQuery)
	}
	return c.streams.leaving
}

// message takes the next message out of what has arrived, if that is whole.
func (c *connection) message() ([]byte, bool) {
	arrived := c.in[c.start:c.end]
	if len(arrived) < lengthSize {
		return nil, false
	}
	size := lengthSize + int(binary.BigEndian.Uint16(arrived))
	if len(arrived) < size {
		return nil, false
	}
	c.start += size
	return arrived[lengthSize:size], true
}

// makeRoom makes room for more in front of which nothing is left of messages
// that have been handled.
func (c *connection) makeRoom() {
	arrived := c.in[c.start:c.end]
	switch {
	case len(arrived) == len(c.in):
		c.in = make([]byte, min(2*len(c.in), lengthSize+dns.MaxMsgSize))
	case len(arrived) == 0 && len(c.in) > queryRoom:
		c.in = make([]byte, queryRoom) // it was a long one
	}
	c.start, c.end = 0, copy(c.in, arrived)
}

// serve handles one message. It returns false if another goroutine runs the
// connection now.
func (c *connection) serve(message []byte) bool {
	e := c.streams.listener
	s := e.enter()
	defer e.leave(s)
	w := &streamResponse{connection: c, signature: signature{secrets: s.secrets}, timeout: s.server.WriteTimeout}
	req, refusal := s.read(&w.signature, message)
	if refusal != nil {
		_ = w.WriteMsg(refusal)
	}
	if req == nil {
		return true
	}
	suffix := suffixOf(req)
	turn := c.begin()
	if !c.streams.pace.quick(suffix) {
		c.late()
	}
	start := time.Now()
	s.server.ServeDNS(s.ctx, w, req)
	c.streams.pace.observe(suffix, seen(time.Since(start)))
	return c.done(turn)
}

// begin starts a turn and returns its number.
func (c *connection) begin() uint64 {
	t := c.streams
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.place != nil {
		t.idle.Remove(c.place)
		c.place = nil
	}
	c.busy++
	c.turn++
	c.handling = true
	c.timer.Reset(patience)
	return c.turn
}

// late makes another goroutine take the connection over from the one that
// handles a query, if it can be had.
func (c *connection) late() {
	t := c.streams
	t.mu.Lock()
	defer t.mu.Unlock()
	if !c.handling {
		return
	}
	if c.busy >= pipelined || !t.listener.workers.takeOver(c, streamShare) {
		c.timer.Reset(patience)
		return
	}
	c.handling = false
	c.turn++
}

// done ends a query and tells whether the goroutine still runs the connection.
func (c *connection) done(turn uint64) bool {
	t := c.streams
	t.mu.Lock()
	defer t.mu.Unlock()
	c.busy--
	still := c.turn == turn
	if still {
		c.handling = false
		c.timer.Stop()
	}
	if c.busy > 0 {
		return still
	}
	switch _, open := t.open[c]; {
	case !open || c.hijacked:
	case c.ended:
		t.remove(c)
		_ = c.conn.Close()
	default:
		c.place = t.idle.PushBack(c)
	}
	return still
}

// finish is called when nothing more will be read, for an error perhaps. It
// closes the connection once all that was read has been answered.
func (c *connection) finish(err error) {
	t := c.streams
	t.mu.Lock()
	defer t.mu.Unlock()
	c.ended = true
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.hijacked && t.leaving.IsZero() {
		t.listener.metrics.closed[closeIdle].Inc()
	}
	if c.busy == 0 && !c.hijacked {
		t.remove(c)
		_ = c.conn.Close()
	}
}

// hijack leaves the connection to a plugin, which closes it.
func (c *connection) hijack() {
	t := c.streams
	t.mu.Lock()
	defer t.mu.Unlock()
	c.hijacked = true
	_ = c.conn.SetReadDeadline(time.Unix(1, 0))
}

// close closes the connection at once.
func (c *connection) close() error {
	t := c.streams
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(c)
	return c.conn.Close()
}

// write sends a message with its length in front of it. If the client does not
// take it in time, the connection is of no more use.
func (c *connection) write(framed []byte, timeout time.Duration) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	err := c.conn.SetWriteDeadline(time.Now().Add(timeout))
	if err == nil {
		_, err = c.conn.Write(framed)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.streams.listener.metrics.closed[closeWrite].Inc()
		_ = c.close()
	}
	return err
}

// A streamResponse writes the replies to one query that came by TCP, as
// dns.ResponseWriter says.
type streamResponse struct {
	signature
	connection *connection
	timeout    time.Duration
	closed     bool
}

var (
	_ dns.ResponseWriter   = (*streamResponse)(nil)
	_ dns.ConnectionStater = (*streamResponse)(nil)
)

// LocalAddr is the address that was asked.
func (w *streamResponse) LocalAddr() net.Addr { return w.connection.conn.LocalAddr() }

// RemoteAddr is the client's.
func (w *streamResponse) RemoteAddr() net.Addr { return w.connection.conn.RemoteAddr() }

// Hijack leaves the connection to the caller: nothing more is read from it, and
// Close is up to the caller. It counts as one of the connections until then.
func (w *streamResponse) Hijack() { w.connection.hijack() }

// Close closes the connection.
func (w *streamResponse) Close() error {
	if w.closed {
		return errClosed
	}
	w.closed = true
	return w.connection.close()
}

// WriteMsg packs, signs and sends a reply. It keeps nothing of m.
func (w *streamResponse) WriteMsg(m *dns.Msg) error {
	if w.closed {
		return errWriteAfterClose
	}
	buffer := replyBuffers.Get().(*[replySize]byte)
	defer replyBuffers.Put(buffer)
	packed, err := w.pack(m, buffer[lengthSize:])
	if err != nil {
		return err
	}
	return w.send(packed, buffer)
}

// Write sends a message that is packed already.
func (w *streamResponse) Write(packed []byte) (int, error) {
	if w.closed {
		return 0, errWriteAfterClose
	}
	if err := w.send(packed, nil); err != nil {
		return 0, err
	}
	return len(packed), nil
}

// send sends a message, which is perhaps already in its place in buffer.
func (w *streamResponse) send(packed []byte, buffer *[replySize]byte) error {
	if len(packed) > dns.MaxMsgSize {
		return errTooLong
	}
	var framed []byte
	if buffer != nil && len(packed) > 0 && &packed[0] == &buffer[lengthSize] {
		framed = buffer[:lengthSize+len(packed)]
	} else {
		framed = append(make([]byte, lengthSize, lengthSize+len(packed)), packed...)
	}
	binary.BigEndian.PutUint16(framed, uint16(len(packed)))
	return w.connection.write(framed, w.timeout)
}
