// Command bench compares kubezone with CoreDNS as released and with Knot, on one machine, on the same input, in turns:
// CPU per query, queries a second, latency, memory, and how soon a change shows. It prints Markdown. `make bench` runs it.
//
// All sides that follow an API server follow the same feeder, with the same Corefile; Knot has a zone of the same names.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A bench is one run.
type bench struct {
	dir      string // for everything it writes
	stock    string // the program
	only     map[string]bool
	rounds   int
	seconds  time.Duration // of each measurement of a row
	profiles string        // folder, or ""

	churnFor, hugeChurnFor time.Duration
	made                   map[string]int
}

var errMissed = errors.New("not everything holds, see above")

func run() (err error) {
	b := &bench{made: map[string]int{}}
	ours := flag.String("ours", "../bin/coredns", "our `program`")
	flag.StringVar(&b.stock, "stock", "../bin/coredns-stock", "CoreDNS as released")
	only := flag.String("rows", "", "run only these, separated by spaces; `list` lists them")
	flag.IntVar(&b.rounds, "rounds", 3, "how often each row is run")
	flag.DurationVar(&b.seconds, "for", 2*time.Second, "how long each measurement of a row takes")
	flag.DurationVar(&b.churnFor, "churn", 15*time.Second, "how long slices change for the latency of changes")
	flag.DurationVar(&b.hugeChurnFor, "huge", time.Minute, "how long the slices of a huge service change")
	flag.StringVar(&b.profiles, "profiles", "", "write CPU and heap profiles to this `folder`")
	readme := flag.String("readme", "", "put the tables into this `file`, between its markers")
	command := flag.String("command", "make bench", "what the caption names as the command")
	strict := flag.Bool("strict", false, "fail if a budget is missed")
	flag.Parse()
	if *only == "list" {
		fmt.Println(strings.Join(keys(), "\n"))
		return nil
	}
	if *only != "" {
		b.only = map[string]bool{}
		for _, key := range strings.Fields(*only) {
			b.only[key] = true
		}
		for _, key := range keys() {
			delete(b.only, key)
		}
		if len(b.only) > 0 {
			return fmt.Errorf("rows %q: want some of %q", *only, keys())
		}
		for _, key := range strings.Fields(*only) {
			b.only[key] = true
		}
	}
	if b.dir, err = os.MkdirTemp("", "kubezone-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if b.profiles != "" {
		if b.profiles, err = filepath.Abs(b.profiles); err != nil {
			return err
		}
		if err := os.MkdirAll(b.profiles, 0o755); err != nil {
			return err
		}
	}
	if err := b.prepare(*ours); err != nil {
		return err
	}
	started := time.Now()
	r := new(report)
	if err := b.runAll(r); err != nil {
		return err
	}
	caption := fmt.Sprintf("Measured on %s with `%s` in %.0f minutes: %s. Medians of %d rounds (memory: %d) in which the sides take turns; "+
		"only ratios carry over to other machines.", time.Now().Format(time.DateOnly), *command, time.Since(started).Minutes(), machine(), b.rounds, b.memoryRounds())
	text := new(strings.Builder)
	r.write(text, caption)
	fmt.Print(text)
	fmt.Println()
	ok := r.summary(os.Stdout)
	if *readme != "" {
		if err := fill(*readme, text.String()); err != nil {
			return err
		}
		if err := plot(*readme); err != nil {
			return err
		}
	}
	if !ok && *strict {
		return errMissed
	}
	return nil
}

// keys are those that -rows knows.
func keys() []string {
	var list []string
	for _, r := range rows {
		list = append(list, r.key)
	}
	for _, z := range sizes {
		list = append(list, z.key)
	}
	for _, c := range new(bench).churns() {
		list = append(list, c.key)
	}
	for _, c := range crowds {
		list = append(list, c.key)
	}
	return list
}

func (b *bench) wants(key string) bool { return b.only == nil || b.only[key] }

func (b *bench) wantsQueries() bool {
	for _, r := range rows {
		if b.wants(r.key) {
			return true
		}
	}
	return false
}

func (b *bench) runAll(r *report) error {
	if b.wantsQueries() {
		results, err := b.queries()
		if err != nil {
			return err
		}
		r.addQueries(b.sides(), results)
	}
	sizes, err := b.memory()
	if err != nil {
		return err
	}
	r.addMemory(b.sides(), sizes)
	for _, c := range b.churns() {
		if !b.wants(c.key) {
			continue
		}
		results, err := b.churn(c)
		if err != nil {
			return err
		}
		r.addChurn(b.sides(), c, results)
	}
	for _, c := range crowds {
		if !b.wants(c.key) {
			continue
		}
		if os.Geteuid() != 0 {
			b.progress("%s is left out: a network namespace needs root", c.key)
			continue
		}
		results, err := b.crowd(c)
		if err != nil {
			return fmt.Errorf("testdns %d: %w", c.concurrency, err)
		}
		r.addCrowd(b.sides(), c, results)
	}
	return nil
}

// prepare copies our program, which others may build anew meanwhile, and builds what measures.
func (b *bench) prepare(ours string) error {
	var err error
	if b.stock, err = filepath.Abs(b.stock); err != nil {
		return err
	}
	if err := copyProgram(ours, b.program("coredns")); err != nil {
		return err
	}
	for _, name := range []string{"dnsperf", "knotd"} {
		if _, err := lookPath(name); err != nil {
			return err
		}
	}
	for name, folder := range map[string]string{"feeder": "./bench/feeder", "testdns": "./testdns"} {
		if output, err := exec.Command("go", "build", "-o", b.program(name), folder).CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w: %s", folder, err, output)
		}
	}
	return nil
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// program is where a program of this run is.
func (b *bench) program(name string) string { return filepath.Join(b.dir, name) }

// unique makes names of files differ.
func (b *bench) unique(name string) string {
	b.made[name]++
	return fmt.Sprintf("%s-%d", name, b.made[name])
}

func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// machine describes where the bench runs.
func machine() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "an unknown machine"
	}
	count, model := 0, "unknown CPU"
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			count++
			model = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(name), ":"))
		}
	}
	return fmt.Sprintf("%d cores of %s, which clients, servers and others share", count, model)
}

// The markers of the part of a file that belongs to the bench.
const (
	beginMarker = "<!-- make bench: begin -->\n"
	endMarker   = "<!-- make bench: end -->\n"
)

// fill puts the text between the markers of a file.
func fill(path, text string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(old), beginMarker)
	_, after, closed := strings.Cut(rest, endMarker)
	if !ok || !closed {
		return fmt.Errorf("%s: want the markers %q and %q", path, beginMarker, endMarker)
	}
	return os.WriteFile(path, []byte(before+beginMarker+"\n"+text+"\n"+endMarker+after), 0o644)
}
