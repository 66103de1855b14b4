package kube

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpenErrors(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	dir := t.TempDir()
	file := func(name, content string) string {
		writeFile(t, filepath.Join(dir, name), content)
		return filepath.Join(dir, name)
	}
	for _, c := range []struct {
		name   string
		config Config
		want   string
	}{
		{"not in a pod", Config{}, "this is not a pod (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set): add kubeconfig FILE, endpoint URL or manifests PATH"},
		{"no such kubeconfig", Config{Kubeconfig: filepath.Join(dir, "none")}, "none: no such file"},
		{"kubeconfig that is no YAML", Config{Kubeconfig: file("bad", "a: [")}, `bad": `},
		{"empty kubeconfig", Config{Kubeconfig: file("empty", "")}, `no context "": want one of []`},
		{"unknown context", Config{Kubeconfig: writeKubeconfig(t, "https://api", "", ""), Context: "prod"}, `no context "prod": want one of ["test"]`},
		{"kubeconfig with a bad CA", Config{Kubeconfig: writeKubeconfig(t, "https://api", file("ca", "x"), "")}, "unable to load root certificates"},
		{"kubeconfig without its CA", Config{Kubeconfig: writeKubeconfig(t, "https://api", filepath.Join(dir, "none"), "")}, "no such file"},
		{"endpoint without its certificate", Config{Endpoint: "https://api", CertFile: filepath.Join(dir, "none"), KeyFile: filepath.Join(dir, "none")}, "client certificate"},
		{"endpoint with a bad certificate", Config{Endpoint: "https://api", CertFile: file("cert", "x"), KeyFile: file("key", "x")}, "client certificate"},
		{"endpoint with a bad CA", Config{Endpoint: "https://api", CAFile: file("ca", "x")}, "unable to load root certificates"},
		{"endpoint that is no URL", Config{Endpoint: "https://api:port"}, `endpoint "https://api:port": `},
		{"bad labels", Config{Labels: "a in"}, `labels "a in": `},
		{"bad namespace labels", Config{NamespaceLabels: "=", Manifests: []string{dir}}, `namespace_labels "=": `},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Open(c.config)
			if err == nil {
				s.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want ...%s", err, c.want)
			}
		})
	}
}

func TestOpenEndpoint(t *testing.T) {
	t.Run("in the clear", func(t *testing.T) {
		api := newAPIServer(t, prod)
		plain := httptest.NewServer(api)
		t.Cleanup(plain.Close)
		t.Cleanup(api.cutWatches)
		s := openSynced(t, Config{Endpoint: plain.URL})
		if s.Index().Service(dbKey) == nil {
			t.Error("no service")
		}
		if n := len(api.asked("pods")) + len(api.asked("endpointslices")); n != 0 {
			t.Errorf("%d requests for kinds that are not wanted", n)
		}
	})
	t.Run("with a client certificate", func(t *testing.T) {
		api := newAPIServer(t, prod)
		secure := httptest.NewUnstartedServer(api)
		secure.EnableHTTP2 = true
		secure.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
		secure.StartTLS()
		t.Cleanup(secure.Close)
		t.Cleanup(api.cutWatches)
		key, err := x509.MarshalPKCS8PrivateKey(secure.TLS.Certificates[0].PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		keyFile := filepath.Join(t.TempDir(), "key")
		writeFile(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
		certificate := api.certificate(t)
		s := openSynced(t, Config{Endpoint: secure.URL, CertFile: certificate, KeyFile: keyFile, CAFile: certificate, Slices: true})
		if st := s.Index().Service(dbKey); st == nil || !st.Ready() {
			t.Error("no ready service")
		}
	})
}
