package faults

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/e2e/harness"
)

// A side is one of the servers that are compared.
type side struct {
	name   string
	proxy  *proxy
	server *harness.Server
	client *client
	pages  *pages

	kubeconfig string

	flooded tally // what was asked beside what the client asks
	sum     tally
}

// ours is the side that the rules are for.
func (g *rig) ours() *side { return g.sides[0] }

// reload gives the server a Corefile, and has it read.
func (s *side) reload(t testing.TB, text string) {
	t.Helper()
	s.server.WriteCorefile(t, text)
	s.server.Reload()
}

// awaitMetric waits for a line of the server's metrics.
func (s *side) awaitMetric(t testing.TB, line string, within time.Duration) {
	t.Helper()
	harness.Eventually(t, within, func() error {
		_, body, err := s.server.Get(s.server.Metrics + "/metrics")
		if err == nil && !strings.Contains(body, "\n"+line+"\n") {
			err = fmt.Errorf("no %s in the metrics", line)
		}
		return err
	})
}

// logs waits a moment for a text in the log.
func (s *side) logs(t testing.TB, text string) {
	t.Helper()
	harness.Eventually(t, 10*time.Second, func() error { return s.hasLogged(text) })
}

func (s *side) hasLogged(text string) error {
	if !strings.Contains(s.server.Log(), text) {
		return fmt.Errorf("no %q in the log", text)
	}
	return nil
}

// lists is how many full lists there were after the first, of all kinds.
func (s *side) lists(t testing.TB) float64 {
	t.Helper()
	var sum float64
	for _, kind := range kinds {
		sum += metric(t, s.server, fmt.Sprintf("coredns_kubezone_relists_total{kind=%q}", kind))
	}
	return sum
}

// expectEDE asks, and wants this answer with this Extended DNS Error.
func (s *side) expectEDE(t testing.TB, question, want string, code uint16) {
	t.Helper()
	reply, err := s.server.Try(t, harness.Question{Text: question, UDPSize: 1232})
	if err != nil {
		t.Fatal(err)
	}
	if got := harness.Text(reply); got != want || !hasEDE(reply, code) {
		t.Errorf("%s: %s with EDE %d %t; want %s with it", question, got, code, hasEDE(reply, code), want)
	}
}

func hasEDE(reply *dns.Msg, codes ...uint16) bool {
	opt := reply.IsEdns0()
	if opt == nil {
		return false
	}
	for _, option := range opt.Option {
		if e, ok := option.(*dns.EDNS0_EDE); ok {
			for _, code := range codes {
				if e.InfoCode == code {
					return true
				}
			}
		}
	}
	return false
}

// metric is the value of one that the server has, 0 if it has none.
func metric(t testing.TB, s *harness.Server, name string) float64 {
	t.Helper()
	return metrics(t, s)[name]
}

// metrics are all that have one value.
func metrics(t testing.TB, s *harness.Server) map[string]float64 {
	t.Helper()
	var body string
	harness.Eventually(t, 30*time.Second, func() (err error) { // a machine may be too busy for a moment
		_, body, err = s.Get(s.Metrics + "/metrics")
		return err
	})
	values := make(map[string]float64)
	for lines := bufio.NewScanner(strings.NewReader(body)); lines.Scan(); {
		line := lines.Text()
		if at := strings.LastIndexByte(line, ' '); at > 0 {
			if value, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
				values[line[:at]] = value
			}
		}
	}
	return values
}
