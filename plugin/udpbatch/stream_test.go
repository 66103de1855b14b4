//go:build linux

package udpbatch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A stream is a client's connection.
type stream struct {
	*net.TCPConn
	testing.TB
}

// connect opens a connection, from an address of the loopback interface, or from
// any.
func connect(t testing.TB, server, from string) *stream {
	t.Helper()
	dialer := net.Dialer{Timeout: 5 * time.Second}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := dialer.Dial("tcp", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &stream{conn.(*net.TCPConn), t}
}

// frame puts the length in front of a message.
func frame(message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
}

// framed is a framed question for TXT records of a name, with an ID.
func framed(t testing.TB, name string, id uint16) []byte {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, dns.TypeTXT)
	m.Id = id
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return frame(packed)
}

func (s *stream) send(octets []byte) {
	s.Helper()
	if _, err := s.Write(octets); err != nil {
		s.Fatal(err)
	}
}

func (s *stream) ask(name string, id uint16) {
	s.Helper()
	s.send(framed(s.TB, name, id))
}

// receive reads a reply.
func (s *stream) receive() (*dns.Msg, error) {
	packed, err := s.receivePacked()
	if err != nil {
		return nil, err
	}
	m := new(dns.Msg)
	return m, m.Unpack(packed)
}

func (s *stream) receivePacked() ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(s, length[:]); err != nil {
		return nil, err
	}
	packed := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(s, packed)
	return packed, err
}

// wants receives a reply to the query with an ID.
func (s *stream) wants(id uint16) *dns.Msg {
	s.Helper()
	m, err := s.receive()
	if err != nil {
		s.Fatalf("reply %d: %v", id, err)
	}
	if m.Id != id {
		s.Fatalf("reply %d; want %d", m.Id, id)
	}
	return m
}

// wantsEnd tells whether the server has closed the connection.
func (s *stream) wantsEnd() {
	s.Helper()
	if m, err := s.receive(); err == nil {
		s.Fatalf("a reply, %v; want the end of the connection", m)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		s.Fatal("the connection is open; want its end")
	}
}

func TestServesTCP(t *testing.T) {
	for _, tc := range []struct {
		name, bind, address, query string
		want                       string
	}{
		{"one IPv4 address", "bind 127.0.0.1", "127.0.0.1:%d", "127.0.0.1", "tcp *net.TCPAddr 127.0.0.1 1 false 0"},
		{"one IPv6 address", "bind ::1", "[::1]:%d", "::1", "tcp *net.TCPAddr ::1 2 false 0"},
		{"all IPv4 addresses", "bind 0.0.0.0", "0.0.0.0:%d", "127.0.0.1", "tcp *net.TCPAddr 127.0.0.1 1 false 0"},
		{"all addresses, asked by IPv4", "", ":%d", "127.0.0.1", "tcp *net.TCPAddr 127.0.0.1 1 false 0"},
		{"all addresses, asked by IPv6", "", ":%d", "::1", "tcp *net.TCPAddr ::1 2 false 0"},
		{"one of two addresses", "bind 127.0.0.1 127.0.0.2", "127.0.0.2:%d", "127.0.0.2", "tcp *net.TCPAddr 127.0.0.1 1 false 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			port := freePort(t)
			start(t, fmt.Sprintf(".:%d {\n%s\nudpbatch\nanswer\n}", port, tc.bind))
			e := listenerOf(t, fmt.Sprintf(tc.address, port))
			before := metric(t, "connections_total", e.address)
			for id := range uint16(50) {
				c := connect(t, net.JoinHostPort(tc.query, fmt.Sprint(port)), "")
				c.ask("who.example.org.", id)
				if got := text(c.wants(id)); got != tc.want {
					t.Fatalf("got %q; want %q", got, tc.want)
				}
			}
			// One more is that by which the listener found its place in the group.
			if n := metric(t, "connections_total", e.address) - before; n < 50 {
				t.Errorf("%v of 50 connections came to our socket; want all", n)
			}
		})
	}
}

// Left to CoreDNS, TCP is served the ordinary way.
func TestTCPOff(t *testing.T) {
	port := freePort(t)
	server := fmt.Sprintf("127.0.0.1:%d", port)
	corefile := fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch {\nconnections N\n}\nanswer\n}", port)
	i := start(t, strings.Replace(corefile, "N", "0", 1))
	defer func() { stop(t, i) }()
	for n, connections := range []string{"0", "5", "0"} {
		if n > 0 {
			i = reload(t, i, strings.Replace(corefile, "N", connections, 1))
		}
		var e *listener
		eventually(t, "the sockets", func() bool { e = listenerOf(t, server); return (e.streams.limit > 0) == (connections != "0") })
		before := metric(t, "connections_total", e.address)
		c := connect(t, server, "")
		c.ask("plain.example.org.", 1)
		c.wants(1)
		if ours := metric(t, "connections_total", e.address) > before; ours != (connections != "0") {
			t.Errorf("connections %s: it is %v that our socket got the connection", connections, ours)
		}
	}
}

func TestStreamWriter(t *testing.T) {
	port := freePort(t)
	start(t, fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch\nanswer\n}", port))
	server := fmt.Sprintf("127.0.0.1:%d", port)
	e := listenerOf(t, server)
	c := connect(t, server, "")
	for id, name := range []string{"raw", "later", "plain", "many"} {
		c.ask(name+".example.org.", uint16(id))
		c.wants(uint16(id))
	}
	for name, want := range map[string]int{"panic": dns.RcodeServerFailure, "refused": dns.RcodeRefused} {
		c.ask(name+".example.org.", 7)
		if reply := c.wants(7); reply.Rcode != want {
			t.Errorf("%s: rcode %s; want %s", name, dns.RcodeToString[reply.Rcode], dns.RcodeToString[want])
		}
	}
	c.ask("nothing.example.org.", 8)
	c.ask("hijack.example.org.", 9)
	c.wants(9) // though nothing more is read
	c.wantsEnd()
	c = connect(t, server, "")
	c.ask("close.example.org.", 10)
	c.wantsEnd()
	eventually(t, "the end of all connections", func() bool { return e.streams.count() == 0 })
}

// A slow query does not hold up the next ones, of which a bounded number is
// handled at a time.
func TestPipelining(t *testing.T) {
	port := freePort(t)
	start(t, fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch\nanswer\n}", port))
	server := fmt.Sprintf("127.0.0.1:%d", port)
	e := listenerOf(t, server)
	gate := make(chan struct{})
	gates.Store("pipeline", gate)
	c := connect(t, server, "")

	c.ask("wait-pipeline.example.org.", 1)
	c.ask("plain.example.org.", 2)
	c.wants(2)
	const more = 100
	for id := range uint16(more) {
		c.ask("wait-pipeline.example.org.", 100+id)
	}
	eventually(t, "as many queries at work as may be", func() bool { busy, _ := e.workers.load(); return busy == pipelined-1 })
	time.Sleep(10 * patience)
	if busy, _ := e.workers.load(); busy != pipelined-1 { // whoever runs the connection is no worker
		t.Errorf("%d workers are busy; want %d", busy, pipelined-1)
	}
	close(gate)
	seen := make(map[uint16]bool)
	for range more + 1 {
		m, err := c.receive()
		if err != nil {
			t.Fatal(err)
		}
		seen[m.Id] = true
	}
	if len(seen) != more+1 {
		t.Errorf("%d of %d queries were answered", len(seen), more+1)
	}
	_ = c.CloseWrite() // the connection then ends
	c.wantsEnd()
	eventually(t, "the end of the connection", func() bool { return e.streams.count() == 0 })
}

// What is computed to verify a TSIG record may be longer than the record.
func TestTSIGSparesTheNextQuery(t *testing.T) {
	port := freePort(t)
	start(t, fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch\nanswer\n}", port))
	server := fmt.Sprintf("127.0.0.1:%d", port)
	listenerOf(t, server)
	m := new(dns.Msg).SetQuestion("tsig.example.org.", dns.TypeTXT)
	m.Id = 1
	m.Extra = []dns.RR{&dns.RFC3597{Hdr: dns.RR_Header{Name: "key.", Rrtype: dns.TypeTSIG, Class: dns.ClassANY}}}
	unsigned, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, server, "")
	c.send(append(frame(unsigned), framed(t, "plain.example.org.", 2)...))
	c.wants(1)
	c.wants(2)
}

// What a client sends before it stops sending is answered.
func TestHalfClosed(t *testing.T) {
	port := freePort(t)
	start(t, fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch\nanswer\n}", port))
	server := fmt.Sprintf("127.0.0.1:%d", port)
	listenerOf(t, server)
	c := connect(t, server, "")
	c.ask("sleep-50ms.example.org.", 1)
	c.ask("plain.example.org.", 2)
	_ = c.CloseWrite()
	c.wants(2)
	c.wants(1)
	c.wantsEnd()
}

func TestLongestIdleIsClosed(t *testing.T) {
	port := freePort(t)
	start(t, fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch {\nconnections 5\nper_client 2\n}\nanswer\n}", port))
	server := fmt.Sprintf("127.0.0.1:%d", port)
	e := listenerOf(t, server)
	gate := make(chan struct{})
	gates.Store("idle", gate)
	inUse := 0
	asked := func(c *stream, id uint16) {
		c.ask("plain.example.org.", id)
		c.wants(id)
		eventually(t, "the end of the query's handler", func() bool { // the reply comes before it
			e.streams.mu.Lock()
			defer e.streams.mu.Unlock()
			return e.streams.idle.Len() == len(e.streams.open)-inUse
		})
	}
	opened := func(from string) *stream {
		c := connect(t, server, from)
		asked(c, 1)
		return c
	}
	// Of one client: the one that has been idle for longer, though it is the newer.
	first, second := opened("127.0.0.2"), opened("127.0.0.2")
	asked(first, 2)
	other := opened("127.0.0.3")
	third := opened("127.0.0.2")
	second.wantsEnd()
	if n := metric(t, "connections_closed_total", e.address, closeClient); n != 1 {
		t.Errorf("%v connections of one client too many; want 1", n)
	}

	// In all: first is the oldest, but in use.
	first.ask("wait-idle.example.org.", 3)
	inUse = 1
	eventually(t, "the query at work", func() bool { busy, _ := e.workers.load(); return busy > 0 })
	fourth, fifth := opened("127.0.0.4"), opened("127.0.0.5")
	sixth := opened("127.0.0.6")
	other.wantsEnd()
	for _, c := range []*stream{third, fourth, fifth, sixth} {
		c.ask("wait-idle.example.org.", 4)
	}
	eventually(t, "five queries at work", func() bool { busy, _ := e.workers.load(); return busy == 5 })
	connect(t, server, "127.0.0.7").wantsEnd() // nobody is idle
	if n := metric(t, "connections_closed_total", e.address, closeFull); n != 1 {
		t.Errorf("%v connections were not taken; want 1", n)
	}
	if n := e.streams.count(); n != 5 {
		t.Errorf("%d connections are open; want 5", n)
	}
	close(gate)
	first.wants(3)
	for _, c := range []*stream{third, fourth, fifth, sixth} {
		c.wants(4)
	}
}

// Memory grows with what has arrived, not with what was announced.
func TestBuffersGrowWithWhatArrives(t *testing.T) {
	c := &connection{in: make([]byte, queryRoom)}
	long, short := frame(make([]byte, dns.MaxMsgSize)), frame(make([]byte, 40))
	data := slices.Concat(long, short, short, long, short)
	var sizes []int
	for arrived, whole := 0, 0; arrived < len(data); {
		c.makeRoom()
		n := copy(c.in[c.end:], data[arrived:min(arrived+100, len(data))])
		c.end += n
		arrived += n
		if most := max(queryRoom, 2*(arrived-whole)); len(c.in) > most {
			t.Fatalf("%d octets of room for %d that have arrived; want at most %d", len(c.in), arrived-whole, most)
		}
		for {
			m, ok := c.message()
			if !ok {
				break
			}
			sizes = append(sizes, len(m))
			whole += lengthSize + len(m)
		}
	}
	if want := []int{dns.MaxMsgSize, 40, 40, dns.MaxMsgSize, 40}; !slices.Equal(sizes, want) {
		t.Errorf("messages of %d octets; want %d", sizes, want)
	}
	if len(c.in) > queryRoom {
		c.makeRoom()
	}
	if len(c.in) != queryRoom {
		t.Errorf("%d octets of room are kept; want %d", len(c.in), queryRoom)
	}
}

func TestTimeouts(t *testing.T) {
	port := freePort(t)
	start(t, fmt.Sprintf(".:%d {\nbind 127.0.0.1\ntimeouts {\nread 1s\nidle 2s\nwrite 1s\nmaxtcpqueries 400\n}\nudpbatch\nanswer\n}", port))
	server := fmt.Sprintf("127.0.0.1:%d", port)
	e := listenerOf(t, server)
	var running sync.WaitGroup
	closedAfter := func(name string, c *stream, least, most time.Duration) {
		began := time.Now()
		running.Go(func() {
			c.wantsEnd()
			if took := time.Since(began); took < least || took > most {
				t.Errorf("%s: closed after %s; want %s to %s", name, took, least, most)
			}
		})
	}
	closedAfter("nothing sent", connect(t, server, ""), 900*time.Millisecond, 10*time.Second)
	slow := connect(t, server, "")
	slow.send([]byte{0, 200, 1, 2, 3})
	closedAfter("a part of a query", slow, 900*time.Millisecond, 10*time.Second)
	idle := connect(t, server, "")
	idle.ask("plain.example.org.", 1)
	idle.wants(1)
	closedAfter("one query", idle, 1900*time.Millisecond, 10*time.Second)

	// A client that does not read its replies.
	deaf := connect(t, server, "")
	_ = deaf.SetReadBuffer(4096)
	for id := range uint16(300) {
		if _, err := deaf.Write(framed(t, "many.example.org.", id)); err != nil {
			break
		}
	}
	eventually(t, "the end of who does not read", func() bool { return metric(t, "connections_closed_total", e.address, closeWrite) == 1 })

	often := connect(t, server, "")
	for id := range uint16(400) {
		often.ask("plain.example.org.", id)
		often.wants(id)
	}
	often.wantsEnd()
	running.Wait()
	if n := metric(t, "connections_closed_total", e.address, closeIdle); n != 3 {
		t.Errorf("%v connections were closed as nothing came; want 3", n)
	}
}

// A reload neither ends connections nor loses a query, but where the directive
// goes; a connection that has been made is answered even then.
func TestReloadKeepsConnections(t *testing.T) {
	port := freePort(t)
	server := fmt.Sprintf("127.0.0.1:%d", port)
	with := fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch\nanswer\n}", port)
	without := fmt.Sprintf(".:%d {\nbind 127.0.0.1\nanswer\n}", port)
	i := start(t, with)
	defer func() { stop(t, i) }()
	listenerOf(t, server)
	c := connect(t, server, "")
	slow := connect(t, server, "")
	for id := range uint16(5) {
		slow.ask("sleep-100ms.example.org.", id)
		i = reload(t, i, with)
		slow.wants(id)
		c.ask("plain.example.org.", id)
		c.wants(id)
	}
	slow.ask("sleep-300ms.example.org.", 9)
	eventually(t, "the query at work", func() bool { busy, _ := listenerOf(t, server).workers.load(); return busy > 0 })
	i = reload(t, i, without)
	slow.wants(9)
	slow.wantsEnd()
	c.wantsEnd()
}

// asked counts queries on connections of their own, one after the other.
type asked struct{ sent, answered atomic.Int64 }

func (a *asked) until(t testing.TB, server string, end <-chan struct{}) {
	for id := uint16(1); ; id++ {
		select {
		case <-end:
			return
		default:
		}
		a.sent.Add(1)
		conn, err := net.DialTimeout("tcp", server, 5*time.Second)
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		s := &stream{conn.(*net.TCPConn), t}
		if _, err := s.Write(framed(t, "plain.example.org.", id)); err != nil {
			t.Errorf("query %d: %v", id, err)
		} else if m, err := s.receive(); err != nil || m.Id != id {
			t.Errorf("query %d: %v, %v", id, m, err)
		} else {
			a.answered.Add(1)
		}
		_ = conn.Close()
	}
}

// CoreDNS itself resets connections that it has accepted when it reloads, so it
// serves none of them before the last reload here.
func TestNoConnectionIsLost(t *testing.T) {
	for range 3 {
		port := freePort(t)
		server := fmt.Sprintf("127.0.0.1:%d", port)
		with := fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch\nanswer\n}", port)
		without := fmt.Sprintf(".:%d {\nbind 127.0.0.1\nanswer\n}", port)
		i := start(t, with)
		listenerOf(t, server)
		var a asked
		var running sync.WaitGroup
		end := make(chan struct{})
		for range 4 {
			running.Go(func() { a.until(t, server, end) })
		}
		for range 4 {
			i = reload(t, i, with)
		}
		i = reload(t, i, without)
		close(end)
		running.Wait()
		t.Logf("%d queries", a.sent.Load())
		if got, want := a.answered.Load(), a.sent.Load(); got != want {
			t.Errorf("%d of %d queries answered; want all", got, want)
		}
		stop(t, i)
	}
}

// At SIGTERM, what has arrived is answered before CoreDNS's own server ends.
func TestShutdownLosesNoConnection(t *testing.T) {
	for range 3 {
		port := freePort(t)
		server := fmt.Sprintf("127.0.0.1:%d", port)
		i := start(t, fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch\nanswer\n}", port))
		listenerOf(t, server)
		slow := connect(t, server, "")
		slow.ask("sleep-300ms.example.org.", 1)
		var a asked
		var running sync.WaitGroup
		end := make(chan struct{})
		for range 4 {
			running.Go(func() { a.until(t, server, end) })
		}
		eventually(t, "some queries", func() bool { return a.answered.Load() > 100 })
		for _, err := range i.ShutdownCallbacks() {
			t.Error(err)
		}
		close(end)
		running.Wait()
		slow.wants(1)
		if got, want := a.answered.Load(), a.sent.Load(); got != want {
			t.Errorf("%d of %d queries answered; want all", got, want)
		}
		stop(t, i)
	}
}
