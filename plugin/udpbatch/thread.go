//go:build linux

package udpbatch

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// lateness says why a handler that the thread began to run has not returned.
// One that waits leaves its thread to others, so that the thread sleeps, or runs
// the caller. A thread that is ready to run may still be at the handler, and be
// kept from it by other processes.
func lateness(thread int) observation {
	if thread == syscall.Gettid() || threadState(thread) == sleeping {
		return asleep
	}
	return tardy
}

// sleeping is the state of a thread that waits for an event (proc(5)).
const sleeping = 'S'

// threadState returns the state of a thread of this process as in proc(5), or
// sleeping if it cannot be read.
func threadState(thread int) byte {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", thread))
	if err != nil {
		return sleeping
	}
	// The second field is a name, in parentheses, in which anything may be.
	if i := bytes.LastIndexByte(stat, ')'); i >= 0 && len(stat) > i+2 {
		return stat[i+2]
	}
	return sleeping
}
