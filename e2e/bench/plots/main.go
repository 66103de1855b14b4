// Command plots draws the tables of the benchmark in a Markdown file, such as the README, as SVG pictures in its own
// folder, and puts links to them into the file, between its markers. `make plots` runs it, and `make bench` where it
// writes tables. The same tables give the same pictures, octet for octet.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "plots:", err)
		os.Exit(1)
	}
}

// The markers of what belongs to the bench, and of what belongs here.
const (
	tablesBegin = "<!-- make bench: begin -->\n"
	tablesEnd   = "<!-- make bench: end -->\n"
	linksBegin  = "<!-- make plots: begin -->\n"
	linksEnd    = "<!-- make plots: end -->\n"
)

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("arguments %q: want one file", args)
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	charts, err := chartsOf(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	for _, c := range charts {
		picture, err := c.svg()
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if err := os.WriteFile(c.name+".svg", picture, 0o644); err != nil {
			return err
		}
	}
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	file, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	folder, err := filepath.Rel(filepath.Dir(file), here)
	if err != nil {
		return err
	}
	linked, err := withLinks(string(text), filepath.ToSlash(folder), charts)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return os.WriteFile(args[0], []byte(linked), 0o644)
}

// chartsOf makes charts of the tables of a file.
func chartsOf(text string) ([]chart, error) {
	tables, err := between(text, tablesBegin, tablesEnd)
	if err != nil {
		return nil, err
	}
	var charts []chart
	for _, t := range parse(tables) {
		c, ok, err := t.chart()
		if err != nil {
			return nil, fmt.Errorf("%q: %w", t.title, err)
		}
		if ok {
			charts = append(charts, c)
		}
	}
	if len(charts) == 0 {
		return nil, fmt.Errorf("no table that can be drawn")
	}
	return charts, nil
}

// withLinks is the file with links to the pictures in folder.
func withLinks(text, folder string, charts []chart) (string, error) {
	old, err := between(text, linksBegin, linksEnd)
	if err != nil {
		return "", err
	}
	links := "\n"
	for _, c := range charts {
		links += fmt.Sprintf("![%s](%s/%s.svg)\n\n", c.title, folder, c.name)
	}
	return strings.Replace(text, linksBegin+old+linksEnd, linksBegin+links+linksEnd, 1), nil
}

func between(text, begin, end string) (string, error) {
	_, rest, found := strings.Cut(text, begin)
	inside, _, closed := strings.Cut(rest, end)
	if !found || !closed {
		return "", fmt.Errorf("want the markers %q and %q", begin, end)
	}
	return inside, nil
}
