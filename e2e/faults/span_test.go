package faults

import (
	"flag"
	"time"
)

var long = flag.Bool("long", false, "run every row for the length that its issue states")

// A span is how long something lasts, in `make test` and in `make long`.
type span struct{ short, long time.Duration }

func always(d time.Duration) span { return span{d, d} }

func (s span) now() time.Duration {
	if *long {
		return s.long
	}
	return s.short
}
