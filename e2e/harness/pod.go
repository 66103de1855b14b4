package harness

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/moby/profiles/seccomp"
	runtimespec "github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"
)

var containerCount atomic.Int32

// A Pod is a pod that a test runs by itself, in the place of a kubelet.
type Pod struct {
	Spec    corev1.PodSpec
	Image   *Image
	Netns   *Netns
	Address string            // of its DNS, host and port
	Volumes map[string]string // folders of this machine, by the names of the pod's volumes
	Account string            // the folder of its service account

	id, state string // of the container, and where runc keeps what it knows
}

// accountPath is where every pod finds its service account.
const accountPath = "/var/run/secrets/kubernetes.io/serviceaccount"

// Start starts the pod's only container in its network namespace, with runc, the runtime below containerd and CRI-O,
// and with what its securityContext and its limits ask for. extra are more variables, as a kubelet adds them.
func (p *Pod) Start(t testing.TB, extra ...string) *Server {
	t.Helper()
	dir := t.TempDir()
	config, err := p.runtimeConfig(extra)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	WriteFile(t, filepath.Join(dir, "config.json"), string(text))
	p.id, p.state = fmt.Sprintf("kubezone-%d-%d", os.Getpid(), containerCount.Add(1)), filepath.Join(dir, "state")
	process, err := StartProcess(dir, "coredns", p.runc("run", "--bundle", dir, p.id))
	if err != nil {
		t.Fatal(err)
	}
	s := p.Netns.server(process, p.Address)
	s.Corefile = filepath.Join(p.Volumes["config-volume"], "Corefile")
	t.Cleanup(func() {
		// Not by killing runc, which is but the parent. The container may have ended already.
		_ = p.runc("delete", "--force", p.id).Run()
		s.Kill()
		if t.Failed() {
			t.Logf("log of the container:\n%s", s.Tail(40))
		}
	})
	return s
}

func (p *Pod) runc(args ...string) *exec.Cmd {
	return exec.Command("runc", append([]string{"--root", p.state}, args...)...)
}

// Status returns what the kernel says of the container's process: the lines of /proc/PID/status, by their names.
func (p *Pod) Status(t testing.TB) map[string]string {
	t.Helper()
	text, err := p.runc("state", p.id).Output()
	if err != nil {
		t.Fatalf("runc state: %v", err)
	}
	var state runtimespec.State
	if err := json.Unmarshal(text, &state); err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(fmt.Sprintf("/proc/%d/status", state.Pid)); err != nil {
		t.Fatal(err)
	}
	status := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		status[name] = strings.TrimSpace(value)
	}
	return status
}

// MemoryLimit is the limit that the kernel holds the container to, in octets.
func (p *Pod) MemoryLimit(t testing.TB) int64 {
	t.Helper()
	text, err := p.runc("events", "--stats", p.id).Output()
	if err != nil {
		t.Fatalf("runc events: %v", err)
	}
	var event struct {
		Data struct {
			Memory struct {
				Usage struct{ Limit int64 }
			}
		}
	}
	if err := json.Unmarshal(text, &event); err != nil {
		t.Fatal(err)
	}
	return event.Data.Memory.Usage.Limit
}

// runtimeConfig is what a kubelet and containerd make of a pod.
func (p *Pod) runtimeConfig(extra []string) (*runtimespec.Spec, error) {
	if len(p.Spec.Containers) != 1 {
		return nil, fmt.Errorf("%d containers; want 1", len(p.Spec.Containers))
	}
	c := p.Spec.Containers[0]
	process, err := p.process(c, extra)
	if err != nil {
		return nil, err
	}
	mounts, err := p.mounts(c)
	if err != nil {
		return nil, err
	}
	config := &runtimespec.Spec{
		Version: "1.0.2",
		Process: process,
		Root:    &runtimespec.Root{Path: p.Image.Root, Readonly: *c.SecurityContext.ReadOnlyRootFilesystem},
		Mounts:  mounts,
		Linux: &runtimespec.Linux{
			Namespaces: []runtimespec.LinuxNamespace{
				{Type: runtimespec.PIDNamespace}, {Type: runtimespec.IPCNamespace}, {Type: runtimespec.UTSNamespace},
				{Type: runtimespec.MountNamespace}, {Type: runtimespec.NetworkNamespace, Path: filepath.Join("/run/netns", p.Netns.Name)},
			},
			Resources:     &runtimespec.LinuxResources{},
			MaskedPaths:   []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	if limit, ok := c.Resources.Limits[corev1.ResourceMemory]; ok {
		bytes := limit.Value()
		config.Linux.Resources.Memory = &runtimespec.LinuxMemory{Limit: &bytes}
	}
	if p.Spec.SecurityContext.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault {
		if config.Linux.Seccomp, err = seccomp.GetDefaultProfile(config); err != nil {
			return nil, err
		}
	}
	return config, nil
}

// process is the program with its user and privileges.
func (p *Pod) process(c corev1.Container, extra []string) (*runtimespec.Process, error) {
	user, err := p.user()
	if err != nil {
		return nil, err
	}
	environment := append([]string{"PATH=/"}, p.Image.Config.Env...)
	for _, variable := range c.Env {
		environment = append(environment, variable.Name+"="+variable.Value)
	}
	var capabilities []string
	for _, name := range c.SecurityContext.Capabilities.Add { // to none, as the pod drops all
		capabilities = append(capabilities, "CAP_"+string(name))
	}
	if drop := c.SecurityContext.Capabilities.Drop; len(drop) != 1 || drop[0] != "ALL" {
		return nil, fmt.Errorf("capabilities dropped: %q; want ALL", drop)
	}
	return &runtimespec.Process{
		User: user,
		Args: slices.Concat(p.Image.Config.Entrypoint, c.Args),
		Env:  append(environment, extra...),
		Cwd:  "/",
		Capabilities: &runtimespec.LinuxCapabilities{ // nothing inheritable or ambient: as containerd does
			Bounding: capabilities, Effective: capabilities, Permitted: capabilities,
		},
		NoNewPrivileges: !*c.SecurityContext.AllowPrivilegeEscalation,
	}, nil
}

// user is the pod's, else the image's.
func (p *Pod) user() (runtimespec.User, error) {
	var user runtimespec.User
	name, group, _ := strings.Cut(p.Image.Config.User, ":")
	uid, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		return user, fmt.Errorf("the image's user: %w", err) // a kubelet cannot tell whether a name is root's either
	}
	gid, err := strconv.ParseUint(group, 10, 32)
	if err != nil {
		return user, fmt.Errorf("the image's group: %w", err)
	}
	user.UID, user.GID = uint32(uid), uint32(gid)
	s := p.Spec.SecurityContext
	if s.RunAsUser != nil {
		user.UID = uint32(*s.RunAsUser)
	}
	if s.RunAsGroup != nil {
		user.GID = uint32(*s.RunAsGroup)
	}
	if s.RunAsNonRoot != nil && *s.RunAsNonRoot && user.UID == 0 {
		return user, fmt.Errorf("the pod runs as root and says that it does not")
	}
	return user, nil
}

// mounts are those of every container, the pod's volumes, and the files that the namespace has in /etc.
func (p *Pod) mounts(c corev1.Container) ([]runtimespec.Mount, error) {
	list := []runtimespec.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
		bind(p.Account, accountPath, "ro"),
	}
	files, err := os.ReadDir(p.Netns.dir)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		list = append(list, bind(filepath.Join(p.Netns.dir, file.Name()), filepath.Join("/etc", file.Name()), "rw"))
	}
	for _, mount := range c.VolumeMounts {
		folder, ok := p.Volumes[mount.Name]
		if !ok {
			return nil, fmt.Errorf("the container mounts %q, which is none of %v", mount.Name, p.Volumes)
		}
		mode := "rw"
		if mount.ReadOnly {
			mode = "ro"
		}
		list = append(list, bind(folder, mount.MountPath, mode))
	}
	return list, nil
}

func bind(from, to, mode string) runtimespec.Mount {
	return runtimespec.Mount{Destination: to, Type: "bind", Source: from, Options: []string{"rbind", mode}}
}
