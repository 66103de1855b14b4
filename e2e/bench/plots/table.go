package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A table is one of Markdown, below the line that says what it shows.
type table struct {
	title string
	head  []string
	rows  [][]string
}

// parse reads the tables of a text.
func parse(text string) []table {
	var tables []table
	title, inside := "", false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			inside = false
			if line != "" {
				title = line
			}
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case !inside:
			tables = append(tables, table{title: strings.TrimSuffix(title, ":"), head: cells})
		case !strings.HasPrefix(cells[0], ":--"):
			last := &tables[len(tables)-1]
			last.rows = append(last.rows, cells)
		}
		inside = true
	}
	return tables
}

// A way of drawing a kind of table.
type way struct {
	begins string // its title
	name   string // of the file
	title  string
	axis   string
	part   int // of cells such as "p50 / p99 / p99.9", the one to draw
}

var ways = []way{
	{"CPU time of the server per query", "cpu", "CPU time per query", "microseconds, to the left is better", 0},
	{"Answered queries a second", "rate", "Queries a second", "answered queries a second, to the right is better", 0},
	{"Latency at a fixed rate", "latency", "Latency at a fixed rate, p99", "milliseconds, to the left is better", 1},
}

// sides are the columns that are drawn, in the order of their colours. What is not a side, such as a budget, has none.
var sides = []string{"CoreDNS 1.15.0", "kubezone", "kubezone, udpbatch", "Knot"}

// chart makes a chart of the table, if there is a way to.
func (t table) chart() (c chart, ok bool, err error) {
	for _, w := range ways {
		if strings.HasPrefix(t.title, w.begins) {
			c, err = t.drawn(w)
			return c, true, err
		}
	}
	return c, false, nil
}

func (t table) drawn(w way) (chart, error) {
	c := chart{name: w.name, title: w.title, axis: w.axis}
	for _, row := range t.rows {
		c.labels = append(c.labels, row[0])
	}
	for _, side := range sides {
		column := slices.Index(t.head, side)
		if column < 0 {
			continue
		}
		s := series{name: side}
		for i, row := range t.rows {
			if column >= len(row) {
				return c, fmt.Errorf("row %q has %d cells; want %d", row[0], len(row), len(t.head))
			}
			if row[column] == "-" {
				continue // the side has no such answer
			}
			v, err := number(row[column], w.part)
			if err != nil {
				return c, fmt.Errorf("row %q, %s: %w", row[0], side, err)
			}
			s.points = append(s.points, point{row: i, value: v})
		}
		c.series = append(c.series, s)
	}
	if len(c.series) == 0 {
		return c, fmt.Errorf("columns %q; want some of %q", t.head, sides)
	}
	return c, nil
}

// number reads a cell: "1,234 (0.5)" is 1234, and of "1 / 2 / 3, 4 lost" part 1 is 2.
func number(cell string, part int) (float64, error) {
	parts := strings.Split(cell, " / ")
	if part >= len(parts) {
		return 0, fmt.Errorf("%q: want %d parts or more", cell, part+1)
	}
	word, _, _ := strings.Cut(parts[part], " ")
	v, err := strconv.ParseFloat(strings.ReplaceAll(strings.TrimSuffix(word, ","), ",", ""), 64)
	if err != nil || v <= 0 {
		return 0, fmt.Errorf("%q: want a number above 0", cell)
	}
	return v, nil
}
