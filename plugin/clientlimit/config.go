package clientlimit

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/coredns/caddy"
	"github.com/kubezone/kubezone/plugin/internal/corefile"
)

const (
	directive = "clientlimit"

	maxQueries = 1_000_000 // more than a server answers in a second
	minClients = 1024      // the table has 256 parts of at least 4
	maxClients = 1 << 20   // some 200 MiB

	defaultClients = 16 << 10 // the pods of a large cluster's busiest part, in 3 MiB
)

// An action is what becomes of a query beyond the limit.
type action uint8

const (
	refuse action = iota // REFUSED
	drop                 // no reply
)

// String is the word in metrics and logs.
func (a action) String() string { return [...]string{"refuse", "drop"}[a] }

// A config is one directive of a Corefile with its block, checked. The zero
// value is of no use; parse makes one.
type config struct {
	qps, burst int // queries a second in the long run, and at once
	action     action
	exempt     []netip.Prefix
	clients    int // whose buckets are kept
}

type (
	parser = corefile.Parser[config]
	option = corefile.Option[config]
)

var arguments = option{Name: directive, Usage: "QPS [BURST]", Min: 1, Max: 2, Set: setRate}

// options are all properties, in the order of README.md.
var options = []option{
	{Name: "action", Usage: "refuse|drop", Min: 1, Max: 1, Set: corefile.OneOf(func(c *config) *action { return &c.action },
		corefile.Word("refuse", refuse), corefile.Word("drop", drop))},
	{Name: "exempt", Usage: "CIDR...", Min: 1, Max: corefile.Many, Set: setExempt},
	{Name: "clients", Usage: "MAX", Min: 1, Max: 1, Set: corefile.Whole(func(c *config) *int { return &c.clients }, minClients, maxClients)},
}

// parse reads the directive that c stands at, with its block. An error names
// the file, the line, the text that is wrong and what is accepted.
func parse(c *caddy.Controller) (config, error) {
	p, err := corefile.ParsePlain(c, config{clients: defaultClients}, arguments, options)
	if err != nil {
		return config{}, err
	}
	return p.Config, nil
}

func setRate(p *parser, args []string) error {
	var err error
	if p.Config.qps, err = whole(args[0], 1); err != nil {
		return err
	}
	p.Config.burst = 2 * p.Config.qps // what two seconds bring, as a pod that starts asks for much at once
	if len(args) > 1 {
		p.Config.burst, err = whole(args[1], p.Config.qps)
	}
	return err
}

// whole reads a number of queries.
func whole(text string, low int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > maxQueries {
		return 0, fmt.Errorf("%q: want a whole number from %d to %d", text, low, maxQueries)
	}
	return n, nil
}

func setExempt(p *parser, args []string) error {
	for _, arg := range args {
		network, err := corefile.Network(arg)
		if err != nil {
			return err
		}
		p.Config.exempt = append(p.Config.exempt, network)
	}
	return nil
}
