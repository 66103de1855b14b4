package schema

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	for relative, want := range map[string]Name{
		"":                         {Form: Apex},
		"svc":                      {Form: SvcBranch},
		"pod":                      {Form: PodBranch},
		"dns":                      {Form: DNSBranch},
		"ns.dns":                   {Form: NameServer},
		"dns-version":              {Form: Version},
		"prod.svc":                 {Form: SvcNamespace, Namespace: "prod"},
		"prod.pod":                 {Form: PodNamespace, Namespace: "prod"},
		"web.prod.svc":             {Form: Service, Namespace: "prod", Service: "web"},
		"svc.svc.svc":              {Form: Service, Namespace: "svc", Service: "svc"},
		"db-0.db.prod.svc":         {Form: Endpoint, Namespace: "prod", Service: "db", Label: "db-0"},
		"_tcp.web.prod.svc":        {Form: Protocol, Namespace: "prod", Service: "web", Protocol: "tcp"},
		"_http._tcp.web.prod.svc":  {Form: PortName, Namespace: "prod", Service: "web", Port: "http", Protocol: "tcp"},
		"1-2-3-4.prod.pod":         {Form: PodName, Namespace: "prod", Label: "1-2-3-4"},
		`a\.b.prod.svc`:            {Form: Service, Namespace: "prod", Service: `a\.b`},
		`a\\.b.prod.svc`:           {Form: Endpoint, Namespace: "prod", Service: "b", Label: `a\\`},
		`web.prod\.svc`:            {},
		"x":                        {},
		"x.dns":                    {},
		"x.ns.dns":                 {},
		"x.dns-version":            {},
		"google.com":               {},
		"_.web.prod.svc":           {},
		"_._tcp.web.prod.svc":      {},
		"_http._.web.prod.svc":     {},
		"http._tcp.web.prod.svc":   {},
		"_http.tcp.web.prod.svc":   {},
		"a._b._tcp.web.prod.svc":   {},
		"a.b.web.prod.svc":         {},
		"x.1-2-3-4.prod.pod":       {},
		"_zone.db.prod.svc":        {Form: Protocol, Namespace: "prod", Service: "db", Protocol: "zone"},
		"a.pin._zone.db.prod.svc":  {},
		"_pin._zone.db.prod.svc":   {Form: PortName, Namespace: "prod", Service: "db", Port: "pin", Protocol: "zone"},
		"pin._zone.db.prod.svc":    {},
		"_a._b.pin._zone.db.x.svc": {},
	} {
		got := Parse(relative, Plain)
		if want.Form == Impossible {
			got = Name{Form: got.Form}
		}
		if got != want {
			t.Errorf("Parse(%q) = %+v; want %+v", relative, got, want)
		}
	}
}

func TestParseZonal(t *testing.T) {
	zone := func(f Form, topologyZone string, fallback Fallback) Name {
		return Name{Form: f, Namespace: "prod", Service: "db", TopologyZone: topologyZone, Fallback: fallback}
	}
	for relative, want := range map[string]Name{
		"_zone.db.prod.svc":              zone(ZoneBranch, "", Pin),
		"pin._zone.db.prod.svc":          zone(ZoneBranch, "", Pin),
		"prefer._zone.db.prod.svc":       zone(ZoneBranch, "", Prefer),
		"a.pin._zone.db.prod.svc":        zone(ZoneName, "a", Pin),
		"a.prefer._zone.db.prod.svc":     zone(ZoneName, "a", Prefer),
		"corp.com.pin._zone.db.prod.svc": zone(ZoneName, "corp.com", Pin),
		"a.any._zone.db.prod.svc":        zone(Impossible, "", Pin),
		"any._zone.db.prod.svc":          zone(Impossible, "", Pin),
	} {
		if got := Parse(relative, Zonal); got != want {
			t.Errorf("Parse(%q) = %+v; want %+v", relative, got, want)
		}
	}
}

func TestParseMulticluster(t *testing.T) {
	endpoint := func(label string) Name {
		return Name{Form: Endpoint, Namespace: "prod", Service: "db", Label: label}
	}
	for relative, want := range map[string]Name{
		"dns-version":             {Form: Version},
		"prod.svc":                {Form: SvcNamespace, Namespace: "prod"},
		"db.prod.svc":             {Form: Service, Namespace: "prod", Service: "db"},
		"c1.db.prod.svc":          endpoint("c1"),
		"pod-0.c1.db.prod.svc":    endpoint("pod-0.c1"),
		"pod-0.c1.eu.db.prod.svc": endpoint("pod-0.c1.eu"),
		"_pg._tcp.db.prod.svc":    {Form: PortName, Namespace: "prod", Service: "db", Port: "pg", Protocol: "tcp"},
		"_tcp.db.prod.svc":        {Form: Protocol, Namespace: "prod", Service: "db", Protocol: "tcp"},
		"a.pod-0.c1.eu.db.x.svc":  {Namespace: "x", Service: "db"},
		"a._tcp.db.prod.svc":      {Namespace: "prod", Service: "db"},
		"pod":                     {},
		"prod.pod":                {},
		"1-2-3-4.prod.pod":        {},
	} {
		if got := Parse(relative, Multicluster); got != want {
			t.Errorf("Parse(%q) = %+v; want %+v", relative, got, want)
		}
	}
}

func TestParseReverse(t *testing.T) {
	for name, want := range map[string]string{
		"in-addr.arpa.":                         "0.0.0.0/0",
		"10.in-addr.arpa.":                      "10.0.0.0/8",
		"96.10.in-addr.arpa.":                   "10.96.0.0/16",
		"4.3.2.1.in-addr.arpa.":                 "1.2.3.4/32",
		"0.3.2.1.in-addr.arpa.":                 "1.2.3.0/32",
		"5.4.3.2.1.in-addr.arpa.":               "",
		"04.3.2.1.in-addr.arpa.":                "",
		"256.3.2.1.in-addr.arpa.":               "",
		"+4.3.2.1.in-addr.arpa.":                "",
		"x.in-addr.arpa.":                       "",
		"-1.in-addr.arpa.":                      "",
		"xin-addr.arpa.":                        "",
		`1\.2.in-addr.arpa.`:                    "",
		"ip6.arpa.":                             "::/0",
		"d.f.ip6.arpa.":                         "fd00::/8",
		"8.b.d.0.1.0.0.2.ip6.arpa.":             "2001:db8::/32",
		"f.ip6.arpa.":                           "f000::/4",
		"g.ip6.arpa.":                           "",
		"00.ip6.arpa.":                          "",
		"cluster.local.":                        "",
		strings.Repeat("0.", 33) + apex6:        "",
		"1." + strings.Repeat("0.", 31) + apex6: "::1/128",
	} {
		p, ok := ParseReverse(name)
		if want == "" {
			if ok {
				t.Errorf("ParseReverse(%q) = %s; want none", name, p)
			}
			continue
		}
		if !ok || p != netip.MustParsePrefix(want) {
			t.Errorf("ParseReverse(%q) = %s, %t; want %s", name, p, ok, want)
		}
	}
}

func TestParsingDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		Parse("_http._tcp.web.prod.svc", Zonal)
		Parse("corp.com.pin._zone.db.prod.svc", Zonal)
		ParseReverse("4.3.2.1.in-addr.arpa.")
	}); n != 0 {
		t.Errorf("%v allocations; want 0", n)
	}
}

// parseSlowly reads a name in the obvious way: it splits it into labels, and
// compares them with each pattern in turn.
func parseSlowly(relative string, g Grammar) Name {
	var labels []string
	label, backslashes := "", 0
	for _, c := range []byte(relative) {
		if c == '.' && backslashes%2 == 0 {
			labels = append(labels, label)
			label = ""
			backslashes = 0
			continue
		}
		if c == '\\' {
			backslashes++
		} else {
			backslashes = 0
		}
		label += string([]byte{c})
	}
	if relative == "" {
		return Name{Form: Apex}
	}
	labels = append(labels, label)
	slices.Reverse(labels)
	under := func(i int) bool { return len(labels[i]) > 1 && labels[i][0] == '_' }
	n := len(labels)
	switch {
	case n == 1 && labels[0] == "svc":
		return Name{Form: SvcBranch}
	case n == 1 && labels[0] == "pod":
		return Name{Form: PodBranch}
	case n == 1 && labels[0] == "dns":
		return Name{Form: DNSBranch}
	case n == 1 && labels[0] == "dns-version":
		return Name{Form: Version}
	case n == 2 && labels[0] == "dns" && labels[1] == "ns":
		return Name{Form: NameServer}
	case n == 2 && labels[0] == "pod":
		return Name{Form: PodNamespace, Namespace: labels[1]}
	case n == 3 && labels[0] == "pod":
		return Name{Form: PodName, Namespace: labels[1], Label: labels[2]}
	case n == 2 && labels[0] == "svc":
		return Name{Form: SvcNamespace, Namespace: labels[1]}
	case n < 3 || labels[0] != "svc":
		return Name{}
	}
	name := Name{Namespace: labels[1], Service: labels[2]}
	switch {
	case n == 3:
		name.Form = Service
	case g == Zonal && labels[3] == "_zone":
		fallback, ok := map[string]Fallback{"pin": Pin, "prefer": Prefer}[append(labels, "")[4]]
		switch {
		case n == 4:
			name.Form = ZoneBranch
		case !ok:
			return Name{}
		case n == 5:
			name.Form, name.Fallback = ZoneBranch, fallback
		default:
			zone := slices.Clone(labels[5:])
			slices.Reverse(zone)
			name.Form, name.Fallback, name.TopologyZone = ZoneName, fallback, strings.Join(zone, ".")
		}
	case n == 4 && under(3):
		name.Form, name.Protocol = Protocol, labels[3][1:]
	case n == 4 && labels[3] != "_":
		name.Form, name.Label = Endpoint, labels[3]
	case n == 5 && under(3) && under(4):
		name.Form, name.Protocol, name.Port = PortName, labels[3][1:], labels[4][1:]
	default:
		return Name{}
	}
	return name
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "svc", "web.prod.svc", "_http._tcp.web.prod.svc", "a.b.pin._zone.db.prod.svc", `a\.b.prod.svc`, "1-2-3-4.ns.pod", "ns.dns", "_zone.a.b.svc", "_._.a.b.svc"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, relative string) {
		if strings.HasPrefix(relative, ".") || strings.HasSuffix(relative, ".") || strings.Contains(relative, "..") {
			return // an empty label, which no packet holds
		}
		for _, g := range []Grammar{Plain, Zonal} {
			got, want := Parse(relative, g), parseSlowly(relative, g)
			if got.Form == Impossible && want.Form == Impossible {
				continue
			}
			if got != want {
				t.Errorf("Parse(%q, %d) = %+v; want %+v", relative, g, got, want)
			}
		}
	})
}
