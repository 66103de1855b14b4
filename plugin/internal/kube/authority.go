package kube

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"sync"
)

// An authority carries requests to API servers whose certificates an authority
// in a file has signed. The file is read again when a certificate is of none of
// them, as when authorities are rotated; the request that found out fails, and
// the next one succeeds.
type authority struct {
	file      string
	transport func(*x509.CertPool) *http.Transport

	mu      sync.Mutex // guards the rest
	content []byte     // of the file, as current trusts it
	current *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (a *authority) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := a.now().RoundTrip(req)
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		a.readAgain()
	}
	return resp, err
}

func (a *authority) now() *http.Transport {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.current
}

// readAgain trusts what the file holds, if that is another certificate than
// before: half of a file, or none, is no reason to trust nobody.
func (a *authority) readAgain() {
	content, err := os.ReadFile(a.file)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil || bytes.Equal(content, a.content) {
		return
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return
	}
	log.Infof("Read the certificate authorities in %q again", a.file)
	old := a.current
	a.content, a.current = content, a.transport(pool)
	old.CloseIdleConnections()
}

// CloseIdleConnections closes those that carry no request.
func (a *authority) CloseIdleConnections() { a.now().CloseIdleConnections() }
