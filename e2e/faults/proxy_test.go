package faults

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubezone/kubezone/e2e/harness"
)

// A proxy stands between a server and the API server, speaks HTTP to both, and breaks what it is told to.
type proxy struct {
	url string

	mu          sync.Mutex // guards the rest
	wake        *sync.Cond
	down        bool // connections are refused
	frozen      bool // nothing moves
	silent      bool // what watches say is dropped
	certificate tls.Certificate
	conns       map[net.Conn]bool
	target      *url.URL                          // of the API server
	asked       []time.Time                       // when requests came
	checks      cost                              // of self-checks
	delay       func(*http.Request) time.Duration // before it is passed on; nil for none ever
	answer      func(*http.Request) int           // a status in place of an answer, 0 for none; nil for none ever
	rewrap      func(*http.Request)               // changes requests; nil for no change
}

func startProxy(t *testing.T, c *harness.Cluster) *proxy {
	t.Helper()
	dir := filepath.Dir(c.CA)
	certificate, err := tls.LoadX509KeyPair(c.CA, filepath.Join(dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	authority, err := os.ReadFile(c.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{url: "https://" + listener.Addr().String(), conns: make(map[net.Conn]bool), certificate: certificate}
	p.wake = sync.NewCond(&p.mu)
	p.turnTo(t, c)
	// Compressed watches could not be taken apart.
	transport := &http.Transport{DisableCompression: true, TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	reverse := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(p.backend())
			r.Out.Header.Del("Accept-Encoding")
			if change := p.change(); change != nil {
				change(r.Out)
			}
		},
		Transport:      transport,
		FlushInterval:  -1,
		ModifyResponse: p.listen,
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }, // as if it were not there
		ErrorLog:       nil,
	}
	server := &http.Server{
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, reverse) }),
		TLSConfig: &tls.Config{GetConfigForClient: p.tlsConfig},
		ErrorLog:  quiet(),
	}
	var running sync.WaitGroup
	running.Go(func() { _ = server.ServeTLS(faultyListener{listener, p}, "", "") }) // ends when the server is closed
	t.Cleanup(func() {
		p.set(func() { p.frozen = false })
		_ = server.Close()
		running.Wait()
		transport.CloseIdleConnections()
	})
	return p
}

// tlsConfig is that of a new connection.
func (p *proxy) tlsConfig(*tls.ClientHelloInfo) (*tls.Config, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &tls.Config{Certificates: []tls.Certificate{p.certificate}, NextProtos: []string{"h2", "http/1.1"}}, nil
}

// set changes the faults.
func (p *proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.wake.Broadcast()
}

// cut ends the connections of now.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		_ = conn.Close()
	}
	p.conns = make(map[net.Conn]bool)
}

// refuse cuts, and refuses connections until mend.
func (p *proxy) refuse() {
	p.set(func() { p.down = true })
	p.cut()
}

func (p *proxy) mend() {
	p.set(func() {
		p.down, p.frozen, p.silent = false, false, false
		p.delay, p.answer, p.rewrap = nil, nil, nil
	})
}

// turnTo passes what comes from now on to the API server of another cluster, which has the same keys.
func (p *proxy) turnTo(t *testing.T, c *harness.Cluster) {
	t.Helper()
	target, err := url.Parse(c.URL())
	if err != nil {
		t.Fatal(err)
	}
	p.set(func() { p.target = target })
}

func (p *proxy) backend() *url.URL {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target
}

// requests are the times at which requests have come so far.
func (p *proxy) requests() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

// A cost is requests, and the octets of the answers to them.
type cost struct{ requests, octets int }

// checkCost is that of lists of metadata so far, which only a self-check asks for. Nothing is compressed on the way.
func (p *proxy) checkCost() cost {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.checks
}

// A countedBody counts what a list of metadata takes.
type countedBody struct {
	io.ReadCloser
	proxy *proxy
}

func (b countedBody) Read(to []byte) (int, error) {
	n, err := b.ReadCloser.Read(to)
	b.proxy.mu.Lock()
	defer b.proxy.mu.Unlock()
	b.proxy.checks.octets += n
	return n, err
}

// fail answers every request with a status, and ends the watches.
func (p *proxy) fail(code int) {
	p.set(func() { p.answer = func(*http.Request) int { return code } })
	p.cut()
}

func (p *proxy) change() func(*http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rewrap
}

func (p *proxy) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	p.mu.Lock()
	p.asked = append(p.asked, time.Now())
	answer, delay := p.answer, p.delay
	p.mu.Unlock()
	if delay != nil {
		select {
		case <-time.After(delay(r)):
		case <-r.Context().Done():
			return
		}
	}
	if answer != nil {
		if code := answer(r); code != 0 {
			w.Header().Set("Content-Type", "application/json")
			if code == http.StatusTooManyRequests {
				w.Header().Set("Retry-After", "1")
			}
			w.WriteHeader(code)
			fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d,"message":"by the test"}`, reasons[code], code)
			return
		}
	}
	next.ServeHTTP(w, r)
}

var reasons = map[int]string{
	http.StatusGone: "Expired", http.StatusTooManyRequests: "TooManyRequests", http.StatusUnauthorized: "Unauthorized",
	http.StatusForbidden: "Forbidden", http.StatusInternalServerError: "InternalError", http.StatusServiceUnavailable: "ServiceUnavailable",
}

func isWatch(r *http.Request) bool { return r.URL.Query().Get("watch") != "" }

// listen stands in the way of what comes back.
func (p *proxy) listen(r *http.Response) error {
	if isWatch(r.Request) && r.StatusCode == http.StatusOK && strings.Contains(r.Header.Get("Content-Type"), "protobuf") {
		r.Body = &frames{ReadCloser: r.Body, proxy: p}
	}
	if strings.Contains(r.Request.Header.Get("Accept"), "PartialObjectMetadata") {
		p.set(func() { p.checks.requests++ })
		r.Body = countedBody{r.Body, p}
	}
	return nil
}

// frames reads the events of a watch, each after its length, and leaves out those that are to be dropped.
type frames struct {
	io.ReadCloser
	proxy *proxy
	rest  []byte
}

func (f *frames) Read(b []byte) (int, error) {
	for len(f.rest) == 0 {
		var length [4]byte
		if _, err := io.ReadFull(f.ReadCloser, length[:]); err != nil {
			return 0, err
		}
		frame := make([]byte, 4+binary.BigEndian.Uint32(length[:]))
		copy(frame, length[:])
		if _, err := io.ReadFull(f.ReadCloser, frame[4:]); err != nil {
			return 0, err
		}
		f.proxy.mu.Lock()
		if !f.proxy.silent {
			f.rest = frame
		}
		f.proxy.mu.Unlock()
	}
	n := copy(b, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// A faultyListener hands out connections that obey the proxy.
type faultyListener struct {
	net.Listener
	proxy *proxy
}

func (l faultyListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.proxy.mu.Lock()
		down := l.proxy.down
		if !down {
			l.proxy.conns[conn] = true
		}
		l.proxy.mu.Unlock()
		if !down {
			return &faultyConn{conn, l.proxy}, nil
		}
		_ = conn.(*net.TCPConn).SetLinger(0) // a reset
		_ = conn.Close()
	}
}

type faultyConn struct {
	net.Conn
	proxy *proxy
}

// await returns once the proxy is not frozen.
func (c *faultyConn) await() {
	c.proxy.mu.Lock()
	defer c.proxy.mu.Unlock()
	for c.proxy.frozen {
		c.proxy.wake.Wait()
	}
}

func (c *faultyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.await()
	return n, err
}

func (c *faultyConn) Write(b []byte) (int, error) {
	c.await()
	return c.Conn.Write(b)
}
