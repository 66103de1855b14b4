package clientlimit

import (
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/coredns/caddy"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		text string
		want config
		err  string // after the place, for what is refused
	}{
		{text: "clientlimit 100", want: config{qps: 100, burst: 200, clients: 16384}},
		{text: "clientlimit 100 100", want: config{qps: 100, burst: 100, clients: 16384}},
		{text: "clientlimit 100 5000 {\naction drop\nexempt 10.0.0.0/8 fd00::/8\nclients 2048\n}", want: config{
			qps: 100, burst: 5000, action: drop, clients: 2048, exempt: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
		}},
		{text: "clientlimit 1 {\naction refuse\n}", want: config{qps: 1, burst: 2, clients: 16384}},

		{text: "clientlimit", err: `1: clientlimit: missing argument after "clientlimit"; want "clientlimit QPS [BURST]"`},
		{text: "clientlimit 1 2 3", err: `1: clientlimit: surplus argument "3"; want "clientlimit QPS [BURST]"`},
		{text: "clientlimit 0", err: `1: clientlimit "0": want a whole number from 1 to 1000000`},
		{text: "clientlimit 1.5", err: `1: clientlimit "1.5": want a whole number from 1 to 1000000`},
		{text: "clientlimit 100 50", err: `1: clientlimit "50": want a whole number from 100 to 1000000`},
		{text: "clientlimit 1\nclientlimit 1", err: `2: clientlimit: given twice in this server block, first at Testfile:1`},
		{text: "clientlimit 1 {\nburst 5\n}", err: `2: unknown option "burst"; want one of action, clients, exempt`},
		{text: "clientlimit 1 {\naction truncate\n}", err: `2: action "truncate": want refuse or drop`},
		{text: "clientlimit 1 {\naction\n}", err: `2: action: missing argument after "action"; want "action refuse|drop"`},
		{text: "clientlimit 1 {\nclients 10\n}", err: `2: clients "10": want a whole number from 1024 to 1048576`},
		{text: "clientlimit 1 {\nexempt 10.0.0.1/8\n}", err: `2: exempt "10.0.0.1/8": want networks such as 10.244.0.0/16, without bits behind the prefix`},
		{text: "clientlimit 1 {\nexempt 10.0.0.0/8\nexempt 10.0.0.0/8\n}", err: `3: exempt: given twice, first at Testfile:2; want it once, as "exempt CIDR..."`},
	} {
		got, err := parse(caddy.NewTestController("dns", tc.text))
		if tc.err == "" {
			if err != nil || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("%q: %+v, %v; want %+v", tc.text, got, err, tc.want)
			}
			continue
		}
		line, text, _ := strings.Cut(tc.err, ": ")
		if want := "Testfile:" + line + " - Error during parsing: " + text; err == nil || err.Error() != want {
			t.Errorf("%q: error %v\nwant %s", tc.text, err, want)
		}
	}
}

func TestReadmeSyntax(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	want := "~~~ txt\n" + arguments.Synopsis() + " {\n"
	for _, o := range options {
		want += "    " + o.Synopsis() + "\n"
	}
	if want += "}\n~~~\n"; !strings.Contains(string(text), want) {
		t.Errorf("README.md lacks\n%s", want)
	}
}
