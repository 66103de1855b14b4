//go:build linux

package udpbatch

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/core/dnsserver"

	"github.com/miekg/dns"
)

// grace is how long a retiring server's queries are waited for, as CoreDNS does
// for those on its own sockets.
const grace = 5 * time.Second

// A listener serves one address with sockets of its own. It belongs to the
// process: a reload only changes the server that it serves.
type listener struct {
	address string // as in dnsserver.Server.Addr
	metrics *listenerMetrics
	workers workers
	prober  prober
	streams streams

	perBatch   atomic.Int32
	background sync.WaitGroup // changes of the group
	steered    atomic.Int64   // when the group was last looked at, as a Unix time

	group sync.Mutex // held while sockets come and go

	mu      sync.Mutex // guards what follows, and what servings count
	current *serving
	swapped chan struct{} // if somebody waits for another current: closed then
	wanted  int           // sockets
	lanes   []*lane
	closed  bool
}

func newListener(address string) *listener {
	e := &listener{address: address, metrics: newListenerMetrics(address), prober: newProber()}
	e.streams.listener = e
	return e
}

// serve makes the listener serve s from now on, as cfg says. Packets that have
// been read already are still handled by the server before. Sockets come and go
// in the background, as CoreDNS's own socket waits for serve to return.
func (e *listener) serve(s *serving, cfg config) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	e.current = s
	if e.swapped != nil {
		close(e.swapped)
		e.swapped = nil
	}
	e.perBatch.Store(int32(cfg.batch))
	e.wanted = cfg.sockets
	dropped := e.workers.resize(cfg.workers, cfg.queue)
	e.streams.resize(cfg.connections, cfg.perClient)
	e.background.Go(func() {
		for _, j := range dropped {
			e.drop(j)
		}
		e.group.Lock()
		defer e.group.Unlock()
		deadline, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		if err := errors.Join(e.adjust(), e.streams.adjust(deadline.Done())); err != nil {
			log.Warning(err)
		}
	})
}

// adjust opens or closes sockets. An error says that there are not as many as
// there should be, or that they get less than they should; what they do not get
// is served the ordinary way.
func (e *listener) adjust() error {
	e.mu.Lock()
	have, want := len(e.lanes), e.wanted
	e.mu.Unlock()
	switch {
	case have < want:
		return e.grow(want - have)
	case have > want:
		return e.shrink(want)
	}
	return nil
}

// open returns the lanes of the sockets that are in the group.
func (e *listener) open() []*lane {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lanes
}

// server is the one that is served now.
func (e *listener) server() *dnsserver.Server {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.current.server
}

func (e *listener) batch() int { return int(e.perBatch.Load()) }

// enter returns the server for a batch. Whoever calls it calls leave later.
func (e *listener) enter() *serving {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.current.users++
	return e.current
}

// join counts one more user of a server that has some.
func (e *listener) join(s *serving) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.users++
}

func (e *listener) leave(s *serving) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.users--
	if s.users == 0 && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}

// handOver waits until another server than s is served and nobody uses s, up to
// a deadline.
func (e *listener) handOver(s *serving, deadline <-chan struct{}) {
	if s == nil {
		return
	}
	e.mu.Lock()
	if e.current == s {
		if e.swapped == nil {
			e.swapped = make(chan struct{})
		}
		swapped := e.swapped
		e.mu.Unlock()
		select {
		case <-swapped:
		case <-deadline:
			return
		}
	} else {
		e.mu.Unlock()
	}
	e.await(s, deadline)
}

// await waits until nobody uses s, up to a deadline. Nobody else waits for the
// same server.
func (e *listener) await(s *serving, deadline <-chan struct{}) {
	e.mu.Lock()
	if s.users == 0 {
		e.mu.Unlock()
		return
	}
	idle := make(chan struct{})
	s.idle = idle
	e.mu.Unlock()
	select {
	case <-idle:
	case <-deadline:
		log.Warningf("%s: queries are still being handled after %s", e.address, grace)
	}
}

// dispatch gives a query to a worker.
func (e *listener) dispatch(j job) {
	e.join(j.serving)
	if dropped, ok := e.workers.dispatch(j); !ok {
		e.drop(dropped)
	}
	e.metrics.expected.Inc()
}

// drop gives up a query.
func (e *listener) drop(j job) {
	e.metrics.queue.Inc()
	e.leave(j.serving)
}

// takeOver runs l in another goroutine, if there is one to be had.
func (e *listener) takeOver(l *lane) bool {
	e.join(l.serving)
	if !e.workers.takeOver(l, 1) {
		e.leave(l.serving)
		return false
	}
	e.metrics.late.Inc()
	return true
}

// send sends one reply. Its lane's socket may be closed, if the query took
// longer than the socket was there; any other one sends from the same address.
func (e *listener) send(l *lane, w *response, packed []byte) error {
	conn := e.sender(l)
	_, _, err := conn.WriteMsgUDP(packed, w.control[:w.controlLen], &w.remote)
	if other := e.sender(l); other != conn && errors.Is(err, net.ErrClosed) { // just now
		_, _, err = other.WriteMsgUDP(packed, w.control[:w.controlLen], &w.remote)
	}
	if err != nil {
		e.metrics.write.Inc()
	}
	return err
}

func (e *listener) sender(l *lane) *net.UDPConn {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l.closed && len(e.lanes) > 0 {
		return e.lanes[0].conn
	}
	return l.conn
}

// ordinary is the decorator of the ordinary server's writer, and sees each query
// that got there. If there are many, the group has changed.
func (e *listener) ordinary(w dns.Writer) dns.Writer {
	e.metrics.ordinary.Inc()
	now := time.Now().Unix()
	before := e.steered.Load()
	if now-before < aimInterval || !e.steered.CompareAndSwap(before, now) {
		return w
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return w
	}
	e.background.Go(func() {
		e.group.Lock()
		defer e.group.Unlock()
		if err := e.retarget(); err != nil {
			log.Warning(err)
		}
	})
	return w
}
