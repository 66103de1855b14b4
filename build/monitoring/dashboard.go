package main

// chosen is the data source that is chosen at the top of the dashboard.
var chosen = Datasource{Type: "prometheus", UID: "${datasource}"}

// A query is an expression and what its series are called.
type query struct{ expr, legend string }

// A picture is a panel before it has a place.
type picture struct {
	kind, title, unit string
	about             string
	width             int
	max               float64  // 0 for none
	bad               *float64 // from this value on it is red; nil for never
	queries           []query
}

// A section is a row of the dashboard with what is below it.
type section struct {
	title    string
	pictures []picture
}

const (
	stat, graph = "stat", "timeseries"
	height      = 8 // of a picture
)

func from(value float64) *float64 { return &value }

// ours is the dashboard: first whether all is well, then what clients see, then each part.
func ours() *Dashboard {
	return lay([]section{
		{"Is all well", []picture{
			{stat, "Replicas that know everything", "short", "Replicas whose every kind of object is synced.", 4, 0, nil,
				[]query{{`count(min by (instance) (coredns_kubezone_synced{job=~"$job"}) == 1)`, ""}}},
			{stat, "Age of what is served", "s", "0 while the API server is followed. It grows while it is away, or from the age of a snapshot.", 4, 0, from(60),
				[]query{{`max(coredns_kubezone_data_age_seconds{job=~"$job"})`, ""}}},
			{stat, "SERVFAIL", "percentunit", "Share of all replies, over 5 minutes.", 4, 1, from(0.01),
				[]query{{`coredns:dns_responses_servfail:ratio_rate5m{job=~"$job"}`, ""}}},
			{stat, "Change to answer, p99", "s", "DNS programming latency: from a change in the cluster until it is answered. The objective is 1 s.", 4, 0, from(1),
				[]query{{`kubezone:dns_programming_duration_seconds:p99_rate5m{job=~"$job"}`, ""}}},
			{stat, "Shed", "ops", "Queries dropped because too many others wait for something slow.", 4, 0, from(0.001),
				[]query{{`sum(kubezone:shed:rate5m{job=~"$job"})`, ""}}},
			{stat, "Memory of the limit", "percentunit", "Resident memory beside GOMEMLIMIT, of the replica that is nearest to it.", 4, 1, from(0.9),
				[]query{{`max(kubezone:memory_limit:ratio{job=~"$job"})`, ""}}},
		}},
		{"What clients see", []picture{
			{graph, "Queries", "reqps", "By replica.", 8, 0, nil,
				[]query{{`sum by (instance) (rate(coredns_dns_requests_total{job=~"$job",instance=~"$instance"}[$__rate_interval]))`, "{{instance}}"}}},
			{graph, "Replies", "reqps", "By rcode.", 8, 0, nil,
				[]query{{`sum by (rcode) (rate(coredns_dns_responses_total{job=~"$job",instance=~"$instance"}[$__rate_interval]))`, "{{rcode}}"}}},
			{graph, "Time to reply", "s", "Quantiles over all queries, those that are forwarded included.", 8, 0, nil,
				[]query{
					{`histogram_quantile(0.5, sum by (le) (rate(coredns_dns_request_duration_seconds_bucket{job=~"$job",instance=~"$instance"}[$__rate_interval])))`, "p50"},
					{`histogram_quantile(0.99, sum by (le) (rate(coredns_dns_request_duration_seconds_bucket{job=~"$job",instance=~"$instance"}[$__rate_interval])))`, "p99"},
				}},
			{graph, "Queries by type", "reqps", "", 8, 0, nil,
				[]query{{`sum by (type) (rate(coredns_dns_requests_total{job=~"$job",instance=~"$instance"}[$__rate_interval]))`, "{{type}}"}}},
			{graph, "Outcomes in the cluster's zones", "reqps", "What queries in kubezone's zones came to, and why. A rise of no_such_service after a release is a wrong name in it.", 8, 0, nil,
				[]query{{`sum by (outcome, reason) (rate(coredns_kubezone_outcomes_total{job=~"$job",instance=~"$instance"}[$__rate_interval]))`, "{{outcome}} {{reason}}"}}},
			{graph, "Protocols", "reqps", "TCP means replies that did not fit, or clients that insist.", 8, 0, nil,
				[]query{{`sum by (proto) (rate(coredns_dns_requests_total{job=~"$job",instance=~"$instance"}[$__rate_interval]))`, "{{proto}}"}}},
		}},
		{"What is known of the cluster", []picture{
			{graph, "State", "short", "By kind, of how many replicas. Any but synced for longer than a moment wants a look at the API server.", 8, 0, nil,
				[]query{{`sum by (kind, state) (coredns_kubezone_state{job=~"$job",instance=~"$instance"}) > 0`, "{{kind}} {{state}}"}}},
			{graph, "Since the API server was last heard", "s", "It says something about once a minute even if nothing changes.", 8, 0, nil,
				[]query{{`max by (kind) (coredns_kubezone_last_event_age_seconds{job=~"$job",instance=~"$instance"})`, "{{kind}}"}}},
			{graph, "Objects", "short", "By kind. Replicas must agree.", 8, 0, nil,
				[]query{{`max by (kind) (coredns_kubezone_objects{job=~"$job",instance=~"$instance"})`, "{{kind}}"}}},
			{graph, "Change to answer", "s", "DNS programming latency, p50 and p99.", 8, 0, nil,
				[]query{
					{`histogram_quantile(0.5, sum by (le) (rate(coredns_kubezone_dns_programming_duration_seconds_bucket{job=~"$job",instance=~"$instance"}[$__rate_interval])))`, "p50"},
					{`histogram_quantile(0.99, sum by (le) (rate(coredns_kubezone_dns_programming_duration_seconds_bucket{job=~"$job",instance=~"$instance"}[$__rate_interval])))`, "p99"},
				}},
			{graph, "Lists and repairs", "short", "Full lists, objects that a watch had been silent about, and lists held back.", 8, 0, nil,
				[]query{
					{`sum by (kind) (increase(coredns_kubezone_relists_total{job=~"$job",instance=~"$instance"}[$__rate_interval]))`, "lists of {{kind}}"},
					{`sum by (kind) (increase(coredns_kubezone_drift_total{job=~"$job",instance=~"$instance"}[$__rate_interval]))`, "drift of {{kind}}"},
					{`sum by (kind) (coredns_kubezone_brake_engaged{job=~"$job",instance=~"$instance"})`, "brake on {{kind}}"},
				}},
			{graph, "Left out", "short", "Objects that are not valid, and snapshots that could not be read or written.", 8, 0, nil,
				[]query{
					{`sum by (kind) (increase(coredns_kubezone_skipped_objects_total{job=~"$job",instance=~"$instance"}[$__rate_interval]))`, "{{kind}}"},
					{`sum(increase(coredns_kubezone_snapshot_errors_total{job=~"$job",instance=~"$instance"}[$__rate_interval]))`, "snapshots"},
				}},
		}},
		{"The world outside", []picture{
			{graph, "Forwarded", "reqps", "By upstream and rcode.", 8, 0, nil,
				[]query{{`sum by (to, rcode) (rate(coredns_proxy_request_duration_seconds_count{job=~"$job",instance=~"$instance"}[$__rate_interval]))`, "{{to}} {{rcode}}"}}},
			{graph, "Time of upstreams, p99", "s", "", 8, 0, nil,
				[]query{{`histogram_quantile(0.99, sum by (to, le) (rate(coredns_proxy_request_duration_seconds_bucket{job=~"$job",instance=~"$instance"}[$__rate_interval])))`, "{{to}}"}}},
			{graph, "Cache hits", "percentunit", "Share of the queries that the cache sees; names of the cluster are not among them.", 8, 1, nil,
				[]query{{`sum(rate(coredns_cache_hits_total{job=~"$job",instance=~"$instance"}[$__rate_interval])) / sum(rate(coredns_cache_requests_total{job=~"$job",instance=~"$instance"}[$__rate_interval]))`, "hits"}}},
		}},
		{"The process", []picture{
			{graph, "Memory", "bytes", "Resident, and Go's limit.", 8, 0, nil,
				[]query{
					{`process_resident_memory_bytes{job=~"$job",instance=~"$instance"}`, "{{instance}}"},
					{`max(go_gc_gomemlimit_bytes{job=~"$job",instance=~"$instance"} < 2^62)`, "limit"},
				}},
			{graph, "CPU", "short", "Processors in use.", 8, 0, nil,
				[]query{{`rate(process_cpu_seconds_total{job=~"$job",instance=~"$instance"}[$__rate_interval])`, "{{instance}}"}}},
			{graph, "Goroutines", "short", "They grow with queries that wait.", 8, 0, nil,
				[]query{{`go_goroutines{job=~"$job",instance=~"$instance"}`, "{{instance}}"}}},
			{graph, "Batches", "short", "Packets per read of udpbatch: 1 at rest, more under load.", 8, 0, nil,
				[]query{{`sum by (instance) (rate(coredns_udpbatch_packets_total{job=~"$job",instance=~"$instance",socket="own"}[$__rate_interval])) / sum by (instance) (rate(coredns_udpbatch_batches_total{job=~"$job",instance=~"$instance"}[$__rate_interval]))`, "{{instance}}"}}},
			{graph, "Waiting", "short", "Queries that workers of udpbatch handle, and that wait for one.", 8, 0, nil,
				[]query{
					{`sum by (instance) (coredns_udpbatch_workers_busy{job=~"$job",instance=~"$instance"})`, "{{instance}} handled"},
					{`sum by (instance) (coredns_udpbatch_queue_length{job=~"$job",instance=~"$instance"})`, "{{instance}} waiting"},
				}},
			{graph, "Self-test", "s", "Time of the health plugin's request to itself: what a probe of a kubelet meets.", 8, 0, nil,
				[]query{{`histogram_quantile(0.99, sum by (instance, le) (rate(coredns_health_request_duration_seconds_bucket{job=~"$job",instance=~"$instance"}[$__rate_interval])))`, "{{instance}}"}}},
		}},
	})
}

// lay gives everything a place and an id.
func lay(sections []section) *Dashboard {
	d := &Dashboard{
		UID: "kubezone", Title: "kubezone", SchemaVersion: schemaVersion, Refresh: "30s", Tags: []string{"dns", "kubernetes"}, Editable: true,
		Description: "The DNS of a Kubernetes cluster, as kubezone serves it. The figures at the top come from the rules in build/monitoring/rules.yaml.",
		Time:        Range{"now-6h", "now"},
		Templating: Templating{[]Variable{
			{Name: "datasource", Label: "Data source", Type: "datasource", Query: "prometheus"},
			pick("job", "Job", `label_values(coredns_kubezone_state, job)`),
			pick("instance", "Replica", `label_values(coredns_kubezone_state{job=~"$job"}, instance)`),
		}},
	}
	y := 0
	for _, s := range sections {
		d.add(Panel{Type: "row", Title: s.title, GridPos: GridPos{0, y, columns, 1}})
		y++
		x := 0
		for _, p := range s.pictures {
			if x+p.width > columns {
				x, y = 0, y+height
			}
			d.add(p.at(GridPos{x, y, p.width, height}))
			x += p.width
		}
		y += height
	}
	return d
}

func (d *Dashboard) add(p Panel) {
	p.ID, p.Panels, p.FieldConfig.Overrides = len(d.Panels)+1, []Panel{}, []struct{}{}
	d.Panels = append(d.Panels, p)
}

// pick is a variable for the values of a label.
func pick(name, label, query string) Variable {
	return Variable{Name: name, Label: label, Type: "query", Query: query, Datasource: &chosen, Refresh: 2, Multi: true,
		IncludeAll: true, AllValue: ".*", Current: &Choice{"All", "$__all"}}
}

// at makes a panel of the picture.
func (p picture) at(place GridPos) Panel {
	if p.about == "" {
		p.about = p.title + "."
	}
	zero := 0.0
	panel := Panel{Type: p.kind, Title: p.title, Description: p.about, GridPos: place, Datasource: &chosen}
	panel.FieldConfig.Defaults = Defaults{Unit: p.unit, Min: &zero}
	if p.max > 0 {
		panel.FieldConfig.Defaults.Max = &p.max
	}
	if p.kind == stat {
		steps := []Step{{"green", nil}}
		if p.bad != nil {
			steps = append(steps, Step{"red", p.bad})
		}
		panel.FieldConfig.Defaults.Thresholds = &Thresholds{"absolute", steps}
		panel.Options = map[string]any{"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}}, "colorMode": "value", "graphMode": "area"}
	} else {
		panel.Options = map[string]any{"tooltip": map[string]string{"mode": "multi", "sort": "desc"}}
	}
	for i, q := range p.queries {
		panel.Targets = append(panel.Targets, Target{RefID: string(rune('A' + i)), Expr: q.expr, LegendFormat: q.legend, Datasource: chosen, Instant: p.kind == stat})
	}
	return panel
}
