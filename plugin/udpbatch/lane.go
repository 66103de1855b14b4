//go:build linux

package udpbatch

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

const (
	// packetSize is how much of a packet is read: as much as the ordinary
	// server reads, so that longer ones get the same answer from both.
	packetSize = dns.MinMsgSize

	// patience is how long a lane waits for a handler. It is long for an answer
	// from memory, and shorter than any client notices.
	patience = 2 * time.Millisecond

	// settle is how long a socket that has left its group is read on: packets
	// that were on their way to it have arrived by then, even where the host of a
	// virtual machine has the processor for a while.
	settle = 100 * time.Millisecond

	// pause is how long a lane waits after an error that it does not know.
	pause = 10 * time.Millisecond
)

// A lane is a socket with what it takes to serve it. One goroutine runs it at a
// time: it reads some packets, handles them one after the other, sends the
// replies and goes on. If a handler does not return soon, another goroutine
// takes the lane over, with the packets that were read and the replies that
// were not sent yet; the first one then handles that query only.
type lane struct {
	listener *listener
	conn     *net.UDPConn
	in       *inbox
	sender   *sender
	local    net.Addr
	asked    bool          // packets say which address they were sent to
	leaving  atomic.Bool   // the socket has left the group: to be read empty, and no longer
	done     chan struct{} // closed when nothing more will be read
	closed   bool          // guarded by listener.mu

	// These belong to whoever runs the lane.
	next, count int      // the packets in in that have not been handled
	serving     *serving // of these packets; nil if there are none
	settled     bool
	sending     outbox

	pace pace

	mu       sync.Mutex // guards what follows
	busy     bool       // between a read and the next
	turn     uint64     // counts queries
	handling bool       // the query of this turn
	suffix   suffix     // of that query
	thread   int        // that ran the lane when it was last read
	watched  uint64     // the turn that is given up when the timer fires
	timer    *time.Timer
	out      outbox
}

func newLane(e *listener) *lane {
	l := &lane{listener: e, done: make(chan struct{})}
	l.timer = time.AfterFunc(time.Hour, l.late)
	l.timer.Stop()
	return l
}

// leave takes the socket out of its group. The lane then ends when the socket is
// empty.
func (l *lane) leave() error {
	err := leaveGroup(l.conn)
	l.leaving.Store(true)
	return errors.Join(err, l.conn.SetReadDeadline(time.Unix(1, 0))) // wakes who waits for a packet
}

// run serves the lane. It returns true if it has lost the lane to another
// goroutine, and false if there is nothing left to read.
func (l *lane) run() (lost bool) {
	for {
		if l.next == l.count && !l.refill() {
			close(l.done)
			return false
		}
		i := l.next
		l.next++
		if !l.serve(i) {
			return true
		}
	}
}

// serve handles the packet of a number, or gives it to a worker. It returns
// false if it has lost the lane.
func (l *lane) serve(i int) bool {
	packet, control := l.in.packet(i)
	if len(packet) == probeSize && l.listener.prober.probed(l, packet) {
		return true // one of the few that count as packets and are none
	}
	s := l.serving
	w := &response{lane: l, signature: signature{secrets: s.secrets}, from: l.in.from(i)}
	if !w.from.udpAddr(&w.remote, &w.ip) {
		return true
	}
	if l.asked {
		w.controlLen = replyControl(w.control[:], control)
	}
	// Until the packet is read, nobody else may run the lane: its buffer is used
	// again.
	req, refusal := s.read(&w.signature, packet)
	if refusal != nil {
		_ = w.WriteMsg(refusal) // whoever sent it may ask again
	}
	if req == nil {
		return true
	}
	suffix := suffixOf(req)
	if !l.pace.quick(suffix) {
		l.listener.dispatch(job{w: w, req: req, serving: s, suffix: suffix})
		return true
	}
	turn := l.begin(suffix)
	start := time.Now()
	s.server.ServeDNS(s.ctx, w, req)
	l.pace.observe(suffix, seen(time.Since(start)))
	if l.end(turn) {
		return true
	}
	l.listener.leave(s) // takeOver has counted this goroutine as one more user
	return false
}

// handle handles a query in a worker.
func (l *lane) handle(j job) {
	start := time.Now()
	j.serving.server.ServeDNS(j.serving.ctx, j.w, j.req)
	l.pace.observe(j.suffix, seen(time.Since(start)))
	l.listener.leave(j.serving)
}

// begin starts a turn and returns its number.
func (l *lane) begin(s suffix) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn++
	l.suffix = s
	l.handling = true
	return l.turn
}

// end ends a turn and tells whether it was still that one.
func (l *lane) end(turn uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.turn != turn {
		return false
	}
	l.handling = false
	return true
}

// late is called when the timer fires: it makes another goroutine take the lane
// over if the query that the lane was at is still the same.
func (l *lane) late() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.busy {
		return
	}
	if !l.handling || l.turn != l.watched {
		l.watched = l.turn
		l.timer.Reset(patience)
		return
	}
	reason := lateness(l.thread) // before another goroutine needs a thread
	if !l.listener.takeOver(l) {
		l.timer.Reset(patience)
		return
	}
	l.pace.observe(l.suffix, reason)
	l.handling = false
	l.turn++
	l.watched = l.turn + 1
	l.timer.Reset(patience)
}

// reply sends a reply or, while the lane is at work, puts it to those that will
// be sent together, be it of the query in its turn or of one that a worker has
// handled. The lane owns packed and buffer, in which it is if it fits, from now on.
func (l *lane) reply(w *response, packed []byte, buffer *[replySize]byte) error {
	l.mu.Lock()
	if l.busy {
		l.out.push(w, packed, buffer)
		l.mu.Unlock()
		return nil
	}
	l.mu.Unlock()

	err := l.listener.send(l, w, packed)
	replyBuffers.Put(buffer)
	return err
}

// flush sends the replies. When there are none left the lane is no longer at
// work.
func (l *lane) flush() {
	for {
		l.mu.Lock()
		if len(l.out.headers) == 0 {
			l.busy = false
			l.timer.Stop()
			l.mu.Unlock()
			return
		}
		l.out, l.sending = l.sending, l.out
		l.mu.Unlock()
		l.sender.send(&l.sending, l.listener.metrics.write.Inc)
		l.sending.empty()
	}
}

// refill ends a batch and reads the next, waiting for it. It returns false if
// the socket is closed, or has left the group and is empty.
func (l *lane) refill() bool {
	l.flush()
	if l.serving != nil {
		l.listener.leave(l.serving)
		l.serving = nil
	}
	n := l.read()
	if n == 0 {
		return false
	}
	l.next, l.count = 0, n
	l.serving = l.listener.enter()
	l.listener.metrics.batches.Inc()
	l.listener.metrics.packets.Add(float64(n))

	thread := syscall.Gettid()
	l.mu.Lock()
	l.busy = true
	l.thread = thread
	l.watched = l.turn + 1
	l.timer.Reset(patience)
	l.mu.Unlock()
	return true
}

// read reads packets and returns how many; 0 is the end.
func (l *lane) read() int {
	for {
		n, err := l.in.read(l.room())
		switch {
		case err == nil && n > 0:
			return n
		case errors.Is(err, net.ErrClosed):
			return 0
		case errors.Is(err, os.ErrDeadlineExceeded) && l.leaving.Load():
			// The wake-up call of leave. What has arrived is read, without waiting.
			_ = l.conn.SetReadDeadline(time.Time{})
			l.in.draining = true
		case errors.Is(err, syscall.EAGAIN):
			if l.settled {
				return 0
			}
			l.settled = true
			time.Sleep(settle)
		default:
			l.listener.metrics.readErrors.Inc()
			time.Sleep(pause)
		}
	}
}

// room is how many packets the next read may take: some more than there were in
// the last one, as what is not filled costs time too.
func (l *lane) room() int { return min(max(4, 2*l.count), l.listener.batch()) }
