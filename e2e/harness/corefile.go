package harness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// WriteCorefile gives the server another Corefile. It reads that when it is told to.
func (s *Server) WriteCorefile(t testing.TB, text string) {
	t.Helper()
	if s.Batched {
		text = batched(text)
	}
	WriteFile(t, s.Corefile, text)
}

// wantsBatches tells whether $KUBEZONE_UDPBATCH says that our server serves every block with udpbatch. Others do not know
// the directive.
func wantsBatches() bool {
	return os.Getenv("KUBEZONE_UDPBATCH") != "" && filepath.Base(Binary()) != "coredns-stock"
}

// batched puts udpbatch into each server block of plain DNS of a Corefile that has not got it.
func batched(corefile string) string {
	if strings.Contains(corefile, "udpbatch") {
		return corefile
	}
	var text strings.Builder
	depth := 0
	for line := range strings.Lines(corefile) {
		text.WriteString(line)
		code, _, _ := strings.Cut(line, "#")
		switch code = strings.TrimSpace(code); {
		case code == "}":
			depth--
		case strings.HasSuffix(code, "{"):
			scheme, _, other := strings.Cut(code, "://")
			if snippet := strings.HasPrefix(code, "("); depth == 0 && !snippet && (!other || scheme == "dns") {
				text.WriteString("\tudpbatch\n")
			}
			depth++
		}
	}
	return text.String()
}
