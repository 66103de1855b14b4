package differential

import (
	"os"
	"strings"
	"testing"

	"github.com/kubezone/kubezone/e2e/harness"
)

const (
	readmePath  = "../../README.md"
	readmeBegin = "<!-- The list from here on is written by `make differential-readme`; e2e/differential has the table. -->\n"
	readmeEnd   = "<!-- The end of that list. -->\n"
	readmeWidth = 120 // columns, as in the rest of the file
)

// The README lists the table. Run the test with -update to write it.
func TestREADME(t *testing.T) {
	octets, err := os.ReadFile(readmePath)
	if err != nil {
		t.Fatal(err)
	}
	text := string(octets)
	before, rest, found := strings.Cut(text, readmeBegin)
	_, after, closed := strings.Cut(rest, readmeEnd)
	if !found || !closed {
		t.Fatalf("%s: want the lines\n%s%s", readmePath, readmeBegin, readmeEnd)
	}
	want := before + readmeBegin + "\n" + list() + readmeEnd + after
	switch {
	case text == want:
	case *update:
		harness.WriteFile(t, readmePath, want)
	default:
		t.Errorf("%s does not list the table of differences: run `make differential-readme`", readmePath)
	}
}

// list writes the differences by chapter, in the order of the table.
func list() string {
	var text strings.Builder
	for _, chapter := range []string{chapterNames, chapterNoNames, chapterRecords, chapterExternal, chapterReverse, chapterNegative, chapterMessages, chapterImports} {
		text.WriteString(chapter + ":\n\n")
		for _, d := range differences {
			if d.chapter == chapter {
				text.WriteString(item(d.text))
			}
		}
		text.WriteString("\n")
	}
	return text.String()
}

// item is a list item, broken into lines.
func item(sentence string) string {
	line, text := "-", ""
	for _, word := range strings.Fields(sentence) {
		if len(line)+1+len(word) > readmeWidth {
			text += line + "\n"
			line = " "
		}
		line += " " + word
	}
	return text + line + "\n"
}
