package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

var language = parser.NewParser(parser.Options{})

// readRules reads rules as strictly as Prometheus does: expressions, labels, templates of annotations.
func readRules(path string) ([]rulefmt.RuleGroup, error) {
	groups, faults := rulefmt.ParseFile(path, false, model.LegacyValidation, language, slog.New(slog.DiscardHandler))
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return groups.Groups, nil
}

// A query is one of the dashboard.
type query struct{ name, expr string }

// readDashboard returns the queries of a dashboard with every variable at "All".
func readDashboard(path string) ([]query, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ RefID, Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	values := strings.NewReplacer("$job", ".*", "$instance", ".*", "$__rate_interval", model.Duration(rateInterval).String())
	var queries []query
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			queries = append(queries, query{panel.Title + " " + target.RefID, values.Replace(target.Expr)})
		}
	}
	return queries, nil
}
