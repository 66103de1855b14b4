// Package harness starts a Kubernetes control plane, DNS servers and network namespaces on one machine, and asks DNS
// questions. It knows kubezone only as a binary: a Corefile goes in, packets and HTTP come out.
package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// killAfter bounds a graceful stop; a DNS server with `lameduck 5s` needs a little more than five seconds.
const killAfter = 10 * time.Second

// A Process is a running program whose output goes to a file. It dies with the test binary, however that ends.
type Process struct {
	Name string

	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed once the program has ended
}

// StartProcess starts cmd with its output in dir/name.log.
func StartProcess(dir, name string, cmd *exec.Cmd) (*Process, error) {
	path := filepath.Join(dir, name+".log")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own descriptor
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own keeps a ^C for the tests to handle; the death signal ends it when the test binary is gone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{Name: name, cmd: cmd, log: path, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is seen in its log
		close(p.done)
	}()
	return p, nil
}

// Stop asks the program to end, waits for it, and kills it when it does not.
func (p *Process) Stop() {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(killAfter):
		p.Kill()
	}
}

// Kill ends the program at once and waits until it is gone.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Signal sends sig to the program; a program that has ended takes none.
func (p *Process) Signal(sig syscall.Signal) {
	select {
	case <-p.done: // its number may belong to another program by now
	default:
		_ = p.cmd.Process.Signal(sig)
	}
}

// Done is closed once the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Log returns everything that the program has printed.
func (p *Process) Log() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Tail returns the last lines of the log.
func (p *Process) Tail(lines int) string {
	all := strings.Split(strings.TrimRight(p.Log(), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Ended tells whether the program has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// CPU is the CPU time that the program has used.
func (p *Process) CPU() time.Duration { return CPU(p.cmd.Process.Pid) }

// Memory reads a line of /proc/PID/status, such as VmRSS or VmHWM, in octets.
func (p *Process) Memory(line string) int64 { return Memory(p.cmd.Process.Pid, line) }

// CPU is the CPU time that a process has used, in user and kernel mode. The clock is that of the kernel's scheduler,
// which is as exact for a short run as for a long one.
func CPU(pid int) time.Duration {
	const scheduler = 2 // CPUCLOCK_SCHED of a whole process, see clock_getcpuclockid(3)
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduler), &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// Memory reads a line of /proc/PID/status, in octets.
func Memory(pid int, line string) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for l := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(l, line+":"); ok {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}

// Eventually calls check until it returns nil, and fails the test with its last error once the time is over.
func Eventually(t testing.TB, within time.Duration, check func() error) {
	t.Helper()
	if err := Poll(within, check); err != nil {
		t.Fatalf("after %.1fs: %v", within.Seconds(), err)
	}
}

// Poll calls check until it returns nil, and returns its last error once the time is over.
func Poll(within time.Duration, check func() error) error {
	const pause = 10 * time.Millisecond // short beside the second that a change may take to show
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}
