// Package compare is the subcommand compare of the server: it asks two servers the
// same questions and prints where their answers differ, as for a canary beside
// what it is to replace.
package compare

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Exit codes.
const (
	exitSame     = 0
	exitDiffer   = 1
	exitTroubled = 2 // it could not be told
)

const usage = `Usage: coredns compare [FLAG...] SERVER SERVER

Asks two servers, each an address with or without a port, for the names in a list
and prints where their answers differ. A line of the list is a name, and the types
to ask for unless they are those of -types; what follows a number sign is skipped.
Records are compared as sets, and so are the codes and flags of the replies. A
reply that is cut is asked for again over TCP. The exit code is 0 if all answers
are the same, 1 if some differ, and 2 if it cannot be told.

`

// options are those of the command line.
type options struct {
	list    string // file, "-" for the standard input
	types   []uint16
	servers [2]string // with ports
	timeout time.Duration
	view    view
}

// Run is the subcommand, with the arguments behind its name. It returns the exit
// code.
func Run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	o, err := parseFlags(args, stderr)
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(stderr, err)
		}
		return exitTroubled
	}
	if o.list != "-" {
		file, err := os.Open(o.list)
		if err != nil {
			fmt.Fprintln(stderr, err)
			return exitTroubled
		}
		defer file.Close()
		stdin = file
	}
	questions, err := read(stdin, o.types)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", o.list, err)
		return exitTroubled
	}
	return o.compare(questions, stdout)
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	var types string
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprint(stderr, usage)
		f.PrintDefaults()
	}
	f.StringVar(&o.list, "list", "-", "the names, `FILE`; - is the standard input")
	f.StringVar(&types, "types", "A,AAAA", "the `TYPES` to ask for where the list has none")
	f.DurationVar(&o.timeout, "timeout", 2*time.Second, "how long to wait for a reply")
	f.BoolFunc("ttl", "compare TTLs as well", func(string) error { o.view |= withTTL; return nil })
	f.BoolFunc("extra", "compare the additional section as well", func(string) error { o.view |= withExtra; return nil })
	if err := f.Parse(args); err != nil {
		return o, flag.ErrHelp // it has said what is wrong
	}
	var err error
	if o.types, err = parseTypes(strings.Split(types, ",")); err != nil {
		return o, fmt.Errorf("-types: %w", err)
	}
	if f.NArg() != len(o.servers) {
		return o, fmt.Errorf("%d servers given; want two, see coredns compare -h", f.NArg())
	}
	for i := range o.servers {
		if o.servers[i], err = withPort(f.Arg(i)); err != nil {
			return o, err
		}
	}
	return o, nil
}

// withPort adds port 53 to an address without a port.
func withPort(server string) (string, error) {
	if net.ParseIP(server) != nil {
		return net.JoinHostPort(server, "53"), nil
	}
	host, port, err := net.SplitHostPort(server)
	if err != nil || net.ParseIP(host) == nil || port == "" {
		return "", fmt.Errorf("server %q: want ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT", server)
	}
	return server, nil
}

func parseTypes(words []string) ([]uint16, error) {
	var types []uint16
	for _, word := range words {
		t, ok := dns.StringToType[strings.ToUpper(word)]
		if !ok || t == dns.TypeAXFR || t == dns.TypeIXFR {
			return nil, fmt.Errorf("%q: want types of records, such as A or SRV", word)
		}
		types = append(types, t)
	}
	return types, nil
}

// read reads the list.
func read(r io.Reader, types []uint16) ([]dns.Question, error) {
	var questions []dns.Question
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		name := dns.Fqdn(words[0])
		if _, ok := dns.IsDomainName(name); !ok {
			return nil, fmt.Errorf("line %d: %q: want a domain name", n, words[0])
		}
		asked := types
		if len(words) > 1 {
			var err error
			if asked, err = parseTypes(words[1:]); err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
		}
		for _, t := range asked {
			questions = append(questions, dns.Question{Name: name, Qtype: t, Qclass: dns.ClassINET})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(questions) == 0 {
		return nil, errors.New("no name in the list")
	}
	return questions, nil
}

// compare asks and reports. A server that does not answer at all is trouble, not
// a difference, unless the other does.
func (o options) compare(questions []dns.Question, stdout io.Writer) int {
	differ, silent := 0, 0
	for _, q := range questions {
		var texts [2][]string
		failed := 0
		for i, server := range o.servers {
			reply, err := o.ask(server, q)
			if err != nil {
				failed++
				texts[i] = []string{"no reply: " + err.Error()}
				continue
			}
			texts[i] = describe(reply, o.view)
		}
		switch {
		case failed == len(o.servers):
			silent++
			fmt.Fprintf(stdout, "%s %s: neither server answers\n", q.Name, dns.TypeToString[q.Qtype])
		case report(stdout, q, o.servers, texts):
			differ++
		}
	}
	fmt.Fprintf(stdout, "%d questions: %d the same, %d differ, %d without any reply\n", len(questions), len(questions)-differ-silent, differ, silent)
	switch {
	case differ > 0:
		return exitDiffer
	case silent > 0:
		return exitTroubled
	}
	return exitSame
}

// payload is what a resolver in a pod announces.
const payload = 1232

// ask sends a query over UDP, and again over TCP if the reply is cut.
func (o options) ask(server string, q dns.Question) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.Id, m.RecursionDesired, m.Question = dns.Id(), true, []dns.Question{q}
	m.SetEdns0(payload, false)
	var reply *dns.Msg
	var err error
	for _, network := range []string{"udp", "tcp"} {
		client := dns.Client{Net: network, Timeout: o.timeout}
		if reply, _, err = client.Exchange(m, server); err != nil || !reply.Truncated {
			break
		}
	}
	return reply, err
}
