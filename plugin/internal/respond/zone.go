package respond

import (
	"slices"
	"strings"

	"github.com/coredns/coredns/plugin/pkg/fall"
	"github.com/kubezone/kubezone/plugin/internal/schema"
)

// A Zone is one that a plugin is authoritative for.
type Zone struct {
	Name    string // in lower case
	Reverse bool
	Cached  bool // names in it may fall through, so other plugins treat it like any zone
	Schema  *schema.Schema
}

// NewZone makes a zone, whose name is in lower case. Names in it may fall
// through as the option says.
func NewZone(name string, s *schema.Schema, through fall.F) Zone {
	overlaps := slices.ContainsFunc(through.Zones, func(f string) bool { return within(name, f) || within(f, name) })
	return Zone{Name: name, Reverse: schema.IsReverse(name), Cached: overlaps, Schema: s}
}

// Parse reads the meaning of a name in the zone, in lower case.
func (z *Zone) Parse(name string) schema.Name {
	return z.Schema.Parse(relative(name, z.Name))
}

// Zones are those of one plugin.
type Zones []Zone

// Find is the most specific zone that the name is in, or nil. The name is in
// lower case.
func (zones Zones) Find(name string) *Zone {
	var best *Zone
	for i := range zones {
		z := &zones[i]
		if within(name, z.Name) && (best == nil || len(z.Name) > len(best.Name)) {
			best = z
		}
	}
	return best
}

// within tells whether a name is in a zone; both are in lower case.
func within(name, zone string) bool {
	if zone == "." {
		return true
	}
	if !strings.HasSuffix(name, zone) {
		return false
	}
	at := len(name) - len(zone)
	return at == 0 || (name[at-1] == '.' && !escapedDot(name, at-1))
}

func escapedDot(name string, at int) bool {
	n := 0
	for n < at && name[at-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

// lower is the name in lower case. ASCII letters alone have a case in the DNS
// (RFC 4343 section 3). It allocates only if there are capital letters.
func lower(name string) string {
	for i := range len(name) {
		if 'A' <= name[i] && name[i] <= 'Z' {
			return asciiLower(name)
		}
	}
	return name
}

func asciiLower(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// relative is the part of a name left of its zone.
func relative(name, zone string) string {
	if zone == "." {
		return strings.TrimSuffix(name, ".")
	}
	return strings.TrimSuffix(name[:len(name)-len(zone)], ".")
}
