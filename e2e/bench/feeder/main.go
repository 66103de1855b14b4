// Command feeder stands in for a Kubernetes API server in the benchmark: it serves a made-up cluster to list and watch,
// in the API's protobuf, quickly and with little CPU of its own. On its control port it makes changes at any rate, says
// when each was sent, cuts all connections as a restart would, and counts what it sent.
//
//	feeder -population a [-pods] [-api ADDRESS] [-control ADDRESS]
//
// It prints both addresses once it serves. The control port:
//
//	GET  /stats                       octets sent and requests so far, as JSON
//	POST /restart?rewrite=BOOL&away=DURATION
//	                                  cuts every connection, takes no new one for so long and has forgotten all history:
//	                                  who watched must list again; with rewrite every object has a new resource version
//	POST /churn?rate=N&for=DURATION&service=NAME
//	                                  changes N slices a second, each by one endpoint's address, those of one service or
//	                                  of all headless ones, and answers with a line of JSON for each, once it was sent
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kubezone/kubezone/e2e/bench/population"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "feeder:", err)
		os.Exit(1)
	}
}

func run() error {
	name := flag.String("population", "a", "the cluster to serve: a, b, c, churn, wide or widest")
	pods := flag.Bool("pods", false, "serve its pods too")
	apiAddress := flag.String("api", "127.0.0.1:0", "where to serve the API")
	controlAddress := flag.String("control", "127.0.0.1:0", "where to be controlled")
	flag.Parse()
	p, err := population.New(*name)
	if err != nil {
		return err
	}
	f := newFeeder(p, *pods)
	listener, err := net.Listen("tcp", *apiAddress)
	if err != nil {
		return err
	}
	control, err := net.Listen("tcp", *controlAddress)
	if err != nil {
		return err
	}
	fmt.Printf("api=%s control=%s\n", listener.Addr(), control.Addr())
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	return f.serve(ctx, listener, control)
}

// A feeder is the API of one population and the control over it.
type feeder struct {
	store *store
	api   *api
	sent  atomic.Int64 // octets, to whoever uses the API

	mu    sync.Mutex // guards conns
	conns map[net.Conn]bool
	back  time.Time // no connection is taken before
}

func newFeeder(p *population.Population, pods bool) *feeder {
	s := newStore(p, pods)
	return &feeder{store: s, api: newAPI(s), conns: map[net.Conn]bool{}}
}

// serve returns once ctx is done or a listener fails. It closes both listeners.
func (f *feeder) serve(ctx context.Context, listener, control net.Listener) error {
	apiServer := &http.Server{Handler: f.api, ConnState: f.connState, ReadHeaderTimeout: time.Minute}
	controls := http.NewServeMux()
	controls.HandleFunc("GET /stats", f.serveStats)
	controls.HandleFunc("POST /restart", f.serveRestart)
	controls.HandleFunc("POST /churn", f.serveChurn)
	controlServer := &http.Server{Handler: controls, ReadHeaderTimeout: time.Minute}

	failed := make(chan error, 2)
	go func() { failed <- apiServer.Serve(countingListener{listener, &f.sent}) }()
	go func() { failed <- controlServer.Serve(control) }()
	var err error
	ended := 0
	select {
	case <-ctx.Done():
	case err = <-failed:
		ended++
	}
	_ = apiServer.Close()
	_ = controlServer.Close()
	for ; ended < 2; ended++ {
		<-failed
	}
	return err
}

// connState knows the connections there are, and closes those that come while the API is away.
func (f *feeder) connState(c net.Conn, state http.ConnState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch state {
	case http.StateNew:
		f.conns[c] = true
		if time.Now().Before(f.back) {
			_ = c.Close()
		}
	case http.StateClosed, http.StateHijacked:
		delete(f.conns, c)
	}
}

func (f *feeder) serveStats(w http.ResponseWriter, _ *http.Request) {
	f.api.mu.Lock()
	defer f.api.mu.Unlock()
	_ = json.NewEncoder(w).Encode(Stats{Sent: f.sent.Load(), Requests: f.api.requests})
}

// Stats is what the feeder did so far.
type Stats struct {
	Sent     int64          `json:"sent"`     // octets, headers included
	Requests map[string]int `json:"requests"` // by "VERB RESOURCE", with the verbs list, watch and watchlist
}

func (f *feeder) serveRestart(w http.ResponseWriter, r *http.Request) {
	var away time.Duration
	if text := r.FormValue("away"); text != "" {
		var err error
		if away, err = time.ParseDuration(text); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	f.mu.Lock()
	f.back = time.Now().Add(away)
	for c := range f.conns {
		_ = c.Close()
	}
	f.mu.Unlock()
	f.store.restart(r.FormValue("rewrite") == "true")
}

// A countingListener counts what its connections send.
type countingListener struct {
	net.Listener
	sent *atomic.Int64
}

// Accept implements net.Listener.
func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countingConn{c, l.sent}, nil
}

type countingConn struct {
	net.Conn
	sent *atomic.Int64
}

// Write implements net.Conn.
func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent.Add(int64(n))
	return n, err
}
