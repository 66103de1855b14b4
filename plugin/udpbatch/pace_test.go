//go:build linux

package udpbatch

import (
	"runtime"
	"syscall"
	"testing"
	"time"
)

// A thread whose handler waits is told from one that is kept from its work.
func TestLateness(t *testing.T) {
	for _, test := range []struct {
		handler string
		handle  func(end chan struct{})
		want    observation
	}{
		{"waits", func(end chan struct{}) { <-end }, asleep},
		{"works", func(end chan struct{}) {
			for len(end) == 0 {
			}
		}, tardy},
	} {
		thread, end := make(chan int), make(chan struct{}, 1)
		go func() {
			runtime.LockOSThread()
			thread <- syscall.Gettid()
			test.handle(end)
		}()
		id := <-thread
		time.Sleep(patience)
		eventually(t, "a handler that "+test.handler, func() bool { return lateness(id) == test.want })
		end <- struct{}{}
	}
	if got := lateness(syscall.Gettid()); got != asleep {
		t.Errorf("a thread that runs the caller: %d; want %d", got, asleep)
	}
}

// A name that waits is handled by workers at once, one whose answers are late now and then, as on a busy machine, is not,
// and one that no longer waits comes back.
func TestPaceLearns(t *testing.T) {
	var p pace
	const slow, fast = suffix(1), suffix(2)
	for range 10_000 {
		p.observe(fast, answered)
	}
	p.observe(slow, asleep)
	if p.quick(slow) || !p.quick(fast) {
		t.Fatalf("after one that waited: slow %v, fast %v; want false, true", p.quick(slow), p.quick(fast))
	}
	for n := range 10_000 {
		o := answered
		if n%64 == 0 {
			o = tardy
		}
		p.observe(fast, o)
		if !p.quick(fast) {
			t.Fatalf("one in 64 is late, and after %d they are taken for slow", n)
		}
	}
	n := 0
	for ; !p.quick(slow); n++ {
		p.observe(slow, answered)
	}
	if n < 10 || n > memory {
		t.Errorf("%d answers at once until a name counts as quick; want 10 to %d", n, memory)
	}
}
