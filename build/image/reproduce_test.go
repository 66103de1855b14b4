package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// top is the top of the repository.
const top = "../.."

var clean = flag.Bool("clean", false, "compile everything anew for the second build")

// Two builds of a revision give the same images, though the second is made from a copy of the source in another place.
// With -clean it compiles everything anew, which takes minutes; `make long` does that.
func TestTwoBuildsGiveTheSameImages(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	buildImages(t, top, "IMAGES="+first)
	if *clean {
		t.Setenv("GOCACHE", t.TempDir())
	}
	var same []string // what git knows of the revision, and a copy without git does not
	for _, name := range []string{"COMMIT", "REVISION", "CREATED"} {
		same = append(same, name+"="+variable(t, name))
	}
	buildImages(t, copySource(t), append(same, "IMAGES="+second)...)
	for _, f := range flavours {
		one, other := readArchive(t, filepath.Join(first, f.name+".tar")), readArchive(t, filepath.Join(second, f.name+".tar"))
		if one.digest != other.digest {
			t.Errorf("%s: two builds give %s and %s", f.name, one.digest, other.digest)
		}
		const most = 20e6 // that a node pulls
		t.Logf("%s: %s, compressed %v MB", f.name, one.digest, one.megabytes)
		for platform, size := range one.megabytes {
			if size*1e6 > most {
				t.Errorf("%s, %s: %.1f MB compressed; want at most %.0f", f.name, platform, size, most/1e6)
			}
		}
	}
	boms, err := filepath.Glob(filepath.Join(first, "*.cdx.json"))
	if err != nil || len(boms) != len(architectures) {
		t.Fatalf("bills of materials %q, %v; want one for each of %q", boms, err, architectures)
	}
	t.Run("arm64", func(t *testing.T) { startsOnARM(t, filepath.Join(first, "linux-arm64", "coredns")) })
}

// startsOnARM runs the arm64 binary in an emulator: it tells its version and answers a question.
func startsOnARM(t *testing.T, binary string) {
	command(t, top, "build/need.sh", "qemu-aarch64-static:qemu-user-static")
	version := variable(t, "VERSION")
	if got, revision := command(t, top, "qemu-aarch64-static", binary, "-version"), variable(t, "COMMIT"); !strings.HasPrefix(got, "kubezone-"+version+" ") ||
		!strings.Contains(got, "linux/arm64") || !strings.Contains(got, revision) {
		t.Errorf("-version says %q; want %s, linux/arm64 and %s", got, version, revision)
	}

	var problems []string
	for range emulations {
		problem := answersOnARM(t, binary)
		if problem == "" {
			return
		}
		problems = append(problems, problem)
	}
	t.Error(strings.Join(problems, "\n"))
}

// emulations is how often the server is started: the emulator may hang with a program of many threads.
const emulations = 3

// answersOnARM starts the server in the emulator, and says what is wrong if it does not answer.
func answersOnARM(t *testing.T, binary string) (problem string) {
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.LocalAddr().String()
	_ = free.Close()
	_, port, _ := net.SplitHostPort(address)
	corefile := filepath.Join(t.TempDir(), "Corefile")
	text := ".:" + port + " {\n\tbind 127.0.0.1\n\tkubezone cluster.local {\n\t\tmanifests corefile/demo/manifests\n\t}\n}\n"
	if err := os.WriteFile(corefile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	server := exec.Command("qemu-aarch64-static", binary, "-conf", corefile)
	server.Dir, server.Stdout, server.Stderr = top, &log, &log
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	var got []string
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) { // an emulator takes its time
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		got, err = resolver.LookupHost(ctx, "kubernetes.default.svc.cluster.local.")
		cancel()
		if err == nil {
			break
		}
	}
	_ = server.Process.Kill()
	ended := server.Wait()
	if !slices.Equal(got, []string{"10.96.0.1"}) {
		return fmt.Sprintf("answer %q, %v; want 10.96.0.1; the server ended with %v:\n%s", got, err, ended, &log)
	}
	return ""
}

// variable is the value of one of the Makefile's variables.
func variable(t *testing.T, name string) string {
	t.Helper()
	return strings.TrimSpace(command(t, top, "make", "-s", "print", "NAME="+name))
}

// buildImages runs `make image` in a folder.
func buildImages(t *testing.T, dir string, variables ...string) {
	t.Helper()
	command(t, dir, "make", append([]string{"image"}, variables...)...)
}

// copySource copies what the images are made of to another place.
func copySource(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"Makefile", "go.mod", "go.sum", "plugin", "build"} {
		from, to := filepath.Join(top, name), filepath.Join(dir, name)
		if info, err := os.Stat(from); err != nil {
			t.Fatal(err)
		} else if info.IsDir() {
			err = os.CopyFS(to, os.DirFS(from))
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// command runs a command in a folder, by itself and not as part of a make that runs this test, and returns its output.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir = dir
	c.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "MAKE") || strings.HasPrefix(variable, "MFLAGS")
	})
	output, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, output)
	}
	return string(output)
}

// An archive is what there is to say about an image archive.
type archive struct {
	digest    v1.Hash
	megabytes map[string]float64 // of the compressed layers, by platform
}

func readArchive(t *testing.T, path string) archive {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	members := map[string][]byte{}
	for r := tar.NewReader(file); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if members[header.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	parse := func(name string, to any) {
		if err := json.Unmarshal(members[name], to); err != nil {
			t.Fatalf("%s: %s: %v", path, name, err)
		}
	}
	blob := func(digest v1.Hash) string { return "blobs/sha256/" + digest.Hex }
	var list, platforms v1.IndexManifest
	parse("index.json", &list)
	if len(list.Manifests) != 1 {
		t.Fatalf("%s: %d images; want 1", path, len(list.Manifests))
	}
	a := archive{digest: list.Manifests[0].Digest, megabytes: map[string]float64{}}
	parse(blob(a.digest), &platforms)
	for _, platform := range platforms.Manifests {
		var image v1.Manifest
		parse(blob(platform.Digest), &image)
		for _, layer := range image.Layers {
			a.megabytes[platform.Platform.String()] += float64(layer.Size) / 1e6
		}
	}
	return a
}
