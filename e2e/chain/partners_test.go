package chain

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/e2e/harness"
)

// shownWithin is how soon a changed file must show in the answers.
const shownWithin = 2 * time.Second

func TestAutopathWithVerifiedPods(t *testing.T) {
	t.Parallel()
	s := serve(t, block("\tautopath @kubernetes", "pods verified"))
	for _, test := range []struct{ name, source, question, want string }{
		{"an outside name from a pod", "127.0.1.1", "www.example.org.prod.svc.cluster.local. A", "A 198.51.100.80, CNAME www.example.org."},
		{"from a pod of another namespace", "127.0.1.2", "www.example.org.dev.svc.cluster.local. A", "A 198.51.100.80, CNAME www.example.org."},
		{"a service of the pod's namespace", "127.0.1.1", "web.prod.svc.cluster.local. A", "A 10.96.0.10"},
		{"a service of another namespace", "127.0.1.2", "web.prod.dev.svc.cluster.local. A", "A 10.96.0.10, CNAME web.prod.svc.cluster.local."},
		{"the namespace of another pod", "127.0.1.2", "www.example.org.prod.svc.cluster.local. A", "NXDOMAIN"},
		{"a stranger", "127.0.1.9", "www.example.org.prod.svc.cluster.local. A", "NXDOMAIN"},
		{"nothing anywhere", "127.0.1.1", "nothing.example.org.prod.svc.cluster.local. A", "NXDOMAIN"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := askFrom(t, s, test.source, test.question); got != test.want {
				t.Errorf("%s: %s; want %s", test.question, got, test.want)
			}
		})
	}
}

// A cache holds what is outside; our zones stay fresh, and say why a name does not exist.
func TestCache(t *testing.T) {
	t.Parallel()
	for name, cache := range map[string]string{
		"success, then denial": "cache {\n success 9984 30\n denial 9984 30\n}",
		"denial, then success": "cache {\n denial 9984 30\n success 9984 30\n}",
		"disabled for us":      "cache 30 {\n disable success cluster.local\n disable denial cluster.local\n}",
		"plain":                "cache 30",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstream, address := harness.ServeUpstream(t, "www.example.com. 60 IN A 198.51.100.1")
			path := filepath.Join(t.TempDir(), "cluster.yaml")
			text, err := os.ReadFile("testdata/cluster.yaml")
			if err != nil {
				t.Fatal(err)
			}
			harness.WriteFile(t, path, string(text))
			corefile := strings.ReplaceAll(block(cache+"\nforward example.com {$UPSTREAM}", ""), "{$DATA}/cluster.yaml", path)
			s := serve(t, corefile, "UPSTREAM="+address)
			for range 3 {
				s.Expect(t, "www.example.com. A", "A 198.51.100.1")
				s.Expect(t, "web.prod.svc.cluster.local. A", "A 10.96.0.10")
				s.Expect(t, "web.prod.svc.cluster.local. AAAA", "NODATA")
				s.Expect(t, "later.prod.svc.cluster.local. A", "NXDOMAIN")
				explained(t, s, "later.prod.svc.cluster.local. A")
			}
			for _, name := range []string{"10.0.96.10.in-addr.arpa.", "10.0.96.10.IN-addr.ARPA."} { // the cache holds the first
				reply, err := s.Try(t, harness.Question{Text: name + " PTR"})
				if err != nil {
					t.Fatal(err)
				}
				if len(reply.Answer) != 1 || reply.Answer[0].Header().Name != name {
					t.Errorf("%s PTR: %v; want the name as it was asked for", name, reply.Answer)
				}
			}
			if asked := upstream.Asked("www.example.com. A"); asked != 1 {
				t.Errorf("the upstream was asked %d times; want 1", asked)
			}
			later := "---\napiVersion: v1\nkind: Service\nmetadata: {name: later, namespace: prod}\nspec: {clusterIP: 10.96.0.77, ports: [{port: 80}]}\n"
			harness.WriteFile(t, path, strings.ReplaceAll(string(text), "10.96.0.10", "10.96.0.99")+later)
			s.ExpectWithin(t, shownWithin, "later.prod.svc.cluster.local. A", "A 10.96.0.77")
			s.ExpectWithin(t, shownWithin, "web.prod.svc.cluster.local. A", "A 10.96.0.99")
		})
	}
}

// explained checks that a negative answer says why.
func explained(t *testing.T, s *harness.Server, question string) {
	t.Helper()
	reply, err := s.Try(t, harness.Question{Text: question, UDPSize: 1232})
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range reply.IsEdns0().Option {
		if ede, ok := option.(*dns.EDNS0_EDE); ok && ede.ExtraText != "" {
			return
		}
	}
	t.Errorf("%s: no Extended DNS Error in %v", question, reply)
}

func TestLoadbalance(t *testing.T) {
	t.Parallel()
	s := serve(t, block("\tloadbalance round_robin", ""))
	first := make(map[string]int)
	for range 60 {
		reply := s.Ask(t, "db.prod.svc.cluster.local. A")
		if got := harness.Text(reply); got != harness.Records("A", "10.244.1.10", "10.244.1.11", "10.244.1.12") {
			t.Fatal(got)
		}
		first[reply.Answer[0].(*dns.A).A.String()]++
	}
	if len(first) != 3 {
		t.Errorf("first addresses %v; want each of three now and then", first)
	}
}

func TestRewrite(t *testing.T) {
	t.Parallel()
	s := serve(t, block(`	rewrite stop {
		name suffix .my.test .prod.svc.cluster.local answer auto
	}
	rewrite stop {
		name exact one.test web.prod.svc.cluster.local
	}
	rewrite stop {
		name regex ^(.*)\.values\.test\.$ {1}.prod.svc.cluster.local
		answer name ^(.*)\.prod\.svc\.cluster\.local\.$ {1}.values.test
		answer value ^(.*)\.prod\.svc\.cluster\.local\.$ {1}.values.test
	}`, ""))
	for _, test := range []struct{ name, question, want string }{
		{"suffix", "web.my.test. A", "A 10.96.0.10"},
		{"suffix, headless", "db-0.db.my.test. A", "A 10.244.1.10"},
		{"suffix, none of the type", "web.my.test. AAAA", "NODATA"},
		{"suffix, nothing", "nothing.my.test. A", "NXDOMAIN"},
		{"mixed case", "WEB.my.TEST. A", "A 10.96.0.10"},
		{"exact", "one.test. A", "A 10.96.0.10"},
		{"answer values", "_http._tcp.web.values.test. SRV", "SRV 80 web.values.test."},
		{"alias", "inside.my.test. A", "A 10.96.0.10, CNAME web.my.test."},
	} {
		t.Run(test.name, func(t *testing.T) {
			reply := s.Ask(t, test.question)
			if got := harness.Text(reply); got != test.want {
				t.Fatalf("%s: %s; want %s", test.question, got, test.want)
			}
			name, _, _ := strings.Cut(test.question, " ")
			if len(reply.Answer) > 0 && !strings.EqualFold(reply.Answer[0].Header().Name, name) {
				t.Errorf("%s: the owner of the answer is %s", test.question, reply.Answer[0].Header().Name)
			}
		})
	}
}

func TestACL(t *testing.T) {
	t.Parallel()
	s := serve(t, block(`	acl cluster.local {
		block net 127.0.1.2/32
		filter net 127.0.1.3/32
	}`, ""))
	for source, want := range map[string]string{"127.0.1.1": "A 10.96.0.10", "127.0.1.2": "REFUSED", "127.0.1.3": "NODATA"} {
		if got := askFrom(t, s, source, "web.prod.svc.cluster.local. A"); got != want {
			t.Errorf("from %s: %s; want %s", source, got, want)
		}
	}
	if got := askFrom(t, s, "127.0.1.2", harness.Reverse("10.96.0.10")+" PTR"); got != "PTR web.prod.svc.cluster.local." {
		t.Errorf("outside of the list's zone: %s", got)
	}
}

// The namespace of the pod that asks chooses the server block, and is there for templates.
func TestViewAndMetadataByClientNamespace(t *testing.T) {
	t.Parallel()
	const who = `	template IN TXT who.test {
		answer "{{ .Name }} 60 IN TXT \"%s {{ .Meta \"kubernetes/client-namespace\" }}/{{ .Meta \"kubernetes/client-pod-name\" }}\""
	}
`
	view := strings.Replace(block("\tmetadata\n"+fmt.Sprintf(who, "first"), "pods verified"), ".:{$DNS} {",
		".:{$DNS} {\n\tview prod {\n\t\texpr metadata('kubernetes/client-namespace') == 'prod'\n\t}", 1)
	rest := block("\tmetadata\n"+fmt.Sprintf(who, "second"), "pods verified\n\t\tnamespaces dev")
	rest = strings.Replace(rest, "\tready :{$READY}\n\tprometheus :{$METRICS}\n", "", 1)
	s := serve(t, view+rest)
	for _, test := range []struct{ name, source, question, want string }{
		{"a pod of prod", "127.0.1.1", "who.test. TXT", `TXT "first prod/client"`},
		{"a pod of dev", "127.0.1.2", "who.test. TXT", `TXT "second dev/client"`},
		{"a stranger", "127.0.1.9", "who.test. TXT", `TXT "second /"`},
		{"prod sees prod", "127.0.1.1", "web.prod.svc.cluster.local. A", "A 10.96.0.10"},
		{"dev does not", "127.0.1.2", "web.prod.svc.cluster.local. A", "NXDOMAIN"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := askFrom(t, s, test.source, test.question); got != test.want {
				t.Errorf("%s: %s; want %s", test.question, got, test.want)
			}
		})
	}
}

func TestDNS64(t *testing.T) {
	t.Parallel()
	s := serve(t, block("\tdns64 {\n\t\tprefix 64:ff9b::/96\n\t\tallow_ipv4\n\t}", ""))
	for question, want := range map[string]string{
		"web.prod.svc.cluster.local. AAAA":     "AAAA 64:ff9b::a60:a",
		"dual.prod.svc.cluster.local. AAAA":    "AAAA fd00:10:96::11",
		"web.prod.svc.cluster.local. A":        "A 10.96.0.10",
		"db.prod.svc.cluster.local. AAAA":      harness.Records("AAAA", "64:ff9b::af4:10a", "64:ff9b::af4:10b", "64:ff9b::af4:10c"),
		"inside.prod.svc.cluster.local. AAAA":  "AAAA 64:ff9b::a60:a, CNAME web.prod.svc.cluster.local.",
		"nothing.prod.svc.cluster.local. AAAA": "NXDOMAIN",
		"prod.svc.cluster.local. AAAA":         "NODATA",
	} {
		reply, err := s.Exchange(harness.Question{Text: question}.Message(t), "udp") // dns64 clears AA in what it makes
		if err != nil {
			t.Fatalf("%s: %v", question, err)
		}
		if got := harness.Text(reply); got != want {
			t.Errorf("%s: %s; want %s", question, got, want)
		}
	}
}

// What stands before us in the chain has the first word.
func TestTemplateAndHostsBefore(t *testing.T) {
	t.Parallel()
	s := serve(t, block(`	template IN A cluster.local {
		match ^special\.prod\.svc\.cluster\.local\.$
		answer "{{ .Name }} 60 IN A 192.0.2.6"
		fallthrough
	}
	hosts {
		192.0.2.7 pinned.prod.svc.cluster.local
		fallthrough
	}`, ""))
	for question, want := range map[string]string{
		"special.prod.svc.cluster.local. A": "A 192.0.2.6",
		"pinned.prod.svc.cluster.local. A":  "A 192.0.2.7",
		"web.prod.svc.cluster.local. A":     "A 10.96.0.10",
		"nothing.prod.svc.cluster.local. A": "NXDOMAIN",
		"outside.prod.svc.cluster.local. A": "A 198.51.100.80, CNAME www.example.org.",
	} {
		reply := s.Ask(t, question)
		if got := harness.Text(reply); got != want {
			t.Errorf("%s: %s; want %s", question, got, want)
		}
	}
}

// What does not exist goes on to the next server; what exists never does.
func TestForwardAfterFallthrough(t *testing.T) {
	t.Parallel()
	upstream, address := harness.ServeUpstream(t, "elsewhere.prod.svc.cluster.local. 60 IN A 198.51.100.1", "1.0.96.10.in-addr.arpa. 60 IN PTR elsewhere.test.")
	s := serve(t, block("\tforward . {$UPSTREAM}", "fallthrough cluster.local in-addr.arpa"), "UPSTREAM="+address)
	for _, test := range []struct {
		question, want string
		asked          int
	}{
		{"elsewhere.prod.svc.cluster.local. A", "A 198.51.100.1", 1},
		{"nothing.prod.svc.cluster.local. A", "NXDOMAIN", 1},
		{"web.prod.svc.cluster.local. A", "A 10.96.0.10", 0},
		{"web.prod.svc.cluster.local. AAAA", "NODATA", 0},
		{"prod.svc.cluster.local. A", "NODATA", 0},
		{harness.Reverse("10.96.0.1") + " PTR", "PTR elsewhere.test.", 1},
		{harness.Reverse("10.96.0.10") + " PTR", "PTR web.prod.svc.cluster.local.", 0},
		{"0.96.10.in-addr.arpa. PTR", "NXDOMAIN", 1},
		{harness.Reverse("fd00::1") + " PTR", "NXDOMAIN", 0}, // ip6.arpa does not fall through
	} {
		m := harness.Question{Text: test.question}.Message(t)
		reply, err := s.Exchange(m, "udp")
		if err != nil {
			t.Fatalf("%s: %v", test.question, err)
		}
		if got := harness.Text(reply); got != test.want {
			t.Errorf("%s: %s; want %s", test.question, got, test.want)
		}
		if asked := upstream.Asked(test.question); asked != test.asked {
			t.Errorf("%s was forwarded %d times; want %d", test.question, asked, test.asked)
		}
	}
}

func TestMinimal(t *testing.T) {
	t.Parallel()
	s := serve(t, block("\tminimal", ""))
	reply := s.Ask(t, "_http._tcp.web.prod.svc.cluster.local. SRV")
	if got := harness.Text(reply); got != "SRV 80 web.prod.svc.cluster.local." || len(reply.Extra) != 0 {
		t.Errorf("%s with %v", got, reply.Extra)
	}
	s.Expect(t, "web.prod.svc.cluster.local. A", "A 10.96.0.10")
	s.Expect(t, "web.prod.svc.cluster.local. AAAA", "NODATA")
	s.Expect(t, "nothing.prod.svc.cluster.local. A", "NXDOMAIN")
}
