package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const readme = "../../../README.md"

// The pictures and the links in the README are those of its tables.
func TestPlotsAreInStep(t *testing.T) {
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	charts, err := chartsOf(string(text))
	if err != nil {
		t.Fatal(err)
	}
	linked, err := withLinks(string(text), "e2e/bench/plots", charts)
	if err != nil {
		t.Fatal(err)
	}
	if linked != string(text) {
		t.Error("the links in the README are not those of its tables; run `make plots`")
	}
	for _, c := range charts {
		want, err := c.svg()
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(c.name + ".svg")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s.svg is not a picture of the table in the README; run `make plots`", c.name)
		}
	}
	pictures, err := filepath.Glob("*.svg")
	if err != nil || len(pictures) != len(charts) {
		t.Errorf("pictures %q, %v; want %d", pictures, err, len(charts))
	}
}

// A recorded result, as the bench writes it.
const recorded = "before\n" + tablesBegin + `
Measured on a day.

CPU time of the server per query, in microseconds, and in brackets beside CoreDNS 1.15.0:

| question | CoreDNS 1.15.0 | kubezone | Knot | budget |
| :-- | --: | --: | --: | --: |
| ClusterIP A | 22.6 | 17.4 (0.77) | 5.66 (0.25) | 0.85, held |
| headless of 5,000, A over UDP | 3,849 | 28.6 (0.0074) | - | 0.0050, **missed** |

Latency at a fixed rate, p50 / p99 / p99.9 in milliseconds:

| question | queries/s | CoreDNS 1.15.0 | kubezone |
| :-- | --: | --: | --: |
| ClusterIP A | 5,000 | 0.0672 / 1.51 / 3.26, 7 lost | 0.0566 / 0.22 / 1.31 |

Something else that is not drawn:

| a | b |
| :-- | --: |
| 1 | 2 |

` + tablesEnd + "between\n" + linksBegin + "old\n" + linksEnd + "after\n"

func TestChartsOf(t *testing.T) {
	charts, err := chartsOf(recorded)
	if err != nil {
		t.Fatal(err)
	}
	if len(charts) != 2 || charts[0].name != "cpu" || charts[1].name != "latency" {
		t.Fatalf("charts %+v; want cpu and latency", charts)
	}
	cpu := charts[0]
	if len(cpu.labels) != 2 || len(cpu.series) != 3 || cpu.series[0].points[1] != (point{1, 3849}) ||
		cpu.series[1].points[0] != (point{0, 17.4}) || len(cpu.series[2].points) != 1 {
		t.Errorf("cpu is %+v", cpu)
	}
	if latency := charts[1]; latency.series[0].points[0].value != 1.51 || latency.series[1].points[0].value != 0.22 {
		t.Errorf("latency is %+v; want p99", latency)
	}
	linked, err := withLinks(recorded, "there", charts)
	if err != nil {
		t.Fatal(err)
	}
	if want := linksBegin + "\n![CPU time per query](there/cpu.svg)\n\n![Latency at a fixed rate, p99](there/latency.svg)\n\n" + linksEnd + "after\n"; !strings.HasSuffix(linked, want) {
		t.Errorf("links %q; want %q at the end", linked, want)
	}
}

// A picture is XML with every label and side in it, and the same each time.
func TestSVG(t *testing.T) {
	charts, err := chartsOf(recorded)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range charts {
		first, err := c.svg()
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if again, _ := c.svg(); !bytes.Equal(first, again) {
				t.Fatalf("%s differs when it is drawn again", c.name)
			}
		}
		var words strings.Builder
		for d := xml.NewDecoder(bytes.NewReader(first)); ; {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if text, ok := token.(xml.CharData); ok {
				words.Write(text)
			}
		}
		want := append([]string{c.title, c.axis}, c.labels...)
		for _, s := range c.series {
			want = append(want, s.name)
		}
		for _, word := range want {
			if !strings.Contains(words.String(), word) {
				t.Errorf("%s does not say %q", c.name, word)
			}
		}
	}
}

func TestBrokenTables(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"no markers", "nothing", "want the markers"},
		{"no table", tablesBegin + tablesEnd, "no table"},
		{"no number", strings.Replace(recorded, "22.6", "much", 1), `row "ClusterIP A", CoreDNS 1.15.0: "much"`},
		{"no p99", strings.Replace(recorded, "0.0566 / 0.22 / 1.31", "0.0566", 1), "want 2 parts"},
		{"no side", strings.NewReplacer("CoreDNS 1.15.0 |", "x |", "kubezone |", "y |", "Knot |", "z |").Replace(recorded), "want some of"},
	} {
		if _, err := chartsOf(test.text); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want %q", test.name, err, test.want)
		}
	}
}
