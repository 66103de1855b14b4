package faults

import (
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/e2e/harness"
)

const (
	flooders   = 2  // sockets; more find no CPU on the smallest machine that the tests run on
	inFlight   = 32 // queries of each that wait for their replies at a time
	answerTime = 5 * time.Second
)

// An asking is a query whose reply never changes.
type asking struct {
	query   []byte
	rcode   int
	answers uint16
}

// askings turns questions with their answers into queries.
func askings(t *testing.T, s *harness.Server, questions []string) []asking {
	t.Helper()
	var list []asking
	for _, question := range questions {
		message := harness.Question{Text: question}.Message(t)
		query, err := message.Pack()
		if err != nil {
			t.Fatal(err)
		}
		reply := s.Ask(t, question)
		list = append(list, asking{query, reply.Rcode, uint16(len(reply.Answer))})
	}
	return list
}

// A load asks a server as fast as it is told to, and counts.
type load struct {
	asked, wrong, lost atomic.Int64

	running sync.WaitGroup
	stop    chan struct{}
}

// startLoad asks at a rate, in queries a second over all sockets; 0 is as fast as they are answered.
func startLoad(t *testing.T, server string, list []asking, rate float64) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	for n := range flooders {
		conn, err := net.Dial("udp", server)
		if err != nil {
			t.Fatal(err)
		}
		l.running.Go(func() {
			defer conn.Close()
			l.run(conn, list, n, rate/flooders)
		})
	}
	return l
}

// end returns once nothing is asked any more.
func (l *load) end() {
	close(l.stop)
	l.running.Wait()
}

func (l *load) run(conn net.Conn, list []asking, at int, rate float64) {
	began, sent := time.Now(), 0
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		if ahead := float64(sent) - time.Since(began).Seconds()*rate; rate > 0 && ahead > 0 {
			time.Sleep(time.Duration(ahead / rate * float64(time.Second)))
		}
		l.batch(conn, list, at+sent)
		sent += inFlight
	}
}

// batch asks inFlight questions at once, and waits for the replies. The ID tells the batch and the position in it, so that
// a reply that comes too late is taken for none of the next.
func (l *load) batch(conn net.Conn, list []asking, at int) {
	question := func(id int) asking { return list[(at+id)%len(list)] }
	buffer := make([]byte, dns.MaxMsgSize)
	base := uint16(at) // at is a multiple of inFlight ahead of where the socket began
	for id := range inFlight {
		q := append(buffer[:0], question(id).query...)
		binary.BigEndian.PutUint16(q, base+uint16(id))
		_, _ = conn.Write(q) // what was not sent gets no reply, which is counted
	}
	l.asked.Add(inFlight)
	var seen [inFlight]bool
	_ = conn.SetReadDeadline(time.Now().Add(answerTime)) // no error on a connection that is open
	for left := inFlight; left > 0; {
		n, err := conn.Read(buffer)
		if err != nil {
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				l.lost.Add(int64(left))
				return
			}
			continue // nobody listens, says the kernel about one of the queries
		}
		id := int(binary.BigEndian.Uint16(buffer) - base)
		if n < 12 || id >= inFlight || seen[id] { // of a batch before
			continue
		}
		seen[id] = true
		left--
		q := question(id)
		if int(buffer[3]&0xf) != q.rcode || binary.BigEndian.Uint16(buffer[6:]) != q.answers {
			l.wrong.Add(1)
		}
	}
}

// capacity is how many questions a second the server answers when it is always asked.
func capacity(t *testing.T, server string, list []asking, within time.Duration) float64 {
	l := startLoad(t, server, list, 0)
	time.Sleep(within)
	l.end()
	return float64(l.asked.Load()-l.lost.Load()) / within.Seconds()
}

// flood asks every server for what does not change, on top of what the client asks.
func (g *rig) flood(rate float64) []*load {
	g.Helper()
	var loads []*load
	for _, s := range g.sides {
		list := askings(g.T, s.server, []string{g.question("kept"), g.question("set"), g.question("missing")})
		loads = append(loads, startLoad(g.T, s.server.DNS, list, rate))
	}
	return loads
}

// endFlood ends it, and adds what was counted to the tallies.
func (g *rig) endFlood(loads []*load) {
	for n, l := range loads {
		l.end()
		g.sides[n].flooded.add(l.tally())
	}
}

func (l *load) tally() tally {
	asked, wrong, lost := int(l.asked.Load()), int(l.wrong.Load()), int(l.lost.Load())
	return tally{asked: asked, right: asked - wrong - lost, wrong: wrong, lost: lost}
}
