package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"

	"sigs.k8s.io/yaml"
)

// A place is where in a file something begins.
type place struct {
	file string
	line int // from 1
}

func (p place) String() string { return fmt.Sprintf("%s:%d", p.file, p.line) }

// errorf is fmt.Errorf with the place in front.
func (p place) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: "+format, append([]any{p}, args...)...)
}

// A document is one of those in a file, as JSON.
type document struct {
	place
	json []byte
}

// yamlDocuments splits at the markers of YAML 1.2 section 9.2, which nothing
// else may look like. Empty documents are left out.
func yamlDocuments(file string, content []byte) ([]document, error) {
	var documents []document
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	var text []byte
	first := 1 // line of text
	end := func(next int) error {
		defer func() { text, first = nil, next }()
		skipped := leadingBlank(text)
		if skipped < 0 {
			return nil
		}
		j, err := yaml.YAMLToJSONStrict(text)
		if err != nil {
			return yamlError(place{file, first}, err)
		}
		documents = append(documents, document{place{file, first + skipped}, j})
		return nil
	}
	line := 0
	for l := range bytes.Lines(content) {
		line++
		switch {
		case isMarker(l, "---"):
			if err := end(line); err != nil {
				return nil, err
			}
			text = append(text, "   "...) // what follows on the line belongs to the document
			text = append(text, l[3:]...)
		case isMarker(l, "..."):
			if err := end(line + 1); err != nil {
				return nil, err
			}
		default:
			text = append(text, l...)
		}
	}
	if err := end(line); err != nil {
		return nil, err
	}
	return documents, nil
}

func isMarker(line []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(marker))
	return ok && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0)
}

// leadingBlank counts the lines before the first that is neither blank nor a
// comment or a directive; -1 if there is none.
func leadingBlank(text []byte) int {
	n := 0
	for l := range bytes.Lines(text) {
		if l = bytes.TrimSpace(l); len(l) > 0 && l[0] != '#' && l[0] != '%' {
			return n
		}
		n++
	}
	return -1
}

var yamlLine = regexp.MustCompile(`(?s)^.*?line (\d+): (.*)$`)

// yamlError turns the line that the parser names into the file's.
func yamlError(first place, err error) error {
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		if n, convErr := strconv.Atoi(m[1]); convErr == nil {
			first.line += n - 1
			return first.errorf("%s", m[2])
		}
	}
	return first.errorf("%w", err)
}

// jsonDocuments takes one value after the other.
func jsonDocuments(file string, content []byte) ([]document, error) {
	var documents []document
	d := json.NewDecoder(bytes.NewReader(content))
	for {
		var raw json.RawMessage
		err := d.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return documents, nil
		}
		if err != nil {
			at := d.InputOffset()
			if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
				at = syntax.Offset
			}
			return nil, place{file, lineAt(content, at)}.errorf("%w", err)
		}
		documents = append(documents, document{place{file, lineAt(content, d.InputOffset()-int64(len(raw)))}, raw})
	}
}

func lineAt(content []byte, offset int64) int {
	return 1 + bytes.Count(content[:min(int(offset), len(content))], []byte("\n"))
}
