package main

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// A flood is what a client saw that asked as much as it got answers for.
type flood struct {
	answered int
	lost     int
	rate     float64        // answered queries a second
	rcodes   map[string]int // replies
}

var (
	completedLine = regexp.MustCompile(`Queries completed: +(\d+)`)
	lostLine      = regexp.MustCompile(`Queries lost: +(\d+)`)
	rateLine      = regexp.MustCompile(`Queries per second: +([\d.]+)`)
	rcodesLine    = regexp.MustCompile(`Response codes: +(.*)`)
	rcodeWord     = regexp.MustCompile(`([A-Z]+) (\d+) `)
)

// dnsperf asks the questions of a file over and over, over UDP.
func dnsperf(server, questions string, duration time.Duration) (f flood, err error) {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		return f, err
	}
	const clients = "32" // sockets, so that servers which spread packets by source port can do so
	output, err := exec.Command("dnsperf", "-s", host, "-p", port, "-d", questions, "-c", clients, "-l", strconv.FormatFloat(duration.Seconds(), 'f', -1, 64)).CombinedOutput()
	if err != nil {
		return f, fmt.Errorf("dnsperf: %w: %s", err, output)
	}
	return parseDnsperf(string(output))
}

func parseDnsperf(text string) (f flood, err error) {
	completed, lost, rate := completedLine.FindStringSubmatch(text), lostLine.FindStringSubmatch(text), rateLine.FindStringSubmatch(text)
	if completed == nil || lost == nil || rate == nil {
		return f, fmt.Errorf("dnsperf: no result in: %s", text)
	}
	var errs [3]error
	f.answered, errs[0] = strconv.Atoi(completed[1])
	f.lost, errs[1] = strconv.Atoi(lost[1])
	f.rate, errs[2] = strconv.ParseFloat(rate[1], 64)
	f.rcodes = map[string]int{}
	if line := rcodesLine.FindStringSubmatch(text); line != nil {
		for _, m := range rcodeWord.FindAllStringSubmatch(line[1], -1) {
			if f.rcodes[m[1]], err = strconv.Atoi(m[2]); err != nil {
				return f, err
			}
		}
	}
	return f, errors.Join(errs[:]...)
}
