package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// patience is how long a test waits for what has no limit of its own: long, for a machine that does other things too.
const patience = 20 * time.Second

// serverKey is the line that opens a server block: its zone, and the port.
var serverKey = regexp.MustCompile(`(?m)^(\S+):([0-9]+) \{$`)

// server is the binary at work on one Corefile. It is killed when its test ends.
type server struct {
	address string // host:port of its DNS
	output  output
	ended   chan struct{} // closed once the process has ended
}

// start runs the binary on a Corefile whose first server block names one port, on the loopback interface. It does not
// wait for the server to answer.
func start(t *testing.T, corefile string, environment ...string) *server {
	t.Helper()
	return startBinary(t, binary, corefile, environment...)
}

// startBinary is start for another CoreDNS.
func startBinary(t *testing.T, binary, corefile string, environment ...string) *server {
	t.Helper()
	text, err := os.ReadFile(corefile)
	if err != nil {
		t.Fatal(err)
	}
	key := serverKey.FindSubmatch(text)
	if key == nil {
		t.Fatalf("%s: no server block with a port", corefile)
	}
	s := &server{address: net.JoinHostPort("127.0.0.1", string(key[2])), ended: make(chan struct{})}
	command := exec.Command(binary, "-conf", corefile)
	command.Dir = top
	command.Env = append(os.Environ(), environment...)
	command.Stdout = &s.output
	command.Stderr = &s.output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = command.Wait()
		close(s.ended)
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-s.ended
		if t.Failed() {
			t.Logf("the server's output:\n%s", s.output.String())
		}
	})
	return s
}

// wants checks the answer to a question such as "www.example.org. A": the rdata of the answer's records in any order,
// or an rcode, or NODATA. It asks again until the answer is right or patience ends.
func (s *server) wants(t *testing.T, question string, want ...string) {
	t.Helper()
	s.wantsWithin(t, patience, question, want...)
}

// wantsWithin is wants with a limit.
func (s *server) wantsWithin(t *testing.T, limit time.Duration, question string, want ...string) {
	t.Helper()
	slices.Sort(want)
	var got []string
	if !s.until(t, limit, func() bool { got = s.ask(question); return slices.Equal(got, want) }) {
		t.Errorf("%s: got %q for %v; want %q", question, got, limit, want)
	}
}

// logs waits until the server's output holds a text.
func (s *server) logs(t *testing.T, want string) {
	t.Helper()
	if !s.until(t, patience, func() bool { return strings.Contains(s.output.String(), want) }) {
		t.Errorf("the server does not say %q", want)
	}
}

// until tries until a condition is true and reports whether it came to be so within limit. It ends the test if the
// server ends.
func (s *server) until(t *testing.T, limit time.Duration, condition func() bool) bool {
	t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		if condition() {
			return true
		}
		select {
		case <-s.ended:
			t.Fatal("the server has ended")
		case <-time.After(20 * time.Millisecond):
		}
	}
	return false
}

// ask returns what wants compares.
func (s *server) ask(question string) []string {
	name, qtype, _ := strings.Cut(question, " ")
	query := new(dns.Msg)
	query.SetQuestion(name, dns.StringToType[qtype])
	reply, err := dns.Exchange(query, s.address)
	if err != nil {
		return []string{err.Error()}
	}
	if reply.Rcode != dns.RcodeSuccess {
		return []string{dns.RcodeToString[reply.Rcode]}
	}
	if len(reply.Answer) == 0 {
		return []string{"NODATA"}
	}
	rdata := make([]string, 0, len(reply.Answer))
	for _, rr := range reply.Answer {
		rdata = append(rdata, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(rdata)
	return rdata
}

// output is what a process has written so far.
type output struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// freePort returns a port of 127.0.0.1 that is free for UDP and for TCP at the time of the call.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := udp.LocalAddr().(*net.UDPAddr).Port
		tcp, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		_ = udp.Close()
		if err != nil {
			continue // somebody else has it for TCP
		}
		_ = tcp.Close()
		return port
	}
	t.Fatal("no port is free for both UDP and TCP")
	return 0
}
