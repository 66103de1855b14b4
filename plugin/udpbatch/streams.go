//go:build linux

package udpbatch

import (
	"container/list"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/kubezone/kubezone/plugin/internal/selfmark"
)

const (
	// pipelined is how many queries of one connection are handled at a time
	// (RFC 7766 section 6.2.1.1). The next ones wait, and with them the client.
	pipelined = 32

	// streamShare is the share of the workers that TCP gets, as a divisor: UDP
	// always has the other half.
	streamShare = 2

	// firstQuery is how much longer than others a connection is read on that has
	// had no query yet: its client has just made it for one.
	firstQuery = 500 * time.Millisecond

	acceptPause     = 5 * time.Millisecond // after an error, doubled with each more
	longAcceptPause = 200 * time.Millisecond

	streamSearches   = 3  // as a machine may be too busy for probeTimeout
	mostStreamProbes = 32 // more sockets than servers share an address
	streamProbeTries = 5
	streamProbeWait  = time.Millisecond // connections to oneself are accepted at once, unless others have the processor
)

// streams are the TCP connections to one address. They belong to the process: a
// reload only changes the server that answers them.
type streams struct {
	listener *listener
	pace     pace

	// These are guarded by listener.group.
	socket   *net.TCPListener // nil if TCP is CoreDNS's own
	accepted chan struct{}    // closed when nothing more will be accepted

	mu        sync.Mutex // guards what follows, and what connections say
	limit     int        // connections
	perClient int
	open      map[*connection]struct{}
	clients   map[netip.Addr]int // how many connections each has
	idle      list.List          // connections without a query at work, the longest idle first
	leaving   time.Time          // when reading ends; zero if it goes on
	gone      chan struct{}      // if somebody waits for open to be empty: closed then
}

// adjust opens or closes the socket, as it is wanted. An error says that some
// connections are served the ordinary way. It is called with listener.group held.
func (t *streams) adjust(deadline <-chan struct{}) error {
	t.mu.Lock()
	wanted := t.limit > 0
	t.mu.Unlock()
	switch {
	case wanted && t.socket == nil:
		socket, err := openStreamSocket(hostPort(t.listener.address))
		if err != nil {
			return fmt.Errorf("%s: TCP: %w", t.listener.address, err)
		}
		t.socket, t.accepted = socket, make(chan struct{})
		go t.accept(socket, t.accepted)
		return t.aim()
	case !wanted:
		t.leave(deadline)
	}
	return nil
}

// aim makes the kernel choose the socket. It is called with listener.group held.
// If the socket is not found, the kernel chooses any of its group by chance.
func (t *streams) aim() (err error) {
	if t.socket == nil {
		return nil
	}
	for range streamSearches {
		if err = t.search(); err == nil {
			return nil
		}
	}
	return errors.Join(err, steer(t.socket, anyone))
}

// search finds out which place the socket has, and makes the kernel choose that.
//
// The kernel does not tell which place in its group a socket has. So it is told
// to choose one place after the other, and a connection is made each time; until
// ours gets one. Whatever clients connect meanwhile comes to some socket of the
// group, and is served; but CoreDNS ends its connections in a reload, so this is
// not done in one where nothing has changed.
func (t *streams) search() error {
	var probes []net.Conn
	defer func() {
		for _, p := range probes {
			_ = p.Close()
		}
	}()
	for index := range mostStreamProbes {
		if err := steer(t.socket, always(index)); err != nil {
			return fmt.Errorf("%s: the kernel does not steer connections to single sockets, so some are served the ordinary way: %w", t.listener.address, err)
		}
		probe, err := t.dial()
		if err != nil {
			return fmt.Errorf("%w: some connections are served the ordinary way", err)
		}
		probes = append(probes, probe)
		for range streamProbeTries {
			// An index beyond the last leads to some socket too, but a smaller one
			// has led there before.
			if i := slices.IndexFunc(probes, t.has); i >= 0 {
				return steer(t.socket, always(i))
			}
			time.Sleep(streamProbeWait)
		}
	}
	return fmt.Errorf("%s: TCP: the socket was not found in its group: some connections are served the ordinary way", t.listener.address)
}

// has tells whether the connection that the client calls so is one of ours.
func (t *streams) has(probe net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.open {
		if c.remote == addrPort(probe.LocalAddr()) {
			return true
		}
	}
	return false
}

// leave gives TCP back to CoreDNS: it accepts what has arrived, answers that, and
// ends, all up to a deadline. It is called with listener.group held.
func (t *streams) leave(deadline <-chan struct{}) {
	if t.socket == nil {
		return
	}
	t.yield()
	_ = t.socket.SetDeadline(time.Now().Add(settle))
	select {
	case <-t.accepted:
	case <-deadline:
	}
	_ = t.socket.Close()
	<-t.accepted
	t.socket = nil
	t.retire(deadline)
}

// yield makes the kernel choose another socket, if it chooses ours. Another
// process may have it choose its own; that stays so. Sockets change their places
// as others are closed, but ours has at most one of the first two.
func (t *streams) yield() {
	for place := range 2 {
		if !t.chosen() {
			return
		}
		_ = steer(t.socket, always(place))
	}
}

// chosen tells whether a connection comes to the socket.
func (t *streams) chosen() bool {
	probe, err := t.dial()
	if err != nil {
		return true // not known
	}
	defer probe.Close()
	for began := time.Now(); !t.has(probe); time.Sleep(streamProbeWait) {
		if time.Since(began) > probeTimeout {
			return false
		}
	}
	return true
}

// dial connects to the own address.
func (t *streams) dial() (net.Conn, error) {
	to := reachable(t.socket.Addr().(*net.TCPAddr).AddrPort())
	dialer := net.Dialer{Timeout: probeTimeout, Control: selfmark.Try}
	probe, err := dialer.Dial("tcp", to.String())
	if err != nil {
		return nil, fmt.Errorf("%s: connecting to the own address: %w", t.listener.address, err)
	}
	return probe, nil
}

// resize sets how many connections there may be. Some too many are closed, the
// longest idle first.
func (t *streams) resize(limit, perClient int) {
	t.mu.Lock()
	t.limit, t.perClient = limit, perClient
	if t.open == nil {
		t.open, t.clients = make(map[*connection]struct{}), make(map[netip.Addr]int)
	}
	var surplus []*connection
	for len(t.open) > limit && t.idle.Len() > 0 {
		c := t.idle.Front().Value.(*connection)
		t.remove(c)
		surplus = append(surplus, c)
	}
	t.mu.Unlock()
	for _, c := range surplus {
		t.listener.metrics.closed[closeLimit].Inc()
		_ = c.conn.Close()
	}
}

// count is how many connections are open.
func (t *streams) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open)
}

// accept takes connections until the socket is closed or, once it is leaving,
// has no more.
func (t *streams) accept(socket *net.TCPListener, done chan<- struct{}) {
	defer close(done)
	wait := acceptPause
	last := 0 // how many there were when the socket was last found empty
	for n := 0; ; {
		conn, err := socket.AcceptTCP()
		switch {
		case err == nil:
			n++
			wait = acceptPause
			t.admit(conn)
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			if n == last {
				return
			}
			last = n
			_ = socket.SetDeadline(time.Now().Add(settle))
		default:
			// Most likely there are no descriptors left; it would be the same at
			// once again.
			t.listener.metrics.acceptErrors.Inc()
			t.makeRoom(err)
			time.Sleep(wait)
			wait = min(2*wait, longAcceptPause)
		}
	}
}

// makeRoom closes the longest idle connection if descriptors or memory are what
// is missing.
func (t *streams) makeRoom(err error) {
	if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) && !errors.Is(err, syscall.ENOBUFS) && !errors.Is(err, syscall.ENOMEM) {
		return
	}
	t.mu.Lock()
	victim := t.longestIdle(netip.Addr{})
	t.mu.Unlock()
	if victim != nil {
		t.listener.metrics.closed[closeLimit].Inc()
		_ = victim.conn.Close()
	}
}

// admit begins to serve a connection. If there are too many, of its client or in
// all, the longest idle of them is closed for it, or else itself.
func (t *streams) admit(conn *net.TCPConn) {
	c := newConnection(t, conn)
	t.mu.Lock()
	var victim *connection
	reason := ""
	switch {
	case t.clients[c.client()] >= t.perClient:
		victim, reason = t.longestIdle(c.client()), closeClient
	case len(t.open) >= t.limit:
		victim, reason = t.longestIdle(netip.Addr{}), closeLimit
	}
	full := reason != "" && victim == nil
	if !full {
		t.add(c)
	}
	t.mu.Unlock()

	switch {
	case full:
		t.listener.metrics.closed[closeFull].Inc()
		_ = conn.Close()
		return
	case victim != nil:
		t.listener.metrics.closed[reason].Inc()
		_ = victim.conn.Close()
	}
	t.listener.metrics.accepted.Inc()
	t.listener.workers.run(c)
}

// longestIdle takes the connection out that has had no query at work for longest,
// of one client or, if that is the zero address, of all. Whoever calls it closes
// the connection. It is called with mu held, and returns nil if all are in use.
//
// The client that has too many is mostly the one of the first in the list.
func (t *streams) longestIdle(client netip.Addr) *connection {
	for e := t.idle.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*connection); !client.IsValid() || c.client() == client {
			t.remove(c)
			return c
		}
	}
	return nil
}

// add counts a connection. It is called with mu held.
func (t *streams) add(c *connection) {
	t.open[c] = struct{}{}
	t.clients[c.client()]++
	c.place = t.idle.PushBack(c)
}

// remove makes a connection count no more. It is called with mu held, for one
// connection more than once perhaps.
func (t *streams) remove(c *connection) {
	if _, ok := t.open[c]; !ok {
		return
	}
	delete(t.open, c)
	if t.clients[c.client()]--; t.clients[c.client()] == 0 {
		delete(t.clients, c.client())
	}
	if c.place != nil {
		t.idle.Remove(c.place)
		c.place = nil
	}
	if len(t.open) == 0 && t.gone != nil {
		close(t.gone)
		t.gone = nil
	}
}

// retire ends the connections: what has arrived on them is answered, up to a
// deadline. None is accepted meanwhile.
func (t *streams) retire(deadline <-chan struct{}) {
	t.mu.Lock()
	t.leaving = time.Now().Add(settle)
	for c := range t.open {
		_ = c.conn.SetReadDeadline(c.lastRead())
	}
	if len(t.open) == 0 {
		t.leaving = time.Time{}
		t.mu.Unlock()
		return
	}
	gone := make(chan struct{})
	t.gone = gone
	t.mu.Unlock()
	select {
	case <-gone:
	case <-deadline:
		log.Warningf("%s: %d connections are still in use after %s", t.listener.address, t.count(), grace)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.open {
		_ = c.conn.Close()
		t.remove(c)
	}
	t.gone, t.leaving = nil, time.Time{}
}
