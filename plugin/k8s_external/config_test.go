package k8sexternal

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/plugin/pkg/fall"
	"github.com/kubezone/kubezone/plugin/internal/corefile"
)

// defaults returns what parse makes of "k8s_external example.org", changed.
func defaults(change func(*config)) config {
	cfg := config{
		zones:   []string{"example.org."},
		primary: "example.org.",
		apex:    "dns",
		ttl:     5,
		fall:    fall.Zero,
		at:      corefile.Place{File: "Testfile", Line: 1},
	}
	change(&cfg)
	return cfg
}

func TestParse(t *testing.T) {
	for text, want := range map[string]func(*config){
		"k8s_external example.org":                        func(*config) {},
		"k8s_external Example.ORG. {\n}":                  func(*config) {},
		"k8s_external example.org {\napex dns-Servers\n}": func(c *config) { c.apex = "dns-servers" },
		"k8s_external example.org {\nttl 0\n}":            func(c *config) { c.ttl = 0 },
		"k8s_external example.org {\nttl 3600\n}":         func(c *config) { c.ttl = 3600 },
		"k8s_external example.org {\nheadless\n}":         func(c *config) { c.headless = true },
		"k8s_external example.org {\nfallthrough\n}":      func(c *config) { c.fall = fall.Root },
		"k8s_external example.org {\nfallthrough prod.example.org example.net\n}": func(c *config) {
			c.fall = fall.F{Zones: []string{"prod.example.org.", "example.net."}}
			c.warnings = []string{`Testfile:2 - fallthrough: "example.net." has no name in common with the zones [example.org.]`}
		},
		"k8s_external 192.0.2.0/24 example.org example.net": func(c *config) {
			c.zones = []string{"2.0.192.in-addr.arpa.", "example.org.", "example.net."}
		},
	} {
		got, err := parse(caddy.NewTestController("dns", text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if want := defaults(want); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v\nwant %+v", text, got, want)
		}
	}
}

func TestParseTakesTheZonesOfTheServerBlock(t *testing.T) {
	c := caddy.NewTestController("dns", "k8s_external")
	c.ServerBlockKeys = []string{"dns://in-addr.arpa.:53", "dns://example.org.:53"}
	cfg, err := parse(c)
	if err != nil || !slices.Equal(cfg.zones, []string{"in-addr.arpa.", "example.org."}) || cfg.primary != "example.org." {
		t.Errorf("zones %v, primary %s, error %v", cfg.zones, cfg.primary, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"k8s_external example.org {\napex\n}":                       `2: apex: missing argument after "apex"; want "apex APEX"`,
		"k8s_external example.org {\napex a b\n}":                   `2: apex: surplus argument "b"; want "apex APEX"`,
		"k8s_external example.org {\napex a.b\n}":                   `2: apex "a.b": want one DNS label, of letters, digits and hyphens`,
		"k8s_external example.org {\napex a\napex b\n}":             `3: apex: given twice, first at Testfile:2; want it once, as "apex APEX"`,
		"k8s_external example.org {\nttl\n}":                        `2: ttl: missing argument after "ttl"; want "ttl TTL"`,
		"k8s_external example.org {\nttl 5s\n}":                     `2: ttl "5s": want a whole number from 0 to 3600`,
		"k8s_external example.org {\nttl 3601\n}":                   `2: ttl "3601": want a whole number from 0 to 3600`,
		"k8s_external example.org {\nttl 5 6\n}":                    `2: ttl: surplus argument "6"; want "ttl TTL"`,
		"k8s_external example.org {\nttl 5\nttl 5\n}":               `3: ttl: given twice, first at Testfile:2; want it once, as "ttl TTL"`,
		"k8s_external example.org {\nheadless yes\n}":               `2: headless: surplus argument "yes"; want "headless"`,
		"k8s_external example.org {\nheadless\nheadless\n}":         `3: headless: given twice, first at Testfile:2; want it once, as "headless"`,
		"k8s_external example.org {\nfallthrough a..b\n}":           `2: fallthrough "a..b": want a zone: a domain name, or a network such as 10.0.0.0/16`,
		"k8s_external example.org {\nfallthrough\nfallthrough a\n}": `3: fallthrough: given twice, first at Testfile:2; want it once, as "fallthrough [ZONES...]"`,
		"k8s_external example.org {\nheadles\n}":                    `2: unknown option "headles", did you mean "headless"?; want one of apex, fallthrough, headless, ttl`,
		"k8s_external a..b":                                         `1: "a..b": want a zone: a domain name, or a network such as 10.0.0.0/16`,
		"k8s_external 192.0.2.0/24":                                 `1: zones [2.0.192.in-addr.arpa.]: want at least one that is not below in-addr.arpa or ip6.arpa`,
		"k8s_external example.org\nk8s_external example.net":        `2: k8s_external: given twice in this server block, first at Testfile:1`,
	} {
		line, message, _ := strings.Cut(want, ": ")
		want = "Testfile:" + line + " - Error during parsing: " + message
		if _, err := parse(caddy.NewTestController("dns", text)); err == nil || err.Error() != want {
			t.Errorf("%q: error %v\nwant %s", text, err, want)
		}
	}
}

// TestReadmeSyntax compares the README's list of options with the table.
func TestReadmeSyntax(t *testing.T) {
	var want strings.Builder
	want.WriteString("k8s_external [ZONES...] {\n")
	for _, o := range options {
		want.WriteString("    " + o.Synopsis() + "\n")
	}
	want.WriteString("}\n")
	if got := readmeBlocks(t, "~~~ txt\n"); len(got) == 0 || got[0] != want.String() {
		t.Errorf("got %q\nwant %q", got, want.String())
	}
}

// TestReadmeCorefiles parses the directive in every Corefile of the README.
func TestReadmeCorefiles(t *testing.T) {
	found := 0
	for i, text := range readmeBlocks(t, "~~~ corefile\n") {
		blocks, err := caddyfile.Parse("README.md", strings.NewReader(text), nil)
		if err != nil {
			t.Errorf("Corefile %d: %v\n%s", i, err, text)
		}
		for _, block := range blocks {
			c := caddy.NewTestController("dns", "")
			c.Dispenser = caddyfile.NewDispenserTokens("README.md", block.Tokens[directive])
			c.ServerBlockKeys = block.Keys
			if cfg, err := parse(c); err != nil || cfg.warnings != nil {
				t.Errorf("Corefile %d: error %v, warnings %v\n%s", i, err, cfg.warnings, text)
			}
			found++
		}
	}
	if found == 0 {
		t.Error("README.md holds no Corefile")
	}
}

// readmeBlocks returns the fenced blocks of README.md that begin with fence.
func readmeBlocks(t *testing.T, fence string) []string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, rest := range strings.Split(string(text), fence)[1:] {
		block, _, _ := strings.Cut(rest, "~~~\n")
		blocks = append(blocks, block)
	}
	return blocks
}
