package main

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// A memory holds samples. It is the storage of a Prometheus that lives for seconds.
type memory struct {
	series map[string]*series
	last   map[string]map[string]bool // by source: the series of its last write
}

type series struct {
	labels  labels.Labels
	samples []chunks.Sample
}

// A reading is the value of a series.
type reading struct {
	labels labels.Labels
	value  float64
}

func newMemory() *memory {
	return &memory{series: map[string]*series{}, last: map[string]map[string]bool{}}
}

// write takes what a source, a page or a rule, says at a time. What it said the time before and does not now is stale.
func (m *memory) write(source string, now time.Time, readings []reading) {
	said := map[string]bool{}
	for _, r := range readings {
		key := r.labels.String()
		if m.series[key] == nil {
			m.series[key] = &series{labels: r.labels}
		}
		m.add(key, now, r.value)
		said[key] = true
	}
	for key := range m.last[source] {
		if !said[key] {
			m.add(key, now, math.Float64frombits(value.StaleNaN))
		}
	}
	m.last[source] = said
}

func (m *memory) add(key string, now time.Time, v float64) {
	s := m.series[key]
	s.samples = append(s.samples, sample{now.UnixMilli(), v})
}

// Querier implements storage.Queryable.
func (m *memory) Querier(from, to int64) (storage.Querier, error) {
	return &view{memory: m, from: from, to: to}, nil
}

// A view is the memory in a span of time.
type view struct {
	memory   *memory
	from, to int64
}

// Select implements storage.Querier.
func (v *view) Select(_ context.Context, sorted bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	var list []storage.Series
	for _, s := range v.memory.series {
		if !matches(s.labels, matchers) {
			continue
		}
		within := slices.DeleteFunc(slices.Clone(s.samples), func(s chunks.Sample) bool { return s.T() < v.from || s.T() > v.to })
		if len(within) > 0 {
			list = append(list, storage.NewListSeries(s.labels, within))
		}
	}
	if sorted {
		slices.SortFunc(list, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	}
	return &set{list: list, at: -1}
}

func matches(set labels.Labels, matchers []*labels.Matcher) bool {
	return !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(set.Get(m.Name)) })
}

// LabelValues implements storage.LabelQuerier; no expression asks.
func (*view) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

// LabelNames implements storage.LabelQuerier; no expression asks.
func (*view) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

// Close implements storage.LabelQuerier.
func (*view) Close() error { return nil }

// A set goes through series.
type set struct {
	list []storage.Series
	at   int
}

func (s *set) Next() bool                        { s.at++; return s.at < len(s.list) }
func (s *set) At() storage.Series                { return s.list[s.at] }
func (s *set) Err() error                        { return nil }
func (s *set) Warnings() annotations.Annotations { return nil }

// A sample is a number at a time.
type sample struct {
	t int64
	v float64
}

func (s sample) T() int64                    { return s.t }
func (s sample) F() float64                  { return s.v }
func (sample) ST() int64                     { return 0 }
func (sample) H() *histogram.Histogram       { return nil }
func (sample) FH() *histogram.FloatHistogram { return nil }
func (sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample         { return s }
