package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestDashboardIsInStep(t *testing.T) {
	want, err := ours().JSON()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("dashboard.json is not what this program writes; run `make dashboard`")
	}
}

// Whatever Grafana would not take is refused.
func TestCheck(t *testing.T) {
	for _, test := range []struct {
		name, want string
		spoil      func(*Dashboard)
	}{
		{"no uid", "uid", func(d *Dashboard) { d.UID = "" }},
		{"an old schema", "schemaVersion", func(d *Dashboard) { d.SchemaVersion = 16 }},
		{"no data source", "no variable for the data source", func(d *Dashboard) { d.Templating.List = d.Templating.List[1:] }},
		{"a variable twice", "twice", func(d *Dashboard) { d.Templating.List[1].Name = "instance" }},
		{"an id twice", "id 2", func(d *Dashboard) { d.Panels[2].ID = 2 }},
		{"no id", "id 0", func(d *Dashboard) { d.Panels[1].ID = 0 }},
		{"an overlap", "overlap", func(d *Dashboard) { d.Panels[2].GridPos.X-- }},
		{"out of the grid", "not on the grid", func(d *Dashboard) { d.Panels[6].GridPos.W++ }},
		{"no title", "no title", func(d *Dashboard) { d.Panels[1].Title = "" }},
		{"no description", "no description", func(d *Dashboard) { d.Panels[1].Description = "" }},
		{"an unknown unit", "unit", func(d *Dashboard) { d.Panels[1].FieldConfig.Defaults.Unit = "octets" }},
		{"no query", "no query", func(d *Dashboard) { d.Panels[1].Targets = nil }},
		{"the same query id", "id of its own", func(d *Dashboard) {
			d.Panels[1].Targets = append(d.Panels[1].Targets, d.Panels[1].Targets...)
		}},
		{"another data source", "want the variable", func(d *Dashboard) { d.Panels[1].Targets[0].Datasource.UID = "x" }},
		{"an unknown variable", "no variable $pod", func(d *Dashboard) { d.Panels[1].Targets[0].Expr = `up{pod="$pod"}` }},
	} {
		d := ours()
		test.spoil(d)
		if err := d.check(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want a complaint about %q", test.name, err, test.want)
		}
	}
}
