package udpbatch

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/coredns/caddy"
)

const (
	directive = "udpbatch"

	maxSockets = 256     // a group has one program that names each of them
	maxBatch   = 1024    // the kernel's own limit on messages in a call (UIO_MAXIOV)
	maxWorkers = 1 << 20 // beyond it, memory ends first

	defaultBatch   = 64   // twice as many save no more than a hundredth of a query's cost
	defaultWorkers = 2048 // queries waiting for an answer from upstream: at 25 KiB each, 50 MiB
	defaultQueue   = 1024 // half a second of what 2048 workers get done if each takes a second

	defaultConnections = 2048 // at some 10 KiB each, and 35 KiB if they have asked just now
	clientShare        = 4    // by default, of the connections a client may have one part in so many
)

// A config is one directive of a Corefile with its block, checked. The zero
// value is of no use; parse makes one.
type config struct {
	sockets int // per address
	batch   int // messages read or written by one system call
	workers int // handlers at a time that wait for something, per address
	queue   int // queries that wait for a worker, per address

	connections int // by TCP, per address; 0 leaves TCP to CoreDNS
	perClient   int // of these, of one client
}

// parse reads the directive that c stands at, with its block. It starts
// nothing. An error names the file, the line, the text that is wrong and what
// is accepted.
func parse(c *caddy.Controller) (config, place, error) {
	p := parser{Controller: c, given: make(map[string]place)}
	p.cfg = config{
		sockets: min(runtime.GOMAXPROCS(0), maxSockets),
		batch:   defaultBatch,
		workers: defaultWorkers,
		queue:   defaultQueue,

		connections: min(defaultConnections, descriptors()/2), // the other half is for sockets to upstreams
	}
	c.Next()
	start := p.place()
	if err := p.directive(start); err != nil {
		return config{}, place{}, err
	}
	if _, ok := p.given["per_client"]; !ok {
		p.cfg.perClient = (p.cfg.connections + clientShare - 1) / clientShare
	}
	if c.Next() {
		if c.Val() == directive {
			return config{}, place{}, p.place().errorf("%s: given twice in this server block, first at %s", directive, start)
		}
		return config{}, place{}, p.place().errorf("unexpected %q after %s", c.Val(), directive)
	}
	return p.cfg, start, nil
}

// A parser holds the state of one call of parse.
type parser struct {
	*caddy.Controller
	cfg   config
	given map[string]place // options seen so far
}

// An option is a property of the block, with one whole number.
type option struct {
	name      string
	low, high int
	field     func(*config) *int
}

// options are all properties, in the order of README.md.
var options = []option{
	{"batch", 1, maxBatch, func(c *config) *int { return &c.batch }},
	{"workers", 1, maxWorkers, func(c *config) *int { return &c.workers }},
	{"queue", 0, maxWorkers, func(c *config) *int { return &c.queue }},
	{"connections", 0, maxWorkers, func(c *config) *int { return &c.connections }},
	{"per_client", 1, maxWorkers, func(c *config) *int { return &c.perClient }},
}

// directive reads the argument and the block.
func (p *parser) directive(start place) error {
	args := p.RemainingArgs()
	if len(args) > 1 {
		return start.errorf("%s: surplus argument %q; want %q", directive, args[1], directive+" [SOCKETS]")
	}
	if len(args) == 1 {
		n, err := wholeNumber(args[0], 1, maxSockets)
		if err != nil {
			return start.errorf("%s %w", directive, err)
		}
		p.cfg.sockets = n
	}
	for p.NextBlock() {
		if err := p.option(); err != nil {
			return err
		}
	}
	return nil
}

// option reads one property of the block.
func (p *parser) option() error {
	at, name := p.place(), p.Val()
	i := slices.IndexFunc(options, func(o option) bool { return o.name == name })
	if i < 0 {
		return at.errorf("%w", unknown(name))
	}
	o := options[i]
	synopsis := name + " N"
	if first, ok := p.given[name]; ok {
		return at.errorf("%s: given twice, first at %s; want it once, as %q", name, first, synopsis)
	}
	p.given[name] = at

	args := p.RemainingArgs()
	if p.NextArg() { // RemainingArgs stops before a brace only
		return at.errorf("%s: unexpected %q; want %q and no block", name, p.Val(), synopsis)
	}
	switch len(args) {
	case 0:
		return at.errorf("%s: missing argument after %q; want %q", name, name, synopsis)
	case 1:
	default:
		return at.errorf("%s: surplus argument %q; want %q", name, args[1], synopsis)
	}
	n, err := wholeNumber(args[0], o.low, o.high)
	if err != nil {
		return at.errorf("%s %w", name, err)
	}
	*o.field(&p.cfg) = n
	return nil
}

// wholeNumber reads a whole number from low to high.
func wholeNumber(text string, low, high int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%q: want a whole number from %d to %d", text, low, high)
	}
	return n, nil
}

// unknown says which options there are.
func unknown(name string) error {
	names := make([]string, 0, len(options))
	for _, o := range options {
		names = append(names, o.name)
	}
	slices.Sort(names)
	return errors.New(fmt.Sprintf("unknown option %q; want one of ", name) + strings.Join(names, ", "))
}

// A place is where a word stands in a Corefile or in a file it imports.
type place struct {
	file string
	line int
}

func (p *parser) place() place { return place{p.File(), p.Line()} }

func (at place) String() string { return fmt.Sprintf("%s:%d", at.file, at.line) }

// errorf is caddy's Errf for an earlier place than the current word, and %w.
func (at place) errorf(format string, args ...any) error {
	return fmt.Errorf("%s - Error during parsing: %w", at, fmt.Errorf(format, args...))
}
