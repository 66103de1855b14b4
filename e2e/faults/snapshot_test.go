package faults

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubezone/kubezone/e2e/harness"
)

// Row 28: whatever is wrong with a file, it is passed over, with one line and a count; only what is whole and ours is
// served. One process reads them all, each for a server block with an address of its own.
func TestDamagedSnapshots(t *testing.T) {
	r := row{id: "28a", fault: "snapshots damaged in 200 places, foreign, of other versions", oursOnly: true, starting: (*proxy).refuse}
	g := newEmptyRig(t, cluster, "snapshots", 0)
	g.create("kept")
	good, foreign, kubeconfig := g.snapshots(t)
	damaged := damagedSnapshots(t, good)
	damaged = append(damaged, foreign)

	s := &side{name: "kubezone", proxy: startProxy(t, cluster), kubeconfig: kubeconfig}
	s.server = g.serve(s, g.blocks(t, append(damaged, good)))
	// Two hundred server blocks, each with a client of its own, are set up one after the other.
	s.server.ExpectWithin(t, 10*opened, "dns-version.cluster.local. TXT", `TXT "1.1.0"`)
	question := g.question("kept")
	want := func(n int) string {
		if n < len(damaged) {
			return "SERVFAIL"
		}
		return g.truth.now(question)
	}
	for n := range len(damaged) + 1 {
		at := *s.server
		at.DNS = fmt.Sprintf("127.0.1.%d%s", 1+n, at.DNS[strings.LastIndexByte(at.DNS, ':'):])
		a := ask(t, &at, question)
		s.sum.asked++
		switch {
		case a.lost:
			s.sum.lost++
		case a.text != want(n):
			s.sum.wrong++
			t.Errorf("file %d: %s; want %s", n, a, want(n))
		case a.text == "SERVFAIL":
			s.sum.servfail++
		default:
			s.sum.right++
			s.sum.stale++
		}
	}
	record(r, s.name, s.sum)
	if s.sum.wrong+s.sum.lost > 0 {
		t.Errorf("%d wrong, %d lost of %d; want none", s.sum.wrong, s.sum.lost, s.sum.asked)
	}
	const counter = "coredns_kubezone_snapshot_errors_total"
	if n := metric(t, s.server, counter); n != float64(len(damaged)) {
		t.Errorf("%s is %g; want %d", counter, n, len(damaged))
	}
	if n := strings.Count(s.server.Log(), " is not used: "); n != len(damaged) {
		t.Errorf("%d lines about files that are not used; want %d", n, len(damaged))
	}
}

// snapshots makes one of the cluster, and one of another, both as of now. The kubeconfig is that of the first, whose API
// server is away.
func (g *rig) snapshots(t *testing.T) (good, foreign []byte, kubeconfig string) {
	t.Helper()
	var contents [2][]byte
	for n := range contents {
		file := filepath.Join(t.TempDir(), "snapshot")
		s := g.add(ours, row{options: "snapshot " + file + " 1s"})
		s.server.AwaitReady(t)
		harness.Eventually(t, 5*time.Second, func() (err error) {
			contents[n], err = os.ReadFile(file)
			return err
		})
		s.server.Kill()
		s.proxy.refuse()
	}
	return contents[0], contents[1], g.sides[0].kubeconfig
}

// damagedSnapshots are made of a good one. Each time the same.
func damagedSnapshots(t *testing.T, good []byte) [][]byte {
	t.Helper()
	const magic = "kubezone snapshot "
	if !bytes.HasPrefix(good, []byte(magic)) {
		t.Fatalf("the snapshot begins with %q; want %q", good[:len(magic)], magic)
	}
	version := func(v byte) []byte {
		content := slices.Clone(good)
		content[len(magic)] = v
		return content
	}
	list := [][]byte{nil, version(good[len(magic)] - 1), version(good[len(magic)] + 1), good[:len(good)/2], good[:len(good)-1], append(slices.Clone(good), 0), []byte("kind: List\n")}
	random := rand.New(rand.NewPCG(3, 28))
	for range 200 {
		content := slices.Clone(good)
		content[random.IntN(len(content))] ^= byte(1 + random.IntN(255))
		list = append(list, content)
	}
	return list
}

// blocks is a Corefile with one server block for each snapshot, on 127.0.1.1 and the addresses after it.
func (g *rig) blocks(t *testing.T, snapshots [][]byte) string {
	t.Helper()
	dir := t.TempDir()
	var text strings.Builder
	text.WriteString(strings.Replace(corefile, "errors\n", "errors\n\tbind 127.0.0.1\n", 1))
	for n, content := range snapshots {
		file := filepath.Join(dir, fmt.Sprint(n))
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, ".:{$DNS} {\n\tbind 127.0.1.%d\n\tkubernetes cluster.local {\n\t\tkubeconfig {$KUBECONFIG}\n\t\tsnapshot %s 1h\n\t}\n}\n", 1+n, file)
	}
	return text.String()
}

// A disk on which nothing can be written is one line and a count; answers do not depend on it.
func TestSnapshotOnBadDisk(t *testing.T) {
	for _, test := range []struct{ id, fault, mount string }{
		{"28b", "disk full", `mount -t tmpfs -o size=64k tmpfs "$DISK" && { head -c 1000000 /dev/zero >"$DISK/full" || true; }`},
		{"28c", "disk read-only", `mount -t tmpfs tmpfs "$DISK" && mount -o remount,ro "$DISK"`},
	} {
		t.Run("row "+test.id+", "+test.fault, func(t *testing.T) {
			if os.Getuid() != 0 {
				t.Skip("a file system of its own takes root")
			}
			disk := t.TempDir()
			r := row{id: test.id, fault: test.fault, oursOnly: true, options: "snapshot " + disk + "/snapshot 1s"}
			// The server sees a disk that nobody else does.
			wrapper := filepath.Join(t.TempDir(), "coredns")
			text := fmt.Sprintf("#!/bin/sh\nDISK=%s exec unshare --mount sh -c '%s 2>/dev/null\nexec \"$0\" \"$@\"' %s \"$@\"\n", disk, test.mount, ours)
			if err := os.WriteFile(wrapper, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
			g := newEmptyRig(t, cluster, "row-"+test.id, 0)
			g.create("kept")
			g.headless("set", "192.0.2.1")
			g.truth.write(g.question("missing"), "NXDOMAIN", func() {})
			s := g.add(wrapper, r)
			s.open(g, r)
			s.logs(t, " cannot be written: ")
			const counter = "coredns_kubezone_snapshot_errors_total"
			harness.Eventually(t, 5*time.Second, func() error {
				if n := metric(t, s.server, counter); n == 0 {
					return fmt.Errorf("%s is 0", counter)
				}
				return nil
			})
			g.create("late")
			g.converge(2 * time.Second)
			time.Sleep(2 * time.Second) // asked meanwhile
			if n := strings.Count(s.server.Log(), " cannot be written: "); n != 1 {
				t.Errorf("%d lines about the disk; want 1", n)
			}
			if _, err := os.Stat(disk + "/snapshot"); err == nil {
				t.Error("a snapshot was written: nothing was tested")
			}
			g.finish(r)
		})
	}
}
