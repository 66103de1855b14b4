package compare

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// A view says what is compared beside what always is.
type view uint8

const (
	withTTL view = 1 << iota
	withExtra
)

// describe writes down what is compared of a reply, in an order of its own: code,
// flags, and the records of each section as a set. Of an authority section it is
// the owner of the SOA alone, as serial and timers of two servers differ anyway.
// Names are in lower case, since a cache may keep another client's spelling.
func describe(m *dns.Msg, v view) []string {
	header := dns.RcodeToString[m.Rcode]
	for _, flag := range []struct {
		name string
		set  bool
	}{{"aa", m.Authoritative}, {"tc", m.Truncated}, {"ra", m.RecursionAvailable}, {"ad", m.AuthenticatedData}} {
		if flag.set {
			header += " " + flag.name
		}
	}
	sections := []string{"code and flags: " + header}
	sections = append(sections, records("answer", m.Answer, v)...)
	for _, rr := range m.Ns {
		if rr.Header().Rrtype == dns.TypeSOA {
			sections = append(sections, "authority: SOA of "+strings.ToLower(rr.Header().Name))
		}
	}
	if v&withExtra != 0 {
		extra := slices.DeleteFunc(slices.Clone(m.Extra), func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeOPT })
		sections = append(sections, records("additional", extra, v)...)
	}
	return sections
}

func records(section string, rrs []dns.RR, v view) []string {
	var lines []string
	for _, rr := range rrs {
		rr = dns.Copy(rr)
		h := rr.Header()
		if h.Name = strings.ToLower(h.Name); v&withTTL == 0 {
			h.Ttl = 0
		}
		text := rr.String()
		if h.Rrtype != dns.TypeTXT {
			text = strings.ToLower(text)
		}
		lines = append(lines, section+": "+strings.ReplaceAll(text, "\t", " "))
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// report prints what one reply has and the other lacks, and tells whether there is
// anything.
func report(w io.Writer, q dns.Question, servers [2]string, texts [2][]string) bool {
	if slices.Equal(texts[0], texts[1]) {
		return false
	}
	fmt.Fprintf(w, "%s %s differs\n", q.Name, dns.TypeToString[q.Qtype])
	for i, server := range servers {
		for _, line := range texts[i] {
			if !slices.Contains(texts[1-i], line) {
				fmt.Fprintf(w, "    %s only: %s\n", server, line)
			}
		}
	}
	return true
}
