//go:build linux

package udpbatch

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

func TestWhatDoesNotGoTogether(t *testing.T) {
	for _, tc := range []struct {
		name     string
		corefile string
		err      string // "" for none
	}{
		{"shed", ".:P {\nshed\nudpbatch\nanswer\n}",
			"Corefile:3 - Error during parsing: udpbatch: not together with shed at Corefile:2, since udpbatch bounds the queries at work itself"},
		{"multisocket", ".:P {\nudpbatch\nmultisocket 2\nanswer\n}",
			"Corefile:2 - Error during parsing: udpbatch: not together with multisocket at Corefile:3, since udpbatch opens as many sockets as it is told to"},
		{"proxyproto", ".:P {\nudpbatch\nproxyproto\nanswer\n}",
			"Corefile:2 - Error during parsing: udpbatch: not together with proxyproto at Corefile:3, since the sockets of udpbatch do not read PROXY protocol headers"},
		{"no plain DNS", "tls://.:P {\nudpbatch\nanswer\n}",
			`Corefile:2 - Error during parsing: udpbatch: server block ["tls://.:P"] has no plain DNS, and so no UDP socket to serve; want at least one address without a scheme or with dns://`},
		{"no plain DNS but DoH", "https://.:P {\nudpbatch\nanswer\n}",
			`Corefile:2 - Error during parsing: udpbatch: server block ["https://.:P"] has no plain DNS, and so no UDP socket to serve; want at least one address without a scheme or with dns://`},
		{"plain DNS, DoT and DoH", ".:P tls://.:0 https://.:0 {\nudpbatch\nanswer\n}", ""},
		{"port 0", ".:0 {\nudpbatch\nanswer\n}",
			"Corefile:2 - Error during parsing: udpbatch: dns://:0: want a port; 0 is another one for each socket"},

		{"two blocks that agree", "a.example.:P {\nudpbatch 2\nanswer\n}\nb.example.:P {\nudpbatch 2\nanswer\n}", ""},
		{"two blocks, one without", "a.example.:P {\nudpbatch 2\nanswer\n}\nb.example.:P {\nanswer\n}", ""},
		{"two blocks that disagree", "a.example.:P {\nudpbatch 2\nanswer\n}\nb.example.:P {\nudpbatch 3\nanswer\n}",
			"Corefile:2 - Error during parsing: udpbatch: dns://:P is also served as Corefile:6 says, with other options; want the same for one address"},
		{"two blocks that disagree, on two addresses", "a.example.:P {\nbind 127.0.0.1\nudpbatch 2\nanswer\n}\nb.example.:P {\nbind 127.0.0.2\nudpbatch 3\nanswer\n}", ""},
		{"shed in a block of the same listener", "a.example.:P {\nudpbatch\nanswer\n}\nb.example.:P {\nshed\nanswer\n}",
			"Corefile:2 - Error during parsing: udpbatch: dns://:P is also served with shed at Corefile:6, and udpbatch bounds the queries at work itself"},
		{"shed on another address", "a.example.:P {\nbind 127.0.0.1\nudpbatch\nanswer\n}\nb.example.:P {\nbind 127.0.0.2\nshed\nanswer\n}", ""},
		{"multisocket in a block of the same listener", "a.example.:P {\nbind 127.0.0.1\nudpbatch\nanswer\n}\nb.example.:P {\nbind 127.0.0.2 127.0.0.1\nmultisocket\nanswer\n}",
			"Corefile:3 - Error during parsing: udpbatch: dns://127.0.0.1:P is also served with multisocket at Corefile:8, and udpbatch opens as many sockets as it is told to"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			port := fmt.Sprint(freePort(t))
			i, err := caddy.Start(input(strings.ReplaceAll(tc.corefile, ":P", ":"+port)))
			if tc.err != "" {
				want := strings.ReplaceAll(tc.err, ":P", ":"+port)
				if err == nil || err.Error() != "plugin/udpbatch: "+want {
					t.Errorf("error %v; want plugin/udpbatch: %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			stop(t, i)
		})
	}
}

// A reload that fails leaves the server as it was.
func TestFailedReload(t *testing.T) {
	port := freePort(t)
	server := fmt.Sprintf("127.0.0.1:%d", port)
	i := start(t, fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch\nanswer\n}", port))
	e := listenerOf(t, server)
	for _, corefile := range []string{
		fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch\nudpbatch\n}", port),
		fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch\nanswer\n}\n.:%d {\nbind 192.0.2.99\nudpbatch\nanswer\n}", port, port), // not our address
	} {
		begun(t)
		if _, err := i.Restart(input(corefile)); err == nil {
			t.Fatalf("%s\nis served; want an error", corefile)
		}
		ask(t, server, "plain.example.org. TXT")
	}
	if listenerOf(t, server) != e {
		t.Error("the listener is another one; want the one from before")
	}
	stop(t, i)
	process.mu.Lock()
	defer process.mu.Unlock()
	if len(process.listeners) > 0 {
		t.Errorf("%d listeners are left; want none", len(process.listeners))
	}
}

// Somebody else has a socket in the group, in front of ours.
func TestSteersPastOtherSockets(t *testing.T) {
	port := freePort(t)
	server := fmt.Sprintf("127.0.0.1:%d", port)
	var others []*lane
	for range 3 {
		l := new(lane)
		if err := openSocket(l, server); err != nil {
			t.Fatal(err)
		}
		others = append(others, l)
	}
	i := start(t, fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch 2\nanswer\n}", port))
	e := listenerOf(t, server)
	for range 30 {
		ask(t, server, "plain.example.org. TXT")
	}
	// The kernel moves the last sockets to the places of these.
	for _, l := range others {
		_ = l.conn.Close()
	}
	e.group.Lock()
	err := e.aim()
	e.group.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	before := metric(t, "packets_total", e.address, "ordinary")
	for n := range 4 {
		i = reload(t, i, fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch %d\nanswer\n}", port, []int{5, 1, 3, 2}[n]))
		eventually(t, "the sockets of the reload", func() bool { return len(e.open()) == []int{5, 1, 3, 2}[n] && e.ready() })
		for range 30 {
			ask(t, server, "plain.example.org. TXT")
		}
	}
	if n := metric(t, "packets_total", e.address, "ordinary") - before; n > 30 {
		t.Errorf("%v of 120 queries were served the ordinary way; want few, while sockets come and go", n)
	}
	stop(t, i)
}

func TestAllowedOpcodesAreFound(t *testing.T) {
	port := freePort(t)
	start(t, fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch\nanswer update\n}", port))
	e := listenerOf(t, fmt.Sprintf("127.0.0.1:%d", port))
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.current.opcodes[dns.OpcodeUpdate] || len(e.current.opcodes) != 1 {
		t.Errorf("opcodes %v; want UPDATE alone: CoreDNS may have renamed what allowedOpcodes reads", e.current.opcodes)
	}
}

// Every metric is in the README, and every metric in the README is there.
func TestReadmeListsTheMetrics(t *testing.T) {
	port := freePort(t)
	start(t, fmt.Sprintf(".:%d {\nbind 127.0.0.1\nudpbatch\nanswer\n}", port))
	listenerOf(t, fmt.Sprintf("127.0.0.1:%d", port))
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var exported, listed []string
	for _, family := range families {
		if strings.HasPrefix(family.GetName(), "coredns_udpbatch_") {
			exported = append(exported, family.GetName())
		}
	}
	for _, name := range regexp.MustCompile("(?m)^\\* `(coredns_udpbatch_[a-z_]+)").FindAllStringSubmatch(readme(t), -1) {
		listed = append(listed, name[1])
	}
	slices.Sort(listed)
	if !slices.Equal(listed, exported) {
		t.Errorf("the README lists\n%q; exported are\n%q", listed, exported)
	}
}

// The Corefiles in the README are served.
func TestReadmeCorefiles(t *testing.T) {
	blocks := regexp.MustCompile("(?s)~~~ corefile\n(.*?)~~~").FindAllStringSubmatch(readme(t), -1)
	if len(blocks) == 0 {
		t.Fatal("the README has no Corefile")
	}
	for _, block := range blocks {
		text := regexp.MustCompile(`:\d+ \{`).ReplaceAllString(block[1], fmt.Sprintf(":%d {", freePort(t)))
		for _, foreign := range []string{"kubezone", "forward", "cache", "errors"} { // which this package does not link
			text = regexp.MustCompile(`(?m)^ *`+foreign+` .*$|^ *`+foreign+`$`).ReplaceAllString(text, "answer")
		}
		i, err := caddy.Start(input(text))
		if err != nil {
			t.Errorf("%v\n%s", err, text)
			continue
		}
		stop(t, i)
	}
}

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
