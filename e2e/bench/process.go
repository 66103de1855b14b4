package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/kubezone/kubezone/e2e/harness"
)

// A process is a program that runs while it is measured. It ends with this one at the latest.
type process struct {
	cmd  *exec.Cmd
	pid  int
	log  string // file
	done chan struct{}
}

// startProcess starts the program with its output in dir/name.log.
func startProcess(dir, name string, cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own descriptor
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.pid = cmd.Process.Pid
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(p.done)
	}()
	return p, nil
}

// stop ends the program.
func (p *process) stop() {
	select {
	case <-p.done:
	default:
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// output is what the program has printed so far.
func (p *process) output() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// cpu is the CPU time that the program has used, in user and kernel mode.
func (p *process) cpu() time.Duration { return harness.CPU(p.pid) }

// memory reads a line of /proc/PID/status, such as VmRSS or VmHWM, in octets.
func (p *process) memory(line string) int64 { return harness.Memory(p.pid, line) }

// forgetPeak makes VmHWM begin anew at what the program takes now.
func (p *process) forgetPeak() error {
	const resetPeak = "5" // proc(5), clear_refs
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.pid), []byte(resetPeak), 0)
}

// settle waits until the program has had next to nothing to do for a second, for a minute at most.
func (p *process) settle() {
	const (
		step  = 250 * time.Millisecond
		idle  = step / 20
		quiet = 4 // steps
	)
	last, still := p.cpu(), 0
	for deadline := time.Now().Add(time.Minute); still < quiet && time.Now().Before(deadline); {
		time.Sleep(step)
		now := p.cpu()
		if now-last < idle {
			still++
		} else {
			still = 0
		}
		last = now
	}
}
