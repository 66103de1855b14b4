package kube

import (
	"crypto/tls"
	"io"
	golog "log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"
	certutil "k8s.io/client-go/util/cert"
)

// Once the API server's certificate is of a new authority, the file that names
// the authorities is read again; until it names the new one nothing is trusted
// that was not before.
func TestAuthorityRotates(t *testing.T) {
	var shown atomic.Pointer[tls.Certificate]
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{*shown.Load()}}, nil
	}}
	server.Config.ErrorLog = golog.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	first, firstPEM := newCertificate(t)
	second, secondPEM := newCertificate(t)
	file := filepath.Join(t.TempDir(), "ca.crt")
	writeFile(t, file, string(firstPEM))

	shown.Store(first)
	w := newWire(Config{}, &reachability{})
	_, connections, err := newTransport(&rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{CAFile: file}}, w)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { connections.CloseIdleConnections() }()
	ask := func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := w.RoundTrip(req)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	shown.Store(second)
	server.CloseClientConnections()
	for range 2 {
		if ask() == nil {
			t.Fatal("a certificate of an unknown authority is trusted")
		}
	}
	writeFile(t, file, "half of a certificate")
	if ask() == nil {
		t.Fatal("a certificate of an unknown authority is trusted")
	}
	writeFile(t, file, string(secondPEM))
	if ask() == nil {
		t.Fatal("the file was read again before there was a reason")
	}
	if err := ask(); err != nil {
		t.Errorf("after the file was replaced: %v", err)
	}
}

// newCertificate is one of an authority of its own, which the PEM text holds.
func newCertificate(t *testing.T) (*tls.Certificate, []byte) {
	t.Helper()
	chain, key, err := certutil.GenerateSelfSignedCertKey("localhost", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tls.X509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	return &c, chain
}
