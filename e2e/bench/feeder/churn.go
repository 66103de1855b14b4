package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"
)

var errNoSlices = errors.New("no such slices")

// A Change is one that /churn made and sent.
type Change struct {
	Name string `json:"name"` // of the endpoint that has a new address
	Addr string `json:"addr"` // which no endpoint had before
	Sent int64  `json:"sent"` // when it went to a watch, in nanoseconds since 1970
}

// maxRate is more changes a second than any server follows.
const maxRate = 100_000

func (f *feeder) serveChurn(w http.ResponseWriter, r *http.Request) {
	rate, err := strconv.Atoi(r.FormValue("rate"))
	if err != nil || rate < 1 || rate > maxRate {
		http.Error(w, fmt.Sprintf("rate %q: want 1 to %d", r.FormValue("rate"), maxRate), http.StatusBadRequest)
		return
	}
	duration, err := time.ParseDuration(r.FormValue("for"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	slices := f.headlessSlices(r.FormValue("service"))
	if len(slices) == 0 {
		http.Error(w, errNoSlices.Error(), http.StatusNotFound)
		return
	}
	changes := make(chan Change, maxRate)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.churn(r, slices, rate, duration, changes)
	}()
	out := bufio.NewWriter(w)
	encoder := json.NewEncoder(out)
	for open := true; open; {
		var c Change
		select {
		case c = <-changes:
		case <-done:
			select {
			case c = <-changes:
			default:
				open = false
				continue
			}
		}
		_ = encoder.Encode(c) // the request's context tells when the client is gone
		if len(changes) == 0 {
			_ = out.Flush()
			_ = http.NewResponseController(w).Flush()
		}
	}
	_ = out.Flush()
}

// headlessSlices are those of the service with this name or, if it is "", of every headless one.
func (f *feeder) headlessSlices(service string) []int {
	var list []int
	p := f.store.population
	for i, slice := range p.Slices {
		if s := &p.Services[slice.Service]; s.Headless() && (service == "" || service == s.Name) {
			list = append(list, i)
		}
	}
	return list
}

// grace is how long a change may take to be sent once churn has ended.
const grace = time.Second

// churn changes the slices one after the other, each time another endpoint.
func (f *feeder) churn(r *http.Request, slices []int, rate int, duration time.Duration, changes chan<- Change) {
	const tick = time.Millisecond // several changes go out at once above 1,000 a second
	pace := time.NewTicker(tick)
	defer pace.Stop()
	start := time.Now()
	for n := 0; ; {
		select {
		case <-pace.C:
		case <-r.Context().Done():
			return
		}
		elapsed := min(time.Since(start), duration)
		for ; n < int(elapsed.Seconds()*float64(rate)); n++ {
			f.change(slices[n%len(slices)], n/len(slices), changes)
		}
		if elapsed == duration {
			break
		}
	}
	time.Sleep(grace)
}

// change changes an endpoint of the slice, the turn-th.
func (f *feeder) change(slice, turn int, changes chan<- Change) {
	p := f.store.population
	endpoint := p.Slices[slice].First + turn%p.Slices[slice].Count
	service := &p.Services[p.Slices[slice].Service]
	f.store.changeSlice(slice, endpoint, func(addr netip.Addr, sent time.Time) {
		select {
		case changes <- Change{Name: service.EndpointFQDN(endpoint, addr), Addr: addr.String(), Sent: sent.UnixNano()}:
		default: // nobody reads any more
		}
	})
}
