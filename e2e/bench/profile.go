package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// profile takes a CPU profile of a CoreDNS during one measurement in the first round, if profiles are wanted. The
// function returned waits for its end.
func (b *bench) profile(s *server, key string, round int) (wait func()) {
	if b.profiles == "" || round > 0 || s.side.binary == "" {
		return func() {}
	}
	var running sync.WaitGroup
	running.Go(func() {
		seconds := max(1, int(b.seconds.Seconds()))
		url := fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", s.pprof, seconds)
		b.saveProfile(url, fmt.Sprintf("%s-%s.cpu", key, s.side.name))
	})
	return running.Wait
}

// heapProfile takes a heap profile, if profiles are wanted.
func (b *bench) heapProfile(s *server, when string) {
	if b.profiles != "" {
		b.saveProfile(s.pprof+"/debug/pprof/allocs", fmt.Sprintf("%s-%s-%d.heap", when, s.side.name, s.pid))
	}
}

// saveProfile fetches a profile; one that cannot be had is no reason to stop.
func (b *bench) saveProfile(url, name string) {
	file, err := os.Create(filepath.Join(b.profiles, name))
	if err != nil {
		b.progress("%v", err)
		return
	}
	defer file.Close()
	if err := get(url, io.Writer(file)); err != nil {
		b.progress("profile: %v", err)
	}
}
