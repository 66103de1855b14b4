package corefile

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// unknown says which options there are, and which may have been meant.
func (p *Parser[C]) unknown(name string) error {
	names := make([]string, 0, len(p.options))
	for _, o := range p.options {
		names = append(names, o.Name)
	}
	slices.Sort(names)
	text := fmt.Sprintf("unknown option %q", name)
	if near := nearest(name, names); near != "" {
		text += fmt.Sprintf(", did you mean %q?", near)
	}
	return errors.New(text + "; want one of " + strings.Join(names, ", "))
}

// nearest returns the first of names with the fewest edits from name, or "" if
// that is more than one edit for every three octets.
func nearest(name string, names []string) string {
	near := slices.MinFunc(names, func(a, b string) int { return cmp.Compare(edits(name, a), edits(name, b)) })
	if 3*edits(name, near) > max(len(name), len(near)) {
		return ""
	}
	return near
}

// edits is the Levenshtein distance: how many octets have to be inserted, left
// out or replaced to make b of a.
func edits(a, b string) int {
	row := make([]int, len(b)+1) // distances from the part of a so far to each prefix of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
