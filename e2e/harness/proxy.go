package harness

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A Proxy passes TCP connections on to an API server and can break the path between.
type Proxy struct {
	target string

	mu       sync.Mutex // guards the rest
	broken   bool
	attempts int
	current  map[net.Conn]struct{}
}

// StartProxy serves a listener, which it closes when the test ends.
func StartProxy(t testing.TB, listener net.Listener, target string) *Proxy {
	t.Helper()
	p := &Proxy{target: target, current: make(map[net.Conn]struct{})}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.Break()
		running.Wait()
	})
	return p
}

// Break cuts every connection, and every later one, until Mend.
func (p *Proxy) Break() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = true
	p.cut()
}

// Mend lets connections through again.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = false
}

// Cut ends the connections of now, so that clients make new ones.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

// Attempts returns how many connections have been tried so far, whatever became of them.
func (p *Proxy) Attempts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.attempts
}

func (p *Proxy) cut() {
	for conn := range p.current {
		_ = conn.Close()
	}
}

// add reports whether the connection may be used.
func (p *Proxy) add(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempts++
	if !p.broken {
		p.current[conn] = struct{}{}
	}
	return !p.broken
}

func (p *Proxy) remove(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.current, conn)
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	if !p.add(client) {
		return
	}
	defer p.remove(client)
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, server) // ends when either side closes
		_ = client.Close()
	})
	_, _ = io.Copy(server, client)
	_ = server.Close()
	back.Wait()
}
