package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"time"
)

// A feed is a running feeder.
type feed struct {
	*process
	api, control string // base URLs
}

// startFeed starts the feeder with a population, perhaps in a network namespace.
func (b *bench) startFeed(population string, in *netns, flags ...string) (*feed, error) {
	cmd := in.command(b.program("feeder"), append([]string{"-population", population}, flags...)...)
	p, err := startProcess(b.dir, b.unique("feeder-"+population), cmd)
	if err != nil {
		return nil, err
	}
	f := &feed{process: p}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if n, _ := fmt.Sscanf(p.output(), "api=%s control=%s", &f.api, &f.control); n == 2 {
			f.api, f.control = "http://"+f.api, "http://"+f.control
			return f, nil
		}
	}
	p.stop()
	return nil, fmt.Errorf("feeder: not ready: %s", p.output())
}

// stats is what the feeder's control port says at /stats.
type stats struct {
	Sent     int64          `json:"sent"`
	Requests map[string]int `json:"requests"`
}

func (f *feed) stats() (s stats, err error) {
	response, err := http.Get(f.control + "/stats")
	if err != nil {
		return s, err
	}
	defer response.Body.Close()
	return s, json.NewDecoder(response.Body).Decode(&s)
}

// lists counts the lists of a resource that were asked for.
func (s stats) lists(resource string) int {
	return s.Requests["list "+resource] + s.Requests["watchlist "+resource]
}

// restart cuts all connections and forgets all history; with rewrite every object changes.
func (f *feed) restart(away time.Duration, rewrite bool) error {
	query := url.Values{"away": {away.String()}, "rewrite": {fmt.Sprint(rewrite)}}
	body, err := f.post("/restart", query)
	if err != nil {
		return err
	}
	return body.Close()
}

// A change is one that the feeder made: from then on the name has the address.
type change struct {
	Name string `json:"name"`
	Addr string `json:"addr"`
	Sent int64  `json:"sent"` // in nanoseconds since 1970
}

// churn changes slices of a service, or of all headless ones if it is "", and calls changed once for each change when it
// has been sent.
func (f *feed) churn(rate int, duration time.Duration, service string, changed func(change)) error {
	body, err := f.post("/churn", url.Values{"rate": {fmt.Sprint(rate)}, "for": {duration.String()}, "service": {service}})
	if err != nil {
		return err
	}
	defer body.Close()
	for decoder := json.NewDecoder(body); ; {
		var c change
		if err := decoder.Decode(&c); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("feeder: churn: %w", err)
		}
		changed(c)
	}
}

func (f *feed) post(path string, query url.Values) (io.ReadCloser, error) {
	response, err := http.Post(f.control+path+"?"+query.Encode(), "", nil)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, fmt.Errorf("feeder: %s: %s", path, response.Status)
	}
	return response.Body, nil
}

// A netns is a network namespace by its name; nil is the one this program is in.
type netns struct{ name string }

// command is the program, to be run in the namespace.
func (n *netns) command(name string, args ...string) *exec.Cmd {
	if n == nil {
		return exec.Command(name, args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", n.name, name}, args...)...)
}

func ip(args ...string) error {
	if output, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, output)
	}
	return nil
}
