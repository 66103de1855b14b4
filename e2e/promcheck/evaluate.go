package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
)

// An evaluator is a Prometheus that scrapes and evaluates when it is told to, in a time of its own.
type evaluator struct {
	groups  []rulefmt.RuleGroup
	engine  *promql.Engine
	memory  *memory
	now     time.Time
	since   map[string]map[string]time.Time // by alert and labels: since when its expression has had this series
	verdict Verdict
}

func newEvaluator(groups []rulefmt.RuleGroup) *evaluator {
	return &evaluator{
		groups: groups,
		engine: promql.NewEngine(promql.EngineOpts{
			MaxSamples: 10_000_000, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, EnableAtModifier: true,
			EnableNegativeOffset: true, Parser: language,
		}),
		memory:  newMemory(),
		now:     time.Unix(1_700_000_000, 0),
		since:   map[string]map[string]time.Time{},
		verdict: Verdict{Records: map[string]int{}, Queries: map[string]int{}, Alerts: map[string]string{}},
	}
}

// scrape takes a page of metrics in, one interval after the last. Series that are gone end.
func (e *evaluator) scrape(page []byte) error {
	e.now = e.now.Add(scrapeInterval)
	samples, err := textparse.New(page, "text/plain; version=0.0.4", nil, textparse.ParserOptions{})
	if err != nil {
		return err
	}
	var readings []reading
	for {
		entry, err := samples.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if entry != textparse.EntrySeries {
			continue
		}
		_, _, value := samples.Series()
		var set labels.Labels
		samples.Labels(&set)
		readings = append(readings, reading{target(set), value})
	}
	e.memory.write("page", e.now, readings)
	return nil
}

// target adds the labels of the scraped server.
func target(set labels.Labels) labels.Labels {
	b := labels.NewBuilder(set)
	b.Set("job", "kube-dns")
	b.Set("instance", "192.0.2.1:9153")
	return b.Labels()
}

// evaluate runs every rule once.
func (e *evaluator) evaluate() error {
	for _, group := range e.groups {
		for _, rule := range group.Rules {
			found, err := e.query(rule.Expr)
			if err != nil {
				return fmt.Errorf("%s%s: %w", rule.Record, rule.Alert, err)
			}
			if rule.Record != "" {
				e.record(rule, found)
			} else {
				e.alert(rule, found)
			}
		}
	}
	return nil
}

func (e *evaluator) record(rule rulefmt.Rule, found promql.Vector) {
	e.verdict.Records[rule.Record] = len(found)
	var readings []reading
	for _, sample := range found {
		b := labels.NewBuilder(sample.Metric)
		b.Set(model.MetricNameLabel, rule.Record)
		for name, value := range rule.Labels {
			b.Set(name, value)
		}
		readings = append(readings, reading{b.Labels(), sample.F})
	}
	e.memory.write(rule.Record, e.now, readings)
}

// alert keeps what has been there for how long: pending at once, firing after the time in `for`.
func (e *evaluator) alert(rule rulefmt.Rule, found promql.Vector) {
	before, now := e.since[rule.Alert], map[string]time.Time{}
	if e.verdict.Alerts[rule.Alert] == "" {
		e.verdict.Alerts[rule.Alert] = "inactive"
	}
	for _, sample := range found {
		key := sample.Metric.String()
		since, there := before[key]
		if !there {
			since = e.now
		}
		now[key] = since
		switch {
		case e.now.Sub(since) >= time.Duration(rule.For):
			e.verdict.Alerts[rule.Alert] = "firing"
		case e.verdict.Alerts[rule.Alert] == "inactive":
			e.verdict.Alerts[rule.Alert] = "pending"
		}
	}
	e.since[rule.Alert] = now
}

// show evaluates what the dashboard shows at the end.
func (e *evaluator) show(queries []query) error {
	for _, q := range queries {
		found, err := e.query(q.expr)
		if err != nil {
			return fmt.Errorf("%s: %w", q.name, err)
		}
		e.verdict.Queries[q.name] = len(found)
	}
	return nil
}

// query has Prometheus's engine evaluate an expression now.
func (e *evaluator) query(expr string) (promql.Vector, error) {
	q, err := e.engine.NewInstantQuery(context.Background(), e.memory, nil, expr, e.now)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	result := q.Exec(context.Background())
	if result.Err != nil {
		return nil, result.Err
	}
	found, err := result.Vector()
	if err != nil {
		return nil, err
	}
	return append(promql.Vector(nil), found...), nil // the engine uses it again
}
