package kube

import (
	"net"
	"sync"
	"testing"
)

// A gate stands before a server and passes connections on, or does not.
type gate struct {
	net.Listener // that clients know the address of
	server       string

	mu     sync.Mutex // guards the rest
	cond   *sync.Cond
	closed bool // connections are refused at once
	frozen bool // nothing moves on the connections there are, nor on new ones
	conns  map[net.Conn]bool
	work   sync.WaitGroup
}

func newGate(t *testing.T, server string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{Listener: l, server: server, conns: map[net.Conn]bool{}}
	g.cond = sync.NewCond(&g.mu)
	g.work.Go(g.accept)
	t.Cleanup(func() {
		g.shut()
		_ = l.Close()
		g.work.Wait()
	})
	return g
}

func (g *gate) accept() {
	for {
		client, err := g.Accept()
		if err != nil {
			return
		}
		g.work.Go(func() { g.pass(client) })
	}
}

func (g *gate) pass(client net.Conn) {
	defer client.Close()
	if !g.add(client) {
		return
	}
	server, err := net.Dial("tcp", g.server)
	if err != nil {
		return
	}
	defer server.Close()
	if !g.add(server) {
		return
	}
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		both.Go(func() {
			defer way[0].Close()
			defer way[1].Close()
			buf := make([]byte, 1<<16)
			for {
				n, err := way[0].Read(buf)
				g.wait()
				if _, writeErr := way[1].Write(buf[:n]); err != nil || writeErr != nil {
					return
				}
			}
		})
	}
	both.Wait()
}

// add is false for a connection that is not to be.
func (g *gate) add(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns[c] = true
	return !g.closed
}

// wait returns once the gate is not frozen.
func (g *gate) wait() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.frozen {
		g.cond.Wait()
	}
}

// shut closes all connections, and new ones as soon as they are made.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed, g.frozen = true, false
	g.cond.Broadcast()
	for c := range g.conns {
		_ = c.Close()
	}
	g.conns = map[net.Conn]bool{}
}

// open passes new connections on.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = false
}

// freeze keeps what is sent from now on.
func (g *gate) freeze() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.frozen = true
}
