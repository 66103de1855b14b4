package compare

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// serve answers over UDP and TCP, from records in zone file form by name and type. UDP replies of more than three
// records are cut.
func serve(t *testing.T, records string, change func(*dns.Msg)) string {
	t.Helper()
	var rrs []dns.RR
	for line := range strings.Lines(strings.TrimSpace(records)) {
		rr, err := dns.NewRR(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		rrs = append(rrs, rr)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		m.Authoritative = true
		for _, rr := range rrs {
			if strings.EqualFold(rr.Header().Name, r.Question[0].Name) && rr.Header().Rrtype == r.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp && len(m.Answer) > 3 {
			m.Answer, m.Truncated = m.Answer[:1], true
		}
		if len(m.Answer) == 0 {
			m.Rcode = dns.RcodeNameError
		}
		if change != nil {
			change(m)
		}
		if err := w.WriteMsg(m); err != nil {
			t.Error(err)
		}
	})
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{Listener: tcp, Handler: handler}, {PacketConn: udp, Handler: handler}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		ended := make(chan error, 1)
		go func() { ended <- s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := s.Shutdown(); err != nil {
				t.Error(err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	return tcp.Addr().String()
}

const four = `
	four.example.org. 5 IN A 192.0.2.1
	four.example.org. 5 IN A 192.0.2.2
	four.example.org. 5 IN A 192.0.2.3
	four.example.org. 5 IN A 192.0.2.4
`

func TestCompare(t *testing.T) {
	for _, tc := range []struct {
		name          string
		flags         string
		first, second string
		change        func(*dns.Msg) // of the second server's replies
		list          string
		code          int
		want          []string
	}{
		{name: "the same in another order", list: "a.example.org A", code: exitSame,
			first:  "a.example.org. 5 IN A 192.0.2.1\na.example.org. 5 IN A 192.0.2.2",
			second: "A.example.org. 9 IN A 192.0.2.2\na.example.org. 9 IN A 192.0.2.1",
			want:   []string{"1 questions: 1 the same, 0 differ, 0 without any reply\n"}},
		{name: "TTL if asked for", flags: "-ttl", list: "a.example.org A", code: exitDiffer,
			first: "a.example.org. 5 IN A 192.0.2.1", second: "a.example.org. 9 IN A 192.0.2.1",
			want: []string{"a.example.org. A differs\n", "only: answer: a.example.org. 5 in a 192.0.2.1\n", "only: answer: a.example.org. 9 in a 192.0.2.1\n"}},
		{name: "a record more", list: "# names\n\na.example.org # A and AAAA\n", code: exitDiffer,
			first: "a.example.org. 5 IN A 192.0.2.1", second: "a.example.org. 5 IN A 192.0.2.1\na.example.org. 5 IN A 192.0.2.2",
			want: []string{"a.example.org. A differs\n", "only: answer: a.example.org. 0 in a 192.0.2.2\n", "2 questions: 1 the same, 1 differ"}},
		{name: "a code", list: "a.example.org SRV", code: exitDiffer, first: "b.example.org. 5 IN A 192.0.2.1", second: "b.example.org. 5 IN A 192.0.2.1",
			change: func(m *dns.Msg) { m.Rcode = dns.RcodeSuccess },
			want:   []string{"only: code and flags: NXDOMAIN aa\n", "only: code and flags: NOERROR aa\n"}},
		{name: "a flag", list: "a.example.org A", code: exitDiffer, first: "a.example.org. 5 IN A 192.0.2.1", second: "a.example.org. 5 IN A 192.0.2.1",
			change: func(m *dns.Msg) { m.Authoritative = false },
			want:   []string{"only: code and flags: NOERROR aa\n", "only: code and flags: NOERROR\n"}},
		{name: "cut over UDP and the same over TCP", list: "four.example.org A", code: exitSame, first: four, second: four,
			want: []string{"1 the same"}},
		{name: "cut over UDP and different over TCP", list: "four.example.org A", code: exitDiffer, first: four, second: strings.Replace(four, "192.0.2.4", "192.0.2.5", 1),
			want: []string{"only: answer: four.example.org. 0 in a 192.0.2.4\n", "only: answer: four.example.org. 0 in a 192.0.2.5\n"}},
		{name: "the additional section if asked for", flags: "-extra", list: "a.example.org A", code: exitDiffer, first: "a.example.org. 5 IN A 192.0.2.1", second: "a.example.org. 5 IN A 192.0.2.1",
			change: func(m *dns.Msg) { m.Extra = append(m.Extra, m.Answer...) },
			want:   []string{"only: additional: a.example.org."}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := append(strings.Fields(tc.flags), serve(t, tc.first, nil), serve(t, tc.second, tc.change))
			var stdout, stderr bytes.Buffer
			code := Run(args, strings.NewReader(tc.list), &stdout, &stderr)
			if code != tc.code {
				t.Errorf("exit code %d; want %d", code, tc.code)
			}
			for _, part := range tc.want {
				if !strings.Contains(stdout.String(), part) {
					t.Errorf("it prints\n%s; want in it %q", stdout.String(), part)
				}
			}
			if stderr.Len() > 0 {
				t.Errorf("it complains: %s", stderr.String())
			}
		})
	}
}

func TestBadInput(t *testing.T) {
	for _, tc := range []struct{ args, list, want string }{
		{"192.0.2.1", "", "1 servers given; want two"},
		{"192.0.2.1 dns.example.org", "", `server "dns.example.org": want ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT`},
		{"-types A,B 192.0.2.1 192.0.2.2", "", `-types: "B": want types of records, such as A or SRV`},
		{"-list /does/not/exist 192.0.2.1 192.0.2.2", "", "open /does/not/exist: no such file"},
		{"192.0.2.1 192.0.2.2", "# nothing\n", "-: no name in the list"},
		{"192.0.2.1 192.0.2.2", "a.example.org\na..example.org\n", `-: line 2: "a..example.org": want a domain name`},
		{"192.0.2.1 192.0.2.2", "a.example.org AXFR\n", `-: line 1: "AXFR": want types of records`},
	} {
		var stdout, stderr bytes.Buffer
		if code := Run(strings.Fields(tc.args), strings.NewReader(tc.list), &stdout, &stderr); code != exitTroubled {
			t.Errorf("%s: exit code %d; want %d", tc.args, code, exitTroubled)
		}
		if !strings.Contains(stderr.String(), tc.want) {
			t.Errorf("%s: it says %q; want %q", tc.args, stderr.String(), tc.want)
		}
	}
}

// Nobody listens on port 1: that is no difference, but no agreement either.
func TestNeitherAnswers(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := Run([]string{"-timeout", "100ms", "127.0.0.1:1", "127.0.0.1:1"}, strings.NewReader("a.example.org A"), &stdout, &stderr)
	if code != exitTroubled || !strings.Contains(stdout.String(), "1 without any reply") {
		t.Errorf("exit code %d, %s", code, stdout.String())
	}
	code = Run([]string{"-timeout", "100ms", "127.0.0.1:1", serve(t, "a.example.org. 5 IN A 192.0.2.1", nil)}, strings.NewReader("a.example.org A"), &stdout, &stderr)
	if code != exitDiffer || !strings.Contains(stdout.String(), "127.0.0.1:1 only: no reply: ") {
		t.Errorf("exit code %d, %s", code, stdout.String())
	}
}
