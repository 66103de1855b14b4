// Command testdns puts load on DNS as a pod does: it resolves one name through the system's resolver, as /etc/resolv.conf
// has it, again and again.
//
//	testdns -host NAME [-c CONCURRENCY] [-d SECONDS] [-l LIMIT_MS]
//
// It prints how many lookups were made, how many failed, how long they took and how many took longer than the limit. A
// lookup asks for A and AAAA, and for every entry of the search list until a name exists. The exit status is 1 if a lookup
// failed.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) (code int) {
	const misused = 2
	flags := flag.NewFlagSet("testdns", flag.ContinueOnError)
	flags.SetOutput(stderr)
	host := flags.String("host", "", "the `name` to look up")
	concurrency := flags.Int("c", 1, "how many look it up at once")
	seconds := flags.Int("d", 1, "for how many `seconds`")
	limit := flags.Int("l", 5000, "count lookups that take more `milliseconds` than this")
	if err := flags.Parse(args); err != nil {
		return misused
	}
	if *host == "" || *concurrency < 1 || *seconds < 1 || *limit < 0 || flags.NArg() > 0 {
		fmt.Fprintln(stderr, "testdns: want -host NAME, and numbers of 1 or more")
		flags.Usage()
		return misused
	}
	// Go's own resolver, whatever this program is linked with: it reads /etc/resolv.conf and has no cache.
	resolver := &net.Resolver{PreferGo: true}
	t := load(*concurrency, time.Duration(*seconds)*time.Second, time.Duration(*limit)*time.Millisecond, func() error {
		_, err := resolver.LookupHost(context.Background(), *host)
		return err
	})
	t.print(stdout)
	if t.errors > 0 {
		fmt.Fprintln(stderr, "testdns: the first error:", t.firstError)
		return 1
	}
	return 0
}

// load calls lookup from so many goroutines until the time is over; what has begun by then is finished.
func load(concurrency int, duration, limit time.Duration, lookup func() error) *tally {
	tallies := make([]tally, concurrency) // one for each goroutine, so that none waits for another
	deadline := time.Now().Add(duration)
	var running sync.WaitGroup
	for i := range tallies {
		running.Go(func() {
			for time.Now().Before(deadline) {
				start := time.Now()
				err := lookup()
				tallies[i].count(time.Since(start), limit, err)
			}
		})
	}
	running.Wait()
	total := new(tally)
	for i := range tallies {
		total.add(&tallies[i])
	}
	return total
}

// A tally counts lookups. It belongs to one goroutine.
type tally struct {
	requests, errors, over int
	min, max, sum          time.Duration
	firstError             error
}

func (t *tally) count(took, limit time.Duration, err error) {
	one := tally{requests: 1, min: took, max: took, sum: took}
	if took > limit {
		one.over = 1
	}
	if err != nil {
		one.errors, one.firstError = 1, err
	}
	t.add(&one)
}

func (t *tally) add(o *tally) {
	if o.requests == 0 {
		return
	}
	if t.requests == 0 || o.min < t.min {
		t.min = o.min
	}
	t.max = max(t.max, o.max)
	t.sum += o.sum
	t.requests += o.requests
	t.errors += o.errors
	t.over += o.over
	if t.firstError == nil {
		t.firstError = o.firstError
	}
}

func (t *tally) print(w io.Writer) {
	var average time.Duration
	if t.requests > 0 {
		average = t.sum / time.Duration(t.requests)
	}
	fmt.Fprintf(w, "request count: %d\nerror count: %d\nrequest time: min %.2f ms, max %.2f ms, avg %.2f ms\nover the limit: %d\n",
		t.requests, t.errors, milliseconds(t.min), milliseconds(t.max), milliseconds(average), t.over)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
