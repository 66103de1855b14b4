package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The part of Grafana's dashboard model that we need, as version 41 of its schema has it: Grafana 12, and later ones
// read it.
const schemaVersion = 41

// columns is the width of a dashboard.
const columns = 24

// A Dashboard is what Grafana imports.
type Dashboard struct {
	UID           string     `json:"uid"`
	Title         string     `json:"title"`
	Description   string     `json:"description"`
	Tags          []string   `json:"tags"`
	SchemaVersion int        `json:"schemaVersion"`
	Editable      bool       `json:"editable"`
	Refresh       string     `json:"refresh"`
	Time          Range      `json:"time"`
	Templating    Templating `json:"templating"`
	Panels        []Panel    `json:"panels"`
}

// A Range is a span of time, such as from now-6h to now.
type Range struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Templating holds the variables that are chosen at the top of the dashboard.
type Templating struct {
	List []Variable `json:"list"`
}

// A Variable is one of them. Query is a type of data source, or a query to one.
type Variable struct {
	Name       string      `json:"name"`
	Label      string      `json:"label"`
	Type       string      `json:"type"` // "datasource" or "query"
	Query      string      `json:"query"`
	Datasource *Datasource `json:"datasource,omitempty"`
	Refresh    int         `json:"refresh,omitempty"` // 2: when the time changes
	Multi      bool        `json:"multi,omitempty"`
	IncludeAll bool        `json:"includeAll,omitempty"`
	AllValue   string      `json:"allValue,omitempty"`
	Current    *Choice     `json:"current,omitempty"`
}

// A Choice is what a variable is at first.
type Choice struct {
	Text  string `json:"text"`
	Value string `json:"value"`
}

// A Datasource names one, here always by the variable.
type Datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// A Panel is a picture, or with type "row" a heading.
type Panel struct {
	ID          int         `json:"id"`
	Type        string      `json:"type"`
	Title       string      `json:"title"`
	Description string      `json:"description,omitempty"`
	GridPos     GridPos     `json:"gridPos"`
	Datasource  *Datasource `json:"datasource,omitempty"`
	FieldConfig FieldConfig `json:"fieldConfig"`
	Options     any         `json:"options,omitempty"`
	Targets     []Target    `json:"targets,omitempty"`
	Collapsed   bool        `json:"collapsed"`
	Panels      []Panel     `json:"panels"` // of a collapsed row; Grafana wants the list though it is empty
}

// A GridPos is a place in units of the grid.
type GridPos struct {
	X int `json:"x"`
	Y int `json:"y"`
	W int `json:"w"`
	H int `json:"h"`
}

func (g GridPos) overlaps(other GridPos) bool {
	return g.X < other.X+other.W && other.X < g.X+g.W && g.Y < other.Y+other.H && other.Y < g.Y+g.H
}

// A FieldConfig says how values are shown.
type FieldConfig struct {
	Defaults  Defaults   `json:"defaults"`
	Overrides []struct{} `json:"overrides"` // none; Grafana wants the list
}

// Defaults hold for every series of a panel.
type Defaults struct {
	Unit       string      `json:"unit,omitempty"`
	Min        *float64    `json:"min,omitempty"`
	Max        *float64    `json:"max,omitempty"`
	Thresholds *Thresholds `json:"thresholds,omitempty"`
}

// Thresholds colour values.
type Thresholds struct {
	Mode  string `json:"mode"`
	Steps []Step `json:"steps"`
}

// A Step is the colour from a value on; the first has none.
type Step struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"`
}

// A Target is a query, in PromQL.
type Target struct {
	RefID        string     `json:"refId"`
	Expr         string     `json:"expr"`
	LegendFormat string     `json:"legendFormat"`
	Datasource   Datasource `json:"datasource"`
	Instant      bool       `json:"instant,omitempty"`
}

// units are those of Grafana that panels here may have.
var units = []string{"short", "percentunit", "s", "bytes", "reqps", "ops", "dateTimeFromNow", "bool_on_off"}

// check returns everything that Grafana would not take or not show.
func (d *Dashboard) check() error {
	var faults []error
	complain := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if d.UID == "" || len(d.UID) > 40 || d.Title == "" {
		complain("uid %q, title %q: want both, and a uid of 40 characters at most", d.UID, d.Title)
	}
	if d.SchemaVersion != schemaVersion {
		complain("schemaVersion %d: want %d", d.SchemaVersion, schemaVersion)
	}
	variables := map[string]bool{}
	for _, v := range d.Templating.List {
		if variables[v.Name] {
			complain("variable %s is there twice", v.Name)
		}
		variables[v.Name] = true
	}
	if !variables["datasource"] {
		complain("no variable for the data source")
	}
	ids := map[int]string{}
	for i, p := range d.Panels {
		if other, taken := ids[p.ID]; taken || p.ID <= 0 {
			complain("panel %q: id %d is that of %q, or none", p.Title, p.ID, other)
		}
		ids[p.ID] = p.Title
		if g := p.GridPos; g.W <= 0 || g.H <= 0 || g.X < 0 || g.Y < 0 || g.X+g.W > columns {
			complain("panel %q: place %+v is not on the grid of %d columns", p.Title, g, columns)
		}
		for _, other := range d.Panels[:i] {
			if p.GridPos.overlaps(other.GridPos) {
				complain("panels %q and %q overlap", p.Title, other.Title)
			}
		}
		faults = append(faults, p.check(variables)...)
	}
	return errors.Join(faults...)
}

func (p *Panel) check(variables map[string]bool) (faults []error) {
	complain := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("panel %q: "+format, append([]any{p.Title}, args...)...))
	}
	if p.Title == "" {
		complain("no title")
	}
	if p.Type == "row" {
		return faults
	}
	if p.Description == "" {
		complain("no description")
	}
	if !slices.Contains(units, p.FieldConfig.Defaults.Unit) {
		complain("unit %q: want one of %q", p.FieldConfig.Defaults.Unit, units)
	}
	if len(p.Targets) == 0 {
		complain("no query")
	}
	refs := map[string]bool{}
	for _, t := range p.Targets {
		if t.RefID == "" || refs[t.RefID] || t.Expr == "" {
			complain("query %q with id %q: want an id of its own", t.Expr, t.RefID)
		}
		refs[t.RefID] = true
		if t.Datasource != chosen {
			complain("data source %+v: want the variable", t.Datasource)
		}
		for _, part := range strings.Split(t.Expr, "$")[1:] {
			name := strings.TrimLeft(part, "{")
			if end := strings.IndexFunc(name, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }); end >= 0 {
				name = name[:end]
			}
			if !variables[name] && name != "__rate_interval" {
				complain("no variable $%s", name)
			}
		}
	}
	return faults
}

// JSON is the dashboard in the way Grafana imports it. It fails if Grafana would not take it.
func (d *Dashboard) JSON() ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(d, "", "  ")
	return append(text, '\n'), err
}
