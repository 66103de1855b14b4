package kube

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

const web = `apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: prod
spec:
  clusterIP: 10.96.0.1
`

func manifestConfig(paths ...string) Config {
	return Config{Manifests: paths, Slices: true, Pods: true}
}

// folder writes files, named by their paths, into a folder of their own.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, file, content)
	}
	return dir
}

func TestManifests(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string // owners of addresses, namespaces and pods
	}{
		{"several documents", map[string]string{"a.yaml": "# comment\n---\n" + web + "---\n---\n" + prod + "...\n"},
			"10.0.0.1=db-0.prod/db 10.96.0.1=prod/web ns=prod pod=prod/db-0"},
		{"windows line ends and a byte order mark", map[string]string{"a.yaml": "\ufeff" + strings.ReplaceAll(web+"---\n"+prod, "\n", "\r\n")},
			"10.0.0.1=db-0.prod/db 10.96.0.1=prod/web ns=prod pod=prod/db-0"},
		{"a folder in a folder", map[string]string{"x/y/a.yml": web, "b.txt": "{", ".hidden.yaml": "{", ".git/c.yaml": "{"},
			"10.96.0.1=prod/web ns=prod"},
		{"no namespace", map[string]string{"a.yaml": strings.Replace(web, "  namespace: prod\n", "", 1)},
			"10.96.0.1=default/web ns=default"},
		{"other kinds", map[string]string{"a.yaml": web + "---\napiVersion: apps/v1\nkind: Deployment\nspec: 1\n---\nkind: Endpoints\napiVersion: v1\n"},
			"10.96.0.1=prod/web ns=prod"},
		{"JSON", map[string]string{"a.json": `
			{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "dev"}}
			{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "prod"}, "spec": {"clusterIP": "10.96.0.1"}}`},
			"10.96.0.1=prod/web ns=dev ns=prod"},
		{"a dump", map[string]string{"a.yaml": `
apiVersion: v1
kind: List
metadata: {resourceVersion: ""}
items:
- apiVersion: v1
  kind: Service
  metadata: {name: web, namespace: prod, resourceVersion: "18446744073709551615", uid: f}
  spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], sessionAffinity: None, unknownField: 1}
  status: {loadBalancer: {}}
- apiVersion: v1
  kind: List
  items: [{apiVersion: v1, kind: Namespace, metadata: {name: dev}}]
`}, "10.96.0.1=prod/web ns=dev ns=prod"},
		{"typed lists", map[string]string{"a.yaml": `
apiVersion: v1
kind: ServiceList
items:
- {metadata: {name: web, namespace: prod}, spec: {clusterIP: 10.96.0.1}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSliceList
items:
- {metadata: {name: web-1, namespace: prod, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, endpoints: [{addresses: [10.0.0.1]}]}
---
apiVersion: apps/v1
kind: DeploymentList
items: 1
`}, "10.0.0.1=prod/web 10.96.0.1=prod/web ns=prod"},
		{"a document that begins beside its marker", map[string]string{"a.yaml": `--- {apiVersion: v1, kind: Namespace, metadata: {name: dev}}
--- # web
` + web}, "10.96.0.1=prod/web ns=dev ns=prod"},
		{"nothing", map[string]string{"a.yaml": "# empty\n---\n"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, manifestConfig(folder(t, c.files)))
			if !s.Synced() {
				t.Error("not synced after Open")
			}
			if got := contents(s.Index()); got != c.want {
				t.Errorf("%s; want %s", got, c.want)
			}
			if now := time.Now(); s.Index().Serial() > ticks(now) || s.Index().Serial() < ticks(now.Add(-time.Minute)) {
				t.Errorf("serial = %d; want the time of the change, about %d", s.Index().Serial(), ticks(now))
			}
		})
	}
}

// contents are the names of addresses, the namespaces and the pods.
func contents(x *index.Index) string {
	var words []string
	x.AllAddresses(netip.MustParsePrefix("0.0.0.0/0"), func(a netip.Addr) bool {
		for _, o := range x.Owners(a) {
			label := ""
			if o.Label != "" {
				label = o.Label + "."
			}
			words = append(words, fmt.Sprintf("%s=%s%s", a, label, keyText(o.Key)))
		}
		return true
	})
	for _, ns := range []string{"default", "dev", "prod"} {
		if x.HasNamespace(ns) {
			words = append(words, "ns="+ns)
		}
	}
	for _, p := range x.PodsAt(netip.MustParseAddr("10.0.0.1")) {
		words = append(words, "pod="+keyText(p.ObjectKey))
	}
	return strings.Join(words, " ")
}

func TestManifestSelectors(t *testing.T) {
	dir := folder(t, map[string]string{"a.yaml": `
{apiVersion: v1, kind: Namespace, metadata: {name: dev, labels: {team: a}}}
---
{apiVersion: v1, kind: Service, metadata: {name: one, namespace: dev, labels: {app: x}}, spec: {clusterIP: 10.96.0.1}}
---
{apiVersion: v1, kind: Service, metadata: {name: two, namespace: dev}, spec: {clusterIP: 10.96.0.2}}
---
{apiVersion: v1, kind: Service, metadata: {name: three, namespace: prod, labels: {app: x}}, spec: {clusterIP: 10.96.0.3}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: dev}, status: {podIP: 10.0.0.1}}
`})
	for _, c := range []struct {
		name   string
		config Config
		want   string
	}{
		{"none", Config{}, "10.96.0.1=dev/one 10.96.0.2=dev/two 10.96.0.3=prod/three ns=dev ns=prod"},
		{"labels", Config{Labels: "app=x"}, "10.96.0.1=dev/one 10.96.0.3=prod/three ns=dev ns=prod"},
		{"namespace labels", Config{NamespaceLabels: "team=a"}, "10.96.0.1=dev/one 10.96.0.2=dev/two ns=dev"},
		{"namespace by name", Config{NamespaceLabels: "kubernetes.io/metadata.name=prod"}, "10.96.0.3=prod/three ns=prod"},
		{"namespaces", Config{Namespaces: []string{"prod"}}, "10.96.0.3=prod/three ns=prod"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.config.Manifests = []string{dir}
			if got := contents(open(t, c.config).Index()); got != c.want {
				t.Errorf("%s; want %s", got, c.want)
			}
		})
	}
}

func TestManifestErrors(t *testing.T) {
	for _, c := range []struct{ name, file, content, want string }{
		{"YAML syntax", "a.yaml", web + "---\n" + "a: b\nc: [\n", "a.yaml:10: "},
		{"repeated key", "a.yaml", web + "  clusterIP: 10.96.0.2\n", `a.yaml:8: key "clusterIP" already set in map`},
		{"no object", "a.yaml", "\n\n- 1\n", "a.yaml:3: want an object"},
		{"no kind", "a.yaml", "---\n# comment\n\nmetadata: {name: x}\n", "a.yaml:4: want apiVersion and kind"},
		{"no name", "a.yaml", "apiVersion: v1\nkind: Service\n", "a.yaml:1: Service: want metadata.name"},
		{"no clusterIP", "a.yaml", web + "---\n" + service("type: ClusterIP"), `a.yaml:9: Service prod/x: clusterIP "": want an IP address, or None`},
		{"bad clusterIP", "a.yaml", service("clusterIP: 10.0.0.300"), `a.yaml:1: Service prod/x: clusterIP "10.0.0.300"`},
		{"bad ExternalName", "a.yaml", service("type: ExternalName"), `a.yaml:1: Service prod/x: externalName "": want a host name`},
		{"bad port", "a.yaml", service("clusterIP: None, ports: [{port: 70000}]"), "a.yaml:1: Service prod/x: port 70000: want a number from 1 to 65535"},
		{"port that is text", "a.yaml", service("clusterIP: None, ports: [{port: http}]"), "a.yaml:1: Service: json: cannot unmarshal string"},
		{"bad address", "a.yaml", slice("IPv4", "null", "{addresses: [10.0.0.1]}, {addresses: [010.0.0.1]}"), `a.yaml:1: EndpointSlice prod/x-1: address "010.0.0.1": want an IPv4 address`},
		{"bad name", "a.yaml", "{apiVersion: v1, kind: Namespace, metadata: {name: A}}", `a.yaml:1: Namespace A: name "A": want a DNS label`},
		{"twice the same object", "a.yaml", web + "---\n" + web, "a.yaml:9: Service prod/web: is also in "},
		{"in a list", "a.yaml", "---\napiVersion: v1\nkind: List\nitems:\n- " + service("clusterIP: none"), `a.yaml:2: items[0]: Service prod/x: clusterIP "none"`},
		{"JSON syntax", "a.json", "{\n\"a\": 1,\n}", "a.json:3: invalid character"},
		{"JSON object", "a.json", "{\"apiVersion\": \"v1\",\n\"kind\": \"Namespace\"}\n\n{\"apiVersion\": \"v1\", \"kind\": \"Pod\"}", "a.json:1: Namespace: want metadata.name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Open(manifestConfig(folder(t, map[string]string{c.file: c.content})))
			if err == nil {
				s.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), string(filepath.Separator)+c.want) {
				t.Errorf("%v; want ...%s", err, c.want)
			}
		})
	}
	if s, err := Open(manifestConfig(filepath.Join(t.TempDir(), "missing"))); err == nil {
		s.Close()
		t.Error("no error for a path that is not there")
	}
}

func TestManifestEdits(t *testing.T) {
	logged := captureLog(t)
	dir := folder(t, map[string]string{"web.yaml": web})
	file := filepath.Join(dir, "web.yaml")
	s := open(t, manifestConfig(dir))
	x := s.Index()
	edit := func(what, content string, seen func() bool) {
		t.Helper()
		serial, began := x.Serial(), time.Now()
		writeFile(t, file, content)
		eventually(t, what, seen)
		if d := time.Since(began); d > time.Second {
			t.Errorf("%s: seen after %v; want within a second", what, d)
		}
		if strings.Contains(what, "broken") != (x.Serial() == serial) {
			t.Errorf("%s: serial went from %d to %d", what, serial, x.Serial())
		}
	}
	has := func(address string) func() bool {
		return func() bool { return x.HasOwners(netip.MustParseAddr(address)) }
	}
	refused := func(n int) func() bool {
		return func() bool { return statusOf(s, index.Services).Refused == n }
	}
	edit("another address", strings.ReplaceAll(web, "10.96.0.1", "10.96.0.2"), has("10.96.0.2"))
	edit("a broken edit", strings.ReplaceAll(web, "10.96.0.1", "10.96.0.300"), refused(1))
	if !has("10.96.0.2")() {
		t.Error("a broken edit took the old answers away")
	}
	if st := statusOf(s, index.Services); !strings.Contains(st.LastError, `web.yaml:1: Service prod/web: clusterIP "10.96.0.300"`) {
		t.Errorf("status = %+v; want the error", st)
	}
	edit("another broken edit", web+"\n\tx", refused(2))
	if n := logged.count("Manifests refused"); n != 2 {
		t.Errorf("%d lines about refused edits; want 2", n)
	}
	edit("the old address", web, has("10.96.0.1"))
	if st := statusOf(s, index.Services); st.LastError != "" || st.Relists != 2 {
		t.Errorf("status = %+v; want two readings after the first, and no error", st)
	}

	writeFile(t, filepath.Join(dir, "db.yaml"), prod)
	eventually(t, "another file", has("10.0.0.1"))
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a file that is gone", func() bool { return !has("10.96.0.1")() })
	if err := os.Mkdir(filepath.Join(dir, "more"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "more", "web.yaml"), web)
	eventually(t, "a file in a new folder", has("10.96.0.1"))
}

// The files of a ConfigMap are links into a folder that a link leads to, and
// that link is replaced.
func TestConfigMapSwap(t *testing.T) {
	dir := folder(t, map[string]string{"..1/web.yaml": web, "..2/web.yaml": strings.ReplaceAll(web, "10.96.0.1", "10.96.0.2")})
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..1", "..data")
	link("..data/web.yaml", "web.yaml")
	for _, path := range []string{dir, filepath.Join(dir, "web.yaml")} {
		s := open(t, manifestConfig(path))
		if got, want := contents(s.Index()), "10.96.0.1=prod/web ns=prod"; got != want {
			t.Fatalf("%s; want %s", got, want)
		}
		link("..2", "..data_tmp")
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the other files", func() bool { return contents(s.Index()) == "10.96.0.2=prod/web ns=prod" })
		link("..1", "..data_tmp")
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
}

// Without events, as on some network file systems, changes are found by
// looking.
func TestManifestPolling(t *testing.T) {
	dir := folder(t, map[string]string{"web.yaml": web})
	m := &manifests{config: manifestConfig(dir), store: newStore(manifestConfig(dir))}
	if err := m.read(); err != nil {
		t.Fatal(err)
	}
	m.readIfChanged()
	if n := statusOf(m.store, index.Services).Relists; n != 0 {
		t.Errorf("%d more readings without a change", n)
	}
	writeFile(t, filepath.Join(dir, "web.yaml"), strings.ReplaceAll(web, "web", "website"))
	m.readIfChanged()
	if m.store.Index().Service(index.ObjectKey{Namespace: "prod", Name: "website"}) == nil {
		t.Error("a change was not found")
	}
}

// The serial grows with each edit, however fast they come, does not go back when
// files are older than those before, and is the same for who reads them first.
func TestManifestSerial(t *testing.T) {
	dir := folder(t, map[string]string{"web.yaml": web})
	file := filepath.Join(dir, "web.yaml")
	m := &manifests{config: manifestConfig(dir), store: newStore(manifestConfig(dir))}
	at := time.Unix(5_000_000_000, 0) // in the future, so that it is newer than the folder
	for i, step := range []struct {
		content string
		at      time.Time
		want    uint64
	}{
		{web, at, ticks(at)},
		{strings.ReplaceAll(web, "web", "web2"), at, ticks(at) + 1},
		{strings.ReplaceAll(web, "web", "web3"), at.Add(-time.Hour), ticks(at) + 2},
		{strings.ReplaceAll(web, "web", "web3"), at.Add(time.Hour), ticks(at) + 2}, // nothing changed
		{strings.ReplaceAll(web, "web", "web4"), at.Add(time.Hour), ticks(at.Add(time.Hour))},
		{strings.ReplaceAll(web, "web", "web5"), at.Add(time.Hour + settleAfter), ticks(at.Add(time.Hour + settleAfter))}, // not one more: a restart knows it
	} {
		writeFile(t, file, step.content)
		if err := os.Chtimes(file, step.at, step.at); err != nil {
			t.Fatal(err)
		}
		if err := m.read(); err != nil {
			t.Fatal(err)
		}
		if got := m.store.Index().Serial(); got != step.want {
			t.Errorf("step %d: serial = %d; want %d", i, got, step.want)
		}
	}
}
