// Command promcheck evaluates the Prometheus rules and the queries of the Grafana dashboard, as Prometheus does, on pages
// of metrics that a server offered, and prints what came of each as JSON.
//
//	promcheck RULES DASHBOARD FOLDER
//
// The files in FOLDER are the pages of one server, in the order of their names, each scraped 15 s after the one before.
// It is a module of its own, so that nothing else has Prometheus's dependencies.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	scrapeInterval = 15 * time.Second
	evaluateEvery  = scrapeInterval // Prometheus's default is once a minute, which tells less

	// What Grafana puts in the place of $__rate_interval: four scrapes.
	rateInterval = 4 * scrapeInterval
)

// A Verdict is what came of everything.
type Verdict struct {
	Records map[string]int    // by name: how many series there were at the end
	Queries map[string]int    // of the dashboard, by panel and query
	Alerts  map[string]string // by name: "firing", "pending" or "inactive", the most that it came to
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "promcheck:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("arguments %q: want the rules, the dashboard, and a folder of pages", args)
	}
	groups, err := readRules(args[0])
	if err != nil {
		return err
	}
	queries, err := readDashboard(args[1])
	if err != nil {
		return err
	}
	pages, err := filepath.Glob(filepath.Join(args[2], "*"))
	if err != nil {
		return err
	}
	if len(pages) == 0 {
		return fmt.Errorf("%s: no pages", args[2])
	}
	e := newEvaluator(groups)
	for _, path := range pages {
		page, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := e.scrape(page); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := e.evaluate(); err != nil {
			return err
		}
	}
	if err := e.show(queries); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(e.verdict)
}
