package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestPercentFor(t *testing.T) {
	for live, want := range map[uint64]int{
		0: 400, 1 << 20: 400, 4 << 20: 400, 8 << 20: 200, 12 << 20: 133, 16 << 20: 100, 1 << 30: 100,
	} {
		if got := percentFor(live); got != want {
			t.Errorf("percentFor(%d) = %d; want %d", live, got, want)
		}
	}
}

// GOGC follows the heap in both directions, and is left alone where it is set.
func TestCollectLess(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(usualPercent))
	gogc := func() uint64 {
		s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	await := func(want func(uint64) bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !want(gogc()); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("GOGC is %d", gogc())
			}
			runtime.GC()
		}
	}

	t.Setenv("GOGC", "70")
	collectLess()
	runtime.GC()
	if got := gogc(); got != usualPercent {
		t.Fatalf("GOGC is %d though it is set; want it left alone", got)
	}

	t.Setenv("GOGC", "")
	collectLess()
	await(func(percent uint64) bool { return percent > 2*usualPercent })
	large := make([]byte, 64<<20)
	await(func(percent uint64) bool { return percent == usualPercent })
	runtime.KeepAlive(large)
	large = nil
	await(func(percent uint64) bool { return percent > 2*usualPercent })
}
