package main

import (
	"errors"
	"log"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// memoryShare is the part of the container's memory that Go may use before it
// collects garbage as if there were no more. The rest is for what Go does not
// count: the program itself, the kernel's socket buffers, and what a burst needs
// before a collection ends.
const memoryShare = 0.9

// limitMemory makes Go's memory limit follow that of the cgroup, version 1 or 2,
// unless GOMEMLIMIT is set: a container near its limit then spends processor time
// rather than be killed.
func limitMemory() {
	_, err := memlimit.Set(memlimit.WithRatio(memoryShare))
	nothingToFollow := errors.Is(err, memlimit.ErrNoCgroup) || errors.Is(err, memlimit.ErrCgroupsNotSupported)
	if err != nil && !nothingToFollow {
		log.Printf("[WARNING] The memory limit of the cgroup is not known, so there is none for Go: %v", err)
	}
}
