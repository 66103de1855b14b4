package faults

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	certutil "k8s.io/client-go/util/cert"

	"github.com/kubezone/kubezone/e2e/harness"
)

// TestCredentials has the rows in which files that the kubeconfig names are replaced while the server runs.
func TestCredentials(t *testing.T) {
	for _, test := range []struct {
		id, fault string
		// prepare returns a kubeconfig, and what makes its first credentials worthless and cuts the watches.
		prepare func(*rig) (kubeconfig string, rotate func())
	}{
		{"10c", "client certificate replaced", clientCertificate},
		{"10a", "certificate authority replaced", certificateAuthority},
	} {
		t.Run("row "+test.id+", "+test.fault, func(t *testing.T) {
			r := row{id: test.id, fault: test.fault, healing: always(reconnectWithin)}
			g := newEmptyRig(t, cluster, "row-"+r.id, r.healing.now())
			g.create("kept")
			g.headless("set", "192.0.2.1", "192.0.2.2")
			g.truth.write(g.question("missing"), "NXDOMAIN", func() {})
			g.truth.write(g.question("late"), "NXDOMAIN", func() {})
			kubeconfig, rotate := test.prepare(g)
			for _, binary := range []string{ours, stock} {
				if _, err := os.Stat(binary); err == nil || binary == ours {
					g.addWith(binary, &side{kubeconfig: kubeconfig}, r)
				}
			}
			for _, s := range g.sides {
				s.open(g, r)
			}
			g.truth.breaks()
			rotate()
			g.create("late")
			g.truth.heals()
			g.converge(reconnectWithin)
			time.Sleep(time.Second) // asked meanwhile
			g.finish(r)
		})
	}
}

// clientCertificate replaces that of one user by that of another, and takes the first one's rights.
func clientCertificate(g *rig) (kubeconfig string, rotate func()) {
	for _, user := range []string{"first-dns", "second-dns"} {
		binding := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: user},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}},
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:coredns"}}
		if _, err := g.cluster.Client.RbacV1().ClusterRoleBindings().Create(g.Context(), binding, metav1.CreateOptions{}); err != nil {
			g.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.Fatal(err)
	}
	// TLS goes through to the API server, which must see the certificate.
	p := harness.StartProxy(g, listener, g.cluster.Address())
	certificate, key := g.cluster.ClientCertificate(g, "first-dns")
	kubeconfig = writeKubeconfig(g, "https://"+listener.Addr().String(), g.cluster.CA, fmt.Sprintf("client-certificate: %q, client-key: %q", certificate, key))
	return kubeconfig, func() {
		next, nextKey := g.cluster.ClientCertificate(g, "second-dns")
		copyFile(g, next, certificate)
		copyFile(g, nextKey, key)
		if err := g.cluster.Client.RbacV1().ClusterRoleBindings().Delete(g.Context(), "first-dns", metav1.DeleteOptions{}); err != nil {
			g.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond) // until the API server has heard of it
		p.Cut()
	}
}

// certificateAuthority gives the API server, which is the proxy here, a certificate of another authority.
func certificateAuthority(g *rig) (kubeconfig string, rotate func()) {
	p := startProxy(g.T, g.cluster)
	authority := filepath.Join(g.TempDir(), "ca.crt")
	copyFile(g, g.cluster.CA, authority)
	token := filepath.Join(g.TempDir(), "token")
	harness.WriteFile(g, token, g.cluster.Token(g, "kube-system", "coredns", nil))
	kubeconfig = writeKubeconfig(g, p.url, authority, fmt.Sprintf("tokenFile: %q", token))
	return kubeconfig, func() {
		chain, key, err := certutil.GenerateSelfSignedCertKey("localhost", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
		if err != nil {
			g.Fatal(err)
		}
		certificate, err := tls.X509KeyPair(chain, key)
		if err != nil {
			g.Fatal(err)
		}
		p.set(func() { p.certificate = certificate })
		p.cut()
		time.Sleep(time.Second) // in which nobody is trusted
		harness.WriteFile(g, authority, string(chain))
	}
}

func writeKubeconfig(g *rig, server, authority, user string) string {
	g.Helper()
	file := filepath.Join(g.TempDir(), "kubeconfig")
	harness.WriteFile(g, file, fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: e2e
  cluster: {server: %q, certificate-authority: %q}
users:
- name: e2e
  user: {%s}
contexts:
- name: e2e
  context: {cluster: e2e, user: e2e}
current-context: e2e
`, server, authority, user))
	return file
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, to, string(text))
}
