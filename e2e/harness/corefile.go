package harness

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// WriteCorefile gives the server another Corefile. It reads that when it is told to.
func (s *Server) WriteCorefile(t testing.TB, text string) {
	t.Helper()
	if s.batched {
		text = batched(text)
	}
	WriteFile(t, s.Corefile, text)
}

// wantsBatches tells whether $KUBEZONE_UDPBATCH says that our server serves every block with udpbatch. Others do not know
// the directive.
func wantsBatches() bool {
	return os.Getenv("KUBEZONE_UDPBATCH") != "" && filepath.Base(Binary()) != "coredns-stock"
}

// plainBlock is the line that begins a server block of plain DNS: nothing before its names, and neither a snippet's
// brackets nor another scheme among them.
var plainBlock = regexp.MustCompile(`^(dns://)?[^\s#(){}:]*(:[^\s/]+)?(,? [^\s()]+)*\s*\{$`)

// batched puts udpbatch into each server block of a Corefile that has not got it.
func batched(corefile string) string {
	if strings.Contains(corefile, "udpbatch") {
		return corefile
	}
	var text strings.Builder
	for lines := bufio.NewScanner(strings.NewReader(corefile)); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		if plainBlock.MatchString(lines.Text()) {
			text.WriteString("\tudpbatch\n")
		}
	}
	return text.String()
}
