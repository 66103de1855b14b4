package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
	"k8s.io/client-go/util/flowcontrol"
)

// An API server that vanishes without a word is noticed after
// pingAfter+pingTimeout, and the attempt to reach another is given up after
// dialTimeout: together less than 10 s.
const (
	pingAfter   = 3 * time.Second
	pingTimeout = 3 * time.Second
	dialTimeout = 3 * time.Second

	handshakeTimeout = 10 * time.Second // a busy API server may take its time
	headerTimeout    = 90 * time.Second // the API server itself gives up a request after 60 s
)

// newTransport returns what carries the requests of one Store. It is not
// client-go's own, whose health checks take 45 s.
func newTransport(c *rest.Config, w *wire) (http.RoundTripper, connections, error) {
	tc, err := c.TransportConfig()
	if err != nil {
		return nil, nil, err
	}
	tlsConfig, err := transport.TLSConfigFor(tc)
	if err != nil {
		return nil, nil, err
	}
	var carrying carrier = plainTransport(tc, tlsConfig)
	if c.CAFile != "" && len(c.CAData) == 0 {
		trusting := func(pool *x509.CertPool) *http.Transport {
			renewed := tlsConfig.Clone()
			renewed.RootCAs = pool
			return plainTransport(tc, renewed)
		}
		carrying = &authority{file: c.CAFile, transport: trusting, content: tc.TLS.CAData, current: trusting(tlsConfig.RootCAs)}
	}
	w.next = carrying
	if tc.BearerTokenFile != "" {
		// A wrapper of our choice, as the one for token files does not read
		// them again after a 401.
		tc.Wrap(transport.ResettableTokenSourceWrapTransport(transport.NewCachedFileTokenSource(tc.BearerTokenFile)))
		tc.BearerToken, tc.BearerTokenFile = "", ""
	}
	rt, err := transport.HTTPWrappersForConfig(tc, w)
	return rt, carrying, err
}

// connections can be closed while they carry nothing.
type connections interface{ CloseIdleConnections() }

// A carrier has connections of its own.
type carrier interface {
	http.RoundTripper
	connections
}

func plainTransport(tc *transport.Config, tlsConfig *tls.Config) *http.Transport {
	t := &http.Transport{
		Proxy:                 tc.Proxy,
		DialContext:           dialer(tc),
		TLSClientConfig:       tlsConfig,
		TLSHandshakeTimeout:   handshakeTimeout,
		ResponseHeaderTimeout: headerTimeout,
		IdleConnTimeout:       headerTimeout,
		ForceAttemptHTTP2:     true,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		DisableCompression:    tc.DisableCompression,
	}
	if t.Proxy == nil {
		t.Proxy = utilnet.NewProxierWithNoProxyCIDR(http.ProxyFromEnvironment)
	}
	return t
}

// dialer notices a dead peer on connections that HTTP/2 does not watch, too.
func dialer(tc *transport.Config) func(ctx context.Context, network, address string) (net.Conn, error) {
	if tc.DialHolder != nil {
		return tc.DialHolder.Dial
	}
	return (&net.Dialer{
		Timeout:         dialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: pingAfter, Interval: time.Second, Count: int(pingTimeout / time.Second)},
	}).DialContext
}

// A wire limits, measures and watches over the requests of one Store.
type wire struct {
	next    carrier
	limiter flowcontrol.RateLimiter // nil for no limit
	slots   chan struct{}           // one for each request in flight; nil for no limit
	reach   *reachability
}

func newWire(c Config, reach *reachability) *wire {
	w := &wire{reach: reach}
	qps, burst := c.QPS, c.Burst
	if qps == 0 {
		qps = float32(burst)
	}
	if burst == 0 {
		burst = max(int(qps), 1)
	}
	if qps > 0 {
		w.limiter = flowcontrol.NewTokenBucketRateLimiter(qps, burst)
	}
	if c.MaxInflight > 0 {
		w.slots = make(chan struct{}, c.MaxInflight)
	}
	return w
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if w.limiter != nil {
		began := time.Now()
		if err := w.limiter.Wait(ctx); err != nil {
			return nil, err
		}
		rateLimiterLatency(req.Method, req.URL.Host, time.Since(began))
	}
	release, err := w.acquire(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	resp, err := w.next.RoundTrip(req)
	requestLatency(req.Method, req.URL.Host, time.Since(began))
	if err != nil {
		release()
		requestResult("<error>", req.Method, req.URL.Host)
		if ctx.Err() == nil {
			w.reach.lost(err)
		}
		return nil, err
	}
	requestResult(strconv.Itoa(resp.StatusCode), req.Method, req.URL.Host)
	w.reach.answered()
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		release = w.thenConnectAnew(release)
	}
	b := &body{ReadCloser: resp.Body, ctx: ctx, reach: w.reach, closed: release}
	if req.URL.Query().Get("watch") != "" {
		release() // a watch lasts for minutes
		resp.Body = watchBody{b}
	} else {
		resp.Body = b
	}
	return resp, nil
}

// thenConnectAnew has the next request make a connection of its own, if nothing
// else uses that of the refused one. A client certificate counts for as long as a
// connection lasts: one that was made just before the file was replaced would be
// refused for ever.
func (w *wire) thenConnectAnew(release func()) func() {
	return func() {
		release()
		w.next.CloseIdleConnections()
	}
}

// acquire waits for one of the requests that may be in flight.
func (w *wire) acquire(ctx context.Context) (release func(), err error) {
	if w.slots == nil {
		return func() {}, nil
	}
	select {
	case w.slots <- struct{}{}:
		return sync.OnceFunc(func() { <-w.slots }), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A body notices when the connection breaks while an answer is read.
type body struct {
	io.ReadCloser
	ctx    context.Context
	reach  *reachability
	closed func()
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && b.ctx.Err() == nil {
		b.reach.lost(err)
	}
	return n, err
}

func (b *body) Close() error {
	defer b.closed()
	return b.ReadCloser.Close()
}

// A watchBody ends where its connection breaks: what a reflector is told to be
// an error makes it list anew, while an end makes it go on from there.
type watchBody struct{ *body }

func (b watchBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err != nil && err != io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
