package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// garbageRoom is how much garbage may gather between two collections, even if
	// that is more than what is in use. With Go's own rule, a server that knows a
	// small cluster would collect dozens of times a second under load, at up to a
	// third of its processor time.
	garbageRoom = 16 << 20

	// Go's GOGC, and the most of it that is set here: the least heap that Go
	// collects at all grows with it, and is garbageRoom then.
	usualPercent = 100
	mostPercent  = 400
)

// collectLess makes Go collect a small heap less often, from now on, unless GOGC
// is set. A memory limit goes before it.
func collectLess() {
	if os.Getenv("GOGC") != "" {
		return
	}
	c := &collector{live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}, percent: usualPercent}
	c.collected()
}

// A collector is told of each collection by the next one's way with garbage: it
// is garbage itself, but for its finalizer.
type collector struct {
	live    []metrics.Sample
	percent int
}

// collected sets GOGC by what the last collection has left. Setting it stops the
// world for a moment, so small differences are let be.
func (c *collector) collected() {
	metrics.Read(c.live)
	want := percentFor(c.live[0].Value.Uint64())
	if d := want - c.percent; d < -c.percent/8 || d > c.percent/8 {
		c.percent = want
		debug.SetGCPercent(want)
	}
	runtime.SetFinalizer(c, (*collector).collected)
}

// percentFor is the GOGC for a heap of which so many octets are in use.
func percentFor(live uint64) int {
	return int(min(max(100*garbageRoom/max(live, 1), usualPercent), mostPercent))
}
