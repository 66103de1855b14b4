package doctor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"
)

// fine is a Corefile with nothing to find but what a case changes. Its objects are in files, so that no API server is
// asked.
const fine = `.:53 {
    errors
    health {
        lameduck 5s
    }
    ready
    prometheus :9153
    kubezone cluster.local in-addr.arpa ip6.arpa {
        manifests /does/not/matter
        deny_namespaces svc
        pods insecure
        pod_ranges private
        fallthrough in-addr.arpa ip6.arpa
        reverse_ranges private
    }
    forward . /etc/resolv.conf
    cache 30
    loop
    reload
}
`

// nodeResolver and podResolver are what a kubelet leaves.
const (
	nodeResolver = "nameserver 192.0.2.53\nsearch example.org\n"
	podResolver  = "nameserver 10.96.0.10\nsearch prod.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
)

func TestFindings(t *testing.T) {
	for _, tc := range []struct {
		name      string
		old, new  string // in the Corefile
		node, pod string // resolv.conf
		want      []string
	}{
		{name: "nothing"},
		{name: "no cluster", old: "    kubezone cluster.local in-addr.arpa ip6.arpa {", new: "    hosts {", want: []string{"ERROR cluster-zone: "}},
		{name: "a directive that nobody knows", old: "loop", new: "lop", want: []string{`ERROR corefile: CORE:18 - Error during parsing: Unknown directive 'lop'`}},
		{name: "a directive that is left out", old: "loop", new: "loop\n    trace", want: []string{"ERROR corefile: line 19: the directive trace is not in this build"}},
		{name: "an option that is wrong", old: "deny_namespaces svc", new: "deny_namespace svc", want: []string{`ERROR options: CORE:10 - Error during parsing: unknown option "deny_namespace"`}},
		{name: "an option without effect", old: "pods insecure", new: "pods disabled", want: []string{"WARNING options: CORE:12 - pod_ranges: ignored, since pods is disabled"}},
		{name: "no readiness", old: "ready\n", new: "\n", want: []string{"WARNING plugins: the server block of .:53 has no ready"}},
		{name: "no health", old: "    health {\n        lameduck 5s\n    }\n", want: []string{"WARNING plugins: the server block of .:53 has no health"}},
		{name: "no lameduck", old: "lameduck 5s", want: []string{"NOTE plugins: health has no lameduck"}},
		{name: "no forward", old: "forward . /etc/resolv.conf", want: []string{"NOTE plugins: the server block of .:53 has no forward"}},
		{name: "no loop", old: "    loop\n", want: []string{"NOTE plugins: the server block of .:53 has forward without loop"}},
		{name: "profiling for all", old: "loop", new: "loop\n    pprof :6053", want: []string{"WARNING pprof: pprof listens on :6053"}},
		{name: "profiling for this pod", old: "loop", new: "loop\n    pprof\n"},
		{name: "profiling on the loopback address", old: "loop", new: "loop\n    pprof 127.0.0.1:6053\n"},
		{name: "names that leak", old: "fallthrough in-addr.arpa ip6.arpa", new: "fallthrough", want: []string{
			"WARNING cache: CORE:8: as cluster.local. falls through", "WARNING fallthrough: CORE:8: names in cluster.local. that do not exist are asked upstream"}},
		{name: "names that leak and are not kept", old: "fallthrough in-addr.arpa ip6.arpa\n        reverse_ranges private\n    }\n    forward . /etc/resolv.conf\n    cache 30", new: "fallthrough\n        reverse_ranges private\n    }\n    forward . /etc/resolv.conf\n    cache 30 {\n        disable denial cluster.local\n    }",
			want: []string{"WARNING fallthrough: "}},
		{name: "no guards", old: "        deny_namespaces svc\n        pods insecure\n        pod_ranges private\n        fallthrough in-addr.arpa ip6.arpa\n        reverse_ranges private\n", new: "        pods insecure\n        fallthrough in-addr.arpa\n",
			want: []string{"NOTE guards: deny_namespaces is not set", "NOTE guards: pods insecure without pod_ranges", "NOTE guards: CORE:8: reverse names"}},
		{name: "the stub of systemd-resolved", node: "nameserver 127.0.0.53\n", want: []string{"ERROR forward-loop: forward goes to 127.0.0.53 port 53"}},
		{name: "itself", old: "forward . /etc/resolv.conf", new: "forward . 192.0.2.53 127.0.0.1:53", want: []string{"ERROR forward-loop: forward goes to 127.0.0.1 port 53"}},
		{name: "another server in the pod", old: "forward . /etc/resolv.conf", new: "forward . 127.0.0.1:5353"},
		{name: "no server upstream", node: "search example.org\n", want: []string{"ERROR upstream: forward to /etc/resolv.conf: no name server"}},
		{name: "another cluster domain", pod: strings.ReplaceAll(podResolver, "cluster.local", "k8s.example"), want: []string{`ERROR cluster-domain: POD: the search path has "svc.k8s.example"`}},
		{name: "no cluster domain", pod: nodeResolver, want: []string{"ERROR pod-resolver: POD: search [\"example.org\"] has no svc."}},
		{name: "few dots", pod: strings.Replace(podResolver, "ndots:5", "ndots:1", 1), want: []string{"WARNING ndots: POD: with ndots:1"}},
		{name: "many dots", pod: strings.Replace(podResolver, "ndots:5", "ndots:7", 1), want: []string{"NOTE ndots: POD: with ndots:7"}},
		{name: "many servers", pod: strings.Repeat("nameserver 10.96.0.10\n", 4) + podResolver, want: []string{"WARNING pod-resolver: POD: of 5 name servers, resolvers use 3"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			folder := t.TempDir()
			file := func(name, content string) string {
				path := filepath.Join(folder, name)
				if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
				return path
			}
			or := func(text, otherwise string) string {
				if text == "" {
					return otherwise
				}
				return text
			}
			if strings.Count(fine, tc.old) == 0 {
				t.Fatalf("%q is not in the Corefile", tc.old)
			}
			corefile := file("Corefile", strings.Replace(fine, tc.old, tc.new, 1))
			pod := file("pod", or(tc.pod, podResolver))
			got, code := run("-conf", corefile, "-resolv-conf", file("node", or(tc.node, nodeResolver)), "-pod-resolv-conf", pod)
			text := strings.NewReplacer(corefile, "CORE", pod, "POD").Replace(got)
			checkFindings(t, text, code, tc.want)
		})
	}
}

// run returns the report, and the exit code.
func run(args ...string) (report string, code int) {
	var stdout, stderr bytes.Buffer
	code = Run(args, Build{Directives: append([]string{"kubezone"}, dnsserver.Directives...), LeftOut: map[string]string{"trace": "use log"}}, &stdout, &stderr)
	return stdout.String() + stderr.String(), code
}

// checkFindings checks that the report has one finding for each of want, in any order and each with a fix, and an exit
// code that fits the worst.
func checkFindings(t *testing.T, report string, code int, want []string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(report), "\n")
	var found []string
	wantCode := exitFine
	for i := 0; i+1 < len(lines); i += 2 {
		found = append(found, lines[i])
		if fix, ok := strings.CutPrefix(lines[i+1], "    fix: "); !ok || fix == "" {
			t.Errorf("%s has no fix but %q", lines[i], lines[i+1])
		}
		switch severity, _, _ := strings.Cut(lines[i], " "); severity {
		case "WARNING":
			wantCode = max(wantCode, exitWarnings)
		case "ERROR":
			wantCode = max(wantCode, exitErrors)
		}
	}
	for _, w := range want {
		if !slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, w) }) {
			t.Errorf("there is no finding %q", w)
		}
	}
	if len(found) != len(want) || code != wantCode {
		t.Errorf("%d findings and exit code %d; want %d and %d\n%s", len(found), code, len(want), wantCode, report)
	}
}

// Each check that the code names is in the README, and no other.
func TestReadmeListsTheChecks(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllSubmatch(text, -1) {
		listed[string(m[1])] = true
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, file := range files {
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`d\.find\([a-z.]+, "([a-z-]+)"`).FindAllSubmatch(code, -1) {
			named[string(m[1])] = true
		}
	}
	if fmt.Sprint(named) != fmt.Sprint(listed) {
		t.Errorf("the README lists %v\nwant %v", listed, named)
	}
}
