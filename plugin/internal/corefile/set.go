package corefile

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/coredns/coredns/plugin/pkg/fall"
)

// Flag sets an option that has no arguments.
func Flag[C any](field func(*C) *bool) func(*Parser[C], []string) error {
	return func(p *Parser[C], _ []string) error {
		*field(&p.Config) = true
		return nil
	}
}

// Whole sets an option to a whole number from low to high.
func Whole[C any, T int | uint32](field func(*C) *T, low, high int) func(*Parser[C], []string) error {
	return func(p *Parser[C], args []string) error {
		n, err := strconv.Atoi(args[0])
		if err != nil || n < low || n > high {
			return fmt.Errorf("%q: want a whole number from %d to %d", args[0], low, high)
		}
		*field(&p.Config) = T(n)
		return nil
	}
}

// Network reads a network, which must have no bits behind its prefix. The text of
// an error does not say what else an option takes.
func Network(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil || p != p.Masked() || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q: want networks such as 10.244.0.0/16, without bits behind the prefix", text)
	}
	return p, nil
}

// A Choice is a value that an option takes, and the word for it.
type Choice[T any] struct {
	word  string
	value T
}

// Word makes a Choice.
func Word[T any](word string, value T) Choice[T] { return Choice[T]{word, value} }

// OneOf sets an option to the value that its argument stands for.
func OneOf[C, T any](field func(*C) *T, choices ...Choice[T]) func(*Parser[C], []string) error {
	words := make([]string, 0, len(choices))
	for _, c := range choices {
		words = append(words, c.word)
	}
	return func(p *Parser[C], args []string) error {
		i := slices.Index(words, args[0])
		if i < 0 {
			return fmt.Errorf("%q: want %s", args[0], strings.Join(words, " or "))
		}
		*field(&p.Config) = choices[i].value
		return nil
	}
}

// Fall sets where names fall through: in the zones given, or in all.
func Fall[C any](field func(*C) *fall.F) func(*Parser[C], []string) error {
	return func(p *Parser[C], args []string) error {
		if _, err := ZoneNames(args); err != nil {
			return err
		}
		field(&p.Config).SetZonesFromArgs(args)
		return nil
	}
}
