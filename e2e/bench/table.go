package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// median is 0 for nothing.
func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// ratio is the median of the ratios of each round: what slows down a whole round does not count.
func ratio(list, stock []float64) float64 {
	var ratios []float64
	for i := range min(len(list), len(stock)) {
		if stock[i] != 0 {
			ratios = append(ratios, list[i]/stock[i])
		}
	}
	return median(ratios)
}

// number writes three significant digits.
func number(v float64) string {
	switch {
	case v == 0 || math.Abs(v) >= 99.95:
		return thousands(fmt.Sprintf("%.0f", v))
	case math.Abs(v) >= 9.995:
		return fmt.Sprintf("%.1f", v)
	case math.Abs(v) >= 0.0995:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.4f", v)
}

func thousands(digits string) string {
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// A table is one of Markdown.
type table struct {
	title string
	head  []string
	rows  [][]string
}

func (t *table) write(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n\n", t.title)
	line := func(cells []string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.head)
	rule := slices.Repeat([]string{"--:"}, len(t.head))
	rule[0] = ":--"
	line(rule)
	for _, r := range t.rows {
		line(r)
	}
}

// A verdict is what came of a budget.
type verdict struct {
	what        string
	ratio, most float64
}

func (v verdict) holds() bool { return v.ratio <= v.most }

// report turns what was found into tables and verdicts.
type report struct {
	tables   []table
	verdicts []verdict
	faults   []string // answers that were wrong or missing where none may be
}

func (r *report) budget(what string, ratio, most float64) string {
	if most == 0 {
		return ""
	}
	v := verdict{what, ratio, most}
	r.verdicts = append(r.verdicts, v)
	if v.holds() {
		return fmt.Sprintf("%s, held", number(most))
	}
	return fmt.Sprintf("%s, **missed**", number(most))
}

// names are those of the sides that have a result, the first being compared with.
func names[T any](sides []side, results ...map[string]T) []string {
	var list []string
	for _, s := range sides {
		if slices.ContainsFunc(results, func(r map[string]T) bool { _, ok := r[s.name]; return ok }) {
			list = append(list, s.name)
		}
	}
	return list
}

func (r *report) addQueries(sides []side, results []*rowResult) {
	if len(results) == 0 {
		return
	}
	var found []map[string]*queryResult
	for _, result := range results {
		found = append(found, result.sides)
	}
	all := names(sides, found...)
	cpu := table{title: "CPU time of the server per query, in microseconds, and in brackets beside CoreDNS 1.15.0:",
		head: append(append([]string{"question"}, all...), "budget")}
	rate := table{title: "Answered queries a second, as many as client and server manage on the machine they share:",
		head: append([]string{"question"}, all...)}
	latency := table{title: "Latency at a fixed rate, p50 / p99 / p99.9 in milliseconds:",
		head: append([]string{"question", "queries/s"}, all...)}
	for _, result := range results {
		stock := result.sides[all[0]]
		cpuRow, rateRow := []string{result.row.name}, []string{result.row.name}
		latencyRow := []string{result.row.name, number(result.rate)}
		for _, name := range all {
			q := result.sides[name]
			if q == nil {
				cpuRow, rateRow, latencyRow = append(cpuRow, "-"), append(rateRow, "-"), append(latencyRow, "-")
				continue
			}
			text := number(median(q.cpu))
			if name != all[0] {
				text += fmt.Sprintf(" (%s)", number(ratio(q.cpu, stock.cpu)))
			}
			cpuRow = append(cpuRow, text)
			rateRow = append(rateRow, number(median(q.rate)))
			latencyRow = append(latencyRow, quantiles(&q.latency))
			if q.wrong > 0 {
				r.faults = append(r.faults, fmt.Sprintf("%s, %s: %d answers with a wrong rcode", result.row.name, name, q.wrong))
			}
		}
		var budgets []string
		for _, budget := range result.row.budgets {
			if q := result.sides[budget.side]; q != nil {
				budgets = append(budgets, r.budget(result.row.name+", CPU, "+budget.side, ratio(q.cpu, stock.cpu), budget.most))
			}
		}
		cpu.rows = append(cpu.rows, append(cpuRow, strings.Join(budgets, "; ")))
		rate.rows = append(rate.rows, rateRow)
		latency.rows = append(latency.rows, latencyRow)
	}
	r.tables = append(r.tables, cpu, rate, latency)
}

func quantiles(s *sample) string {
	if len(s.took) == 0 {
		return "-"
	}
	ms := func(q float64) string { return number(float64(s.quantile(q)) / float64(time.Millisecond)) }
	text := ms(0.5) + " / " + ms(0.99) + " / " + ms(0.999)
	if s.lost > 0 {
		text += fmt.Sprintf(", %d lost", s.lost)
	}
	return text
}

func (r *report) addMemory(sides []side, results []*sizeResult) {
	for _, result := range results {
		all := names(sides, result.sides)
		t := table{title: result.size.name + ":", head: append(append([]string{""}, all...), "ratio", "budget")}
		stock, ours := result.sides[all[0]], result.sides[all[len(all)-1]]
		const mib = 1 << 20
		for _, line := range []struct {
			name  string
			unit  float64
			of    func(*memoryResult) []float64
			limit float64
		}{
			{"from start to right answers, s", 1, func(m *memoryResult) []float64 { return m.ready }, 0},
			{"pulled from the API server, MiB", mib, func(m *memoryResult) []float64 { return m.pulled }, 0},
			{"peak RSS up to then, MiB", mib, func(m *memoryResult) []float64 { return m.syncPeak }, result.size.budgets.syncPeak},
			{"RSS 10 s later, MiB", mib, func(m *memoryResult) []float64 { return m.rss }, result.size.budgets.rss},
			{"peak RSS when the API server restarts, MiB", mib, func(m *memoryResult) []float64 { return m.relistPeak }, result.size.budgets.relistPeak},
			{"the same, every object changed meanwhile, MiB", mib, func(m *memoryResult) []float64 { return m.rewritePeak }, 0},
			{"Go heap after a collection, MiB", mib, func(m *memoryResult) []float64 { return m.heap }, result.size.budgets.heap},
			{"the same, spans in use, MiB", mib, func(m *memoryResult) []float64 { return m.inUse }, 0},
		} {
			row := []string{line.name}
			for _, name := range all {
				row = append(row, number(median(line.of(result.sides[name]))/line.unit))
			}
			q := ratio(line.of(ours), line.of(stock))
			t.rows = append(t.rows, append(row, number(q), r.budget(result.size.name+", "+line.name, q, line.limit)))
		}
		row := []string{"SERVFAIL, NXDOMAIN or no answer during restarts"}
		for _, name := range all {
			m := result.sides[name]
			row = append(row, fmt.Sprintf("%d of %s", m.wrong, number(float64(m.asked))))
			if m.wrong > 0 && name != all[0] {
				r.faults = append(r.faults, fmt.Sprintf("%s, %s: %d wrong answers during restarts, the first: %s", result.size.name, name, m.wrong, m.firstWrong))
			}
		}
		t.rows = append(t.rows, append(row, "", ""))
		r.tables = append(r.tables, t)
	}
}

func (r *report) addChurn(sides []side, c churn, results map[string]*churnResult) {
	all := names(sides, results)
	t := table{title: "From a change in the API to the changed answer, " + c.name + ", in milliseconds:",
		head: append([]string{""}, all...)}
	for _, line := range []struct {
		name string
		of   func(*churnResult) string
	}{
		{"p50 / p99 / p99.9", func(c *churnResult) string { return quantiles(&c.programming) }},
		{"longest", func(c *churnResult) string { return number(float64(c.programming.quantile(1-1e-9)) / 1e6) }},
		{"CPU of the server, cores", func(c *churnResult) string { return number(c.cpu) }},
		{"queries for other names before, p50 / p99 / p99.9", func(c *churnResult) string { return quantiles(&c.calm) }},
		{"queries for other names meanwhile, p50 / p99 / p99.9", func(c *churnResult) string { return quantiles(&c.busy) }},
		{"the same, of a second server whose cluster is at rest", func(c *churnResult) string { return quantiles(&c.control) }},
	} {
		row := []string{line.name}
		for _, name := range all {
			row = append(row, line.of(results[name]))
		}
		t.rows = append(t.rows, row)
	}
	r.tables = append(r.tables, t)
	stock, ours := results[all[0]], results[all[len(all)-1]]
	p99 := func(s *sample) float64 { return float64(s.quantile(0.99)) / float64(time.Millisecond) }
	if c.key == "programming" {
		const (
			most  = 100 // milliseconds
			noise = 1.2 // what p99 of equal servers differs by here: the budget is 1
		)
		r.verdicts = append(r.verdicts, verdict{c.name + ", p99 beside stock's", p99(&ours.programming) / p99(&stock.programming), noise},
			verdict{c.name + ", p99 in ms", p99(&ours.programming), most})
	}
	if c.control {
		const noise = 1.5 // what p99 of equal servers differs by on a machine that clients share
		r.verdicts = append(r.verdicts, verdict{c.name + ", p99 of other names beside a server at rest", p99(&ours.busy) / p99(&ours.control), noise})
	}
	if c.within > 0 {
		longest := ours.programming.quantile(1 - 1e-9)
		if ours.programming.lost > 0 || longest > c.within {
			r.faults = append(r.faults, fmt.Sprintf("%s: %d changes not seen, the slowest after %v", c.name, ours.programming.lost, longest))
		}
	}
}

func (r *report) addCrowd(sides []side, c crowd, results map[string]*crowdResult) {
	all := names(sides, results)
	t := table{title: fmt.Sprintf("`testdns`, %d lookups at a time through a pod's resolv.conf (A and AAAA each):", c.concurrency),
		head: []string{"", "lookups", "errors", "lookups/s", "avg ms", "max ms", fmt.Sprintf("over %d ms", overLimit.Milliseconds())}}
	for _, name := range all {
		q := results[name]
		t.rows = append(t.rows, []string{name, number(float64(q.requests)), number(float64(q.errors)), number(median(q.perSecond)),
			number(median(q.average)), number(q.most), number(float64(q.over))})
		if q.errors > 0 && name != all[0] {
			r.faults = append(r.faults, fmt.Sprintf("testdns %d, %s: %d errors", c.concurrency, name, q.errors))
		}
	}
	r.tables = append(r.tables, t)
}

// write writes everything in Markdown.
func (r *report) write(w io.Writer, caption string) {
	fmt.Fprintln(w, caption)
	for i := range r.tables {
		r.tables[i].write(w)
	}
}

// summary tells what does not hold; it returns whether all does.
func (r *report) summary(w io.Writer) bool {
	ok := len(r.faults) == 0
	for _, v := range r.verdicts {
		word := "held  "
		if !v.holds() {
			word, ok = "MISSED", false
		}
		fmt.Fprintf(w, "%s %s: %s, at most %s\n", word, v.what, number(v.ratio), number(v.most))
	}
	for _, f := range r.faults {
		fmt.Fprintln(w, "WRONG ", f)
	}
	return ok
}
