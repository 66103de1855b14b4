package doctor

import (
	"cmp"
	"fmt"
	"io"
	"slices"
)

// A severity orders findings, the worst last.
type severity uint8

const (
	note    severity = iota // as it may well be meant
	warning                 // something will not work as expected
	failure                 // something does not work
)

// String is the word in the report.
func (s severity) String() string { return [...]string{"NOTE", "WARNING", "ERROR"}[s] }

// A finding is what one check came to.
type finding struct {
	severity severity
	check    string // the word for the check, as README.md lists it
	what     string
	fix      string
}

// find adds a finding. The fix is what to do, in the imperative.
func (d *diagnosis) find(s severity, check, fix, format string, args ...any) {
	d.findings = append(d.findings, finding{s, check, fmt.Sprintf(format, args...), fix})
}

// write reports the findings, the worst first.
func (d *diagnosis) write(w io.Writer) {
	slices.SortStableFunc(d.findings, func(a, b finding) int { return cmp.Compare(b.severity, a.severity) })
	count := map[severity]int{}
	for _, f := range d.findings {
		count[f.severity]++
		fmt.Fprintf(w, "%s %s: %s\n    fix: %s\n", f.severity, f.check, f.what, f.fix)
	}
	fmt.Fprintf(w, "%d errors, %d warnings, %d notes\n", count[failure], count[warning], count[note])
}

func (d *diagnosis) exitCode() int {
	worst := note
	for _, f := range d.findings {
		worst = max(worst, f.severity)
	}
	return [...]int{note: exitFine, warning: exitWarnings, failure: exitErrors}[worst]
}

// some is a list as a person reads it: a few, and how many there are.
func some(list []string) string {
	const shown = 5
	if len(list) <= shown {
		return fmt.Sprintf("%q", list)
	}
	return fmt.Sprintf("%q and %d more", list[:shown], len(list)-shown)
}
