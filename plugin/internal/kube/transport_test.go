package kube

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"
)

// A roundTripper answers requests in a test.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (roundTripper) CloseIdleConnections() {}

func empty() *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(""))}
}

func get(t *testing.T, w *wire, url string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := w.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestRequestRate(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
		want   time.Duration // for 11 requests
	}{
		{"no limit", Config{}, 0},
		{"qps and burst", Config{QPS: 2, Burst: 3}, 4 * time.Second},
		{"qps alone", Config{QPS: 2}, 4500 * time.Millisecond},
		{"burst alone", Config{Burst: 5}, 1200 * time.Millisecond},
		{"less than one a second", Config{QPS: 0.5}, 20 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var held time.Duration
				SetObserver(Observer{RateLimiterLatency: func(_, _ string, d time.Duration) { held += d }})
				defer SetObserver(Observer{})
				w := newWire(c.config, new(reachability))
				w.next = roundTripper(func(*http.Request) (*http.Response, error) { return empty(), nil })
				began := time.Now()
				for range 11 {
					get(t, w, "https://api/").Body.Close()
				}
				if d := time.Since(began).Round(time.Millisecond); d != c.want {
					t.Errorf("11 requests took %v; want %v", d, c.want)
				}
				if held.Round(time.Millisecond) != c.want {
					t.Errorf("observed %v; want %v", held, c.want)
				}
			})
		})
	}
}

func TestRequestsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(Config{MaxInflight: 2}, new(reachability))
		w.next = roundTripper(func(*http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return empty(), nil
		})
		began := time.Now()
		var work sync.WaitGroup
		for range 6 {
			work.Go(func() { get(t, w, "https://api/").Body.Close() })
		}
		work.Wait()
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("6 requests of 1s each took %v; want 3s with two at a time", d)
		}

		// Watches that run take no place.
		for range 5 {
			get(t, w, "https://api/?watch=true")
		}
		open := []*http.Response{get(t, w, "https://api/"), get(t, w, "https://api/")}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://api/", nil)
		if _, err := w.RoundTrip(req); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("third request while two are read: %v; want to wait", err)
		}
		for _, resp := range open {
			resp.Body.Close()
		}
	})
}

func TestRequestObserver(t *testing.T) {
	var seen []string
	SetObserver(Observer{
		RequestLatency: func(verb, host string, _ time.Duration) { seen = append(seen, verb+" "+host) },
		RequestResult:  func(code, method, host string) { seen = append(seen, code+" "+method+" "+host) },
	})
	defer SetObserver(Observer{})
	w := newWire(Config{}, new(reachability))
	w.next = roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/bad" {
			return nil, errors.New("refused")
		}
		return empty(), nil
	})
	get(t, w, "https://api:6443/").Body.Close()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api:6443/bad", nil)
	if _, err := w.RoundTrip(req); err == nil {
		t.Error("no error")
	}
	want := []string{"GET api:6443", "200 GET api:6443", "GET api:6443", "<error> GET api:6443"}
	if !slices.Equal(seen, want) {
		t.Errorf("observed %q; want %q", seen, want)
	}
}

// brokenBody fails when it is read.
type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, errors.New("connection lost") }
func (brokenBody) Close() error             { return nil }

func TestReachability(t *testing.T) {
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		reach := &reachability{host: "https://api"}
		w := newWire(Config{}, reach)
		var failure error
		w.next = roundTripper(func(*http.Request) (*http.Response, error) {
			if failure != nil {
				return nil, failure
			}
			return &http.Response{StatusCode: http.StatusForbidden, Body: brokenBody{}}, nil
		})
		request := func(url string) (*http.Response, error) {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			return w.RoundTrip(req)
		}
		resp, err := request("https://api/")
		if err != nil || reach.trouble() != nil {
			t.Fatal(err, reach.trouble())
		}
		if _, err := resp.Body.Read(make([]byte, 1)); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("reading a broken list: %v; want why", err)
		}
		if reach.trouble() == nil {
			t.Error("an answer that broke off was not noticed")
		}
		watch, _ := request("https://api/?watch=true")
		if _, err := watch.Body.Read(make([]byte, 1)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("reading a broken watch: %v; want an end", err)
		}
		failure = errors.New("refused")
		for range 10 * 60 {
			_, _ = request("https://api/")
			time.Sleep(time.Second)
		}
		failure = nil
		_, _ = request("https://api/")
	})
	for text, want := range map[string]int{"Connected to": 1, "is away": 2, "has been away for": 9, "answers again": 2} {
		if n := logged.count(text); n != want {
			t.Errorf("%d lines say %q; want %d", n, text, want)
		}
	}
}

// A client certificate that was replaced counts from the next connection on, so
// whoever is refused makes one; whoever is not keeps his.
func TestRefusedConnectAnew(t *testing.T) {
	var mu sync.Mutex
	var clients []string // by request
	status := http.StatusOK
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		clients = append(clients, r.RemoteAddr)
		w.WriteHeader(status)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	w := newWire(Config{}, &reachability{})
	_, connections, err := newTransport(&rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}, w)
	if err != nil {
		t.Fatal(err)
	}
	defer connections.CloseIdleConnections()
	for _, next := range []int{http.StatusOK, http.StatusForbidden, http.StatusUnauthorized, http.StatusOK} {
		mu.Lock()
		status = next
		mu.Unlock()
		if err := get(t, w, server.URL+"?watch=true").Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if clients[0] != clients[1] || clients[1] == clients[2] || clients[2] == clients[3] {
		t.Errorf("connections %v; want a new one for the third and the fourth request", clients)
	}
}
