package main

import (
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// IDs are as evenly spread as random ones, also when many ask at once.
func TestIDs(t *testing.T) {
	const askers, each = 8, 8192
	var counts [askers][1 << 16]uint8
	var running sync.WaitGroup
	for i := range askers {
		running.Go(func() {
			for range each {
				counts[i][dns.Id()]++
			}
		})
	}
	running.Wait()
	different := 0
	for id := range 1 << 16 {
		total := 0
		for i := range askers {
			total += int(counts[i][id])
		}
		if total > 0 {
			different++
		}
		if total > 16 { // of 65,536 draws each ID has one on average; so many are never seen
			t.Fatalf("ID %d was drawn %d times", id, total)
		}
	}
	// 1-1/e of them, with a standard deviation of 80.
	if different < 40_400 || different > 42_400 {
		t.Errorf("%d different IDs of 65,536 draws; want about 41,430", different)
	}
}

func BenchmarkID(b *testing.B) {
	for b.Loop() {
		dns.Id()
	}
}
