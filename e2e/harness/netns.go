package harness

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A Netns is a network namespace with nothing in it but loopback.
type Netns struct {
	Name string
	dir  string // /etc/netns/NAME: files that programs in the namespace see in /etc
}

// namePattern names a namespace by the process that made it and a number.
const namePattern = "kubezone-%d-%d"

var netnsCount atomic.Int32

// etcFolder is where `ip netns exec` looks for the files of a namespace.
const etcFolder = "/etc/netns"

// folderIsOurs tells whether the machine had no such folder before the first namespace here.
var folderIsOurs = sync.OnceValue(func() bool {
	_, err := os.Stat(etcFolder)
	return errors.Is(err, os.ErrNotExist)
})

// NetnsRefused is why this process cannot make network namespaces, or nil.
var NetnsRefused = sync.OnceValue(func() error {
	probe := exec.Command("true")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := probe.Run(); err != nil {
		return fmt.Errorf("a network namespace needs root and CAP_SYS_ADMIN: %w", err)
	}
	return nil
})

// NewNetns makes a network namespace whose loopback has the given addresses; it goes with the test. Without the
// privilege to make one the test is skipped.
func NewNetns(t testing.TB, addresses ...string) *Netns {
	t.Helper()
	if err := NetnsRefused(); err != nil {
		t.Skipf("skipped: %v", err)
	}
	ns := &Netns{Name: fmt.Sprintf(namePattern, os.Getpid(), netnsCount.Add(1))}
	ns.dir = filepath.Join(etcFolder, ns.Name)
	if output, err := exec.Command("ip", "netns", "add", ns.Name).CombinedOutput(); err != nil {
		t.Fatalf("ip netns add: %v: %s", err, output)
	}
	t.Cleanup(func() {
		if output, err := exec.Command("ip", "netns", "delete", ns.Name).CombinedOutput(); err != nil {
			t.Errorf("ip netns delete: %v: %s", err, output)
		}
	})
	// The folder is made even if the test writes no file: with none `ip netns exec` has nothing to mount.
	made := folderIsOurs()
	if err := os.MkdirAll(ns.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(ns.dir); err != nil {
			t.Error(err)
		}
		if made {
			_ = os.Remove(etcFolder) // refused while another test has a folder there
		}
	})
	ns.ip(t, "link", "set", "lo", "up")
	for _, address := range addresses {
		ns.ip(t, "address", "add", address, "dev", "lo")
	}
	return ns
}

// Connect joins two namespaces by a link of their own and gives each its address.
func (ns *Netns) Connect(t testing.TB, address string, other *Netns, otherAddress string) {
	t.Helper()
	ns.Link(t, "veth0", other, "veth0")
	ns.ip(t, "address", "add", address, "dev", "veth0")
	other.ip(t, "address", "add", otherAddress, "dev", "veth0")
}

// Link joins two namespaces by a link of their own, whose ends have names.
func (ns *Netns) Link(t testing.TB, end string, other *Netns, otherEnd string) {
	t.Helper()
	ns.ip(t, "link", "add", end, "type", "veth", "peer", "name", otherEnd, "netns", other.Name)
	ns.ip(t, "link", "set", end, "up")
	other.ip(t, "link", "set", otherEnd, "up")
}

func (ns *Netns) ip(t testing.TB, args ...string) {
	t.Helper()
	output, err := exec.Command("ip", append([]string{"-netns", ns.Name}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, output)
	}
}

// RemoveStaleNetns removes the namespaces of test binaries that were killed before they could.
func RemoveStaleNetns() {
	paths, _ := filepath.Glob("/run/netns/kubezone-*") // the pattern is valid
	for _, path := range paths {
		var pid, number int
		name := filepath.Base(path)
		if n, _ := fmt.Sscanf(name, namePattern, &pid, &number); n != 2 {
			continue
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); errors.Is(err, os.ErrNotExist) {
			_ = exec.Command("ip", "netns", "delete", name).Run() // what cannot be removed does no harm
			_ = os.RemoveAll(filepath.Join(etcFolder, name))
		}
	}
}

// WriteEtc makes a file that programs started by Command from now on see in /etc; those that run keep what they have.
func (ns *Netns) WriteEtc(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join(ns.dir, name)
	_ = os.Remove(path) // a mount holds the old file, not its name
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Command prepares a program that runs in the namespace.
func (ns *Netns) Command(name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", ns.Name, name}, args...)...)
}

// Run runs a program in the namespace and returns its output.
func (ns *Netns) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	output, err := ns.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, output)
	}
	return string(output)
}

// Dial opens a connection in the namespace; it may be used from anywhere.
func (ns *Netns) Dial(network, address string) (conn net.Conn, err error) {
	if inErr := ns.inside(func() { conn, err = net.Dial(network, address) }); inErr != nil {
		return nil, inErr
	}
	return conn, err
}

// Listen opens a TCP listener in the namespace.
func (ns *Netns) Listen(t testing.TB, address string) net.Listener {
	t.Helper()
	var listener net.Listener
	var err error
	if inErr := ns.inside(func() { listener, err = net.Listen("tcp", address) }); inErr != nil {
		t.Fatal(inErr)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// ListenPacket opens a UDP socket in the namespace.
func (ns *Netns) ListenPacket(t testing.TB, address string) net.PacketConn {
	t.Helper()
	var conn net.PacketConn
	var err error
	if inErr := ns.inside(func() { conn, err = net.ListenPacket("udp", address) }); inErr != nil {
		t.Fatal(inErr)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// inside runs f on a thread that is in the namespace meanwhile. f must not hand its work to another goroutine; opening a
// socket by address does not.
func (ns *Netns) inside(f func()) error {
	runtime.LockOSThread()
	home, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	there, err := os.Open(filepath.Join("/run/netns", ns.Name))
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("setns %s: %w", ns.Name, err)
	}
	f()
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("setns back: %w", err) // the thread stays locked, and goes with its goroutine
	}
	runtime.UnlockOSThread()
	return nil
}
