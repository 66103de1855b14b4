package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/kubezone/kubezone/e2e/bench/population"
)

func TestParseDnsperf(t *testing.T) {
	f, err := parseDnsperf(`Statistics:

  Queries sent:         1010
  Queries completed:    1000 (99.01%)
  Queries lost:         10 (0.99%)

  Response codes:       NOERROR 990 (99.00%), NXDOMAIN 10 (1.00%)
  Average packet size:  request 40, response 100
  Run time (s):         2.000000
  Queries per second:   500.250000
`)
	if err != nil {
		t.Fatal(err)
	}
	if f.answered != 1000 || f.lost != 10 || f.rate != 500.25 || f.rcodes["NOERROR"] != 990 || f.rcodes["NXDOMAIN"] != 10 {
		t.Errorf("got %+v", f)
	}
	if _, err := parseDnsperf("Error: no server"); err == nil {
		t.Error("no error for an output without a result")
	}
}

func TestQuantile(t *testing.T) {
	var s sample
	for i := range 1000 {
		s.took = append(s.took, time.Duration(1000-i)*time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0: time.Millisecond, 0.5: 501 * time.Millisecond, 0.999: 1000 * time.Millisecond} {
		if got := s.quantile(q); got != want {
			t.Errorf("quantile %v: %v; want %v", q, got, want)
		}
	}
	s.lost = 1000
	if got := s.quantile(0.6); got != answerWithin {
		t.Errorf("quantile 0.6 with every second answer lost: %v; want %v", got, answerWithin)
	}
}

func TestRatioIsThatOfTurns(t *testing.T) {
	// The second round was slow for both sides alike.
	if got := ratio([]float64{1, 10, 1.1}, []float64{2, 20, 2.2}); got != 0.5 {
		t.Errorf("ratio %v; want 0.5", got)
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.00431: "0.0043", 0.452: "0.45", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 1234567: "1,234,567"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q; want %q", v, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	var text strings.Builder
	(&table{title: "Title:", head: []string{"a", "b"}, rows: [][]string{{"1", "2"}}}).write(&text)
	if want := "\nTitle:\n\n| a | b |\n| :-- | --: |\n| 1 | 2 |\n"; text.String() != want {
		t.Errorf("got %q; want %q", text.String(), want)
	}
}

// A service of 20,000 endpoints in slices of 20 takes 1,000 slice updates a second: every one of them shows, and other
// names are answered all the while. How soon is measured by `make long`, which has the machine for itself.
func TestHugeServiceFollowsItsSlices(t *testing.T) {
	ours := os.Getenv("KUBEZONE_BIN")
	if ours == "" {
		ours = "../../bin/coredns"
	}
	b := &bench{dir: t.TempDir(), made: map[string]int{}}
	if err := copyProgram(ours, b.program("coredns")); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command("go", "build", "-o", b.program("feeder"), "./feeder").CombinedOutput(); err != nil {
		t.Fatalf("go build ./feeder: %v: %s", err, output)
	}
	c := churn{
		key: "churn", name: "test", population: "churn", service: population.Huge,
		rate: 1000, duration: 8 * time.Second, patience: 20 * time.Second,
	}
	result, err := b.runChurn(c, side{name: oursName, binary: b.program("coredns")})
	if err != nil {
		t.Fatal(err)
	}
	if lost := result.programming.lost; lost > 0 {
		t.Errorf("%d of %d changes did not show", lost, lost+len(result.programming.took))
	}
	if result.busy.wrong > 0 {
		t.Errorf("%d answers about other names were wrong", result.busy.wrong)
	}
	t.Logf("changes show after %s ms, other names are answered in %s ms (p50 / p99 / p99.9)", quantiles(&result.programming), quantiles(&result.busy))
}
