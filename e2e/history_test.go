package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/kubezone/kubezone/e2e/harness"
)

// A history holds what the slices of a headless service said, and what DNS answered meanwhile.
type history struct {
	states  []state // in the order in which they came
	answers []answer
}

// A state is the set of ready IPv4 addresses from one moment until the next state's.
type state struct {
	from      time.Time
	addresses string
}

// An answer is the text of a reply to a query that was under way from one moment to another.
type answer struct {
	from, to time.Time
	text     string
}

// record watches the slices of a service and asks for its addresses all the time, until the test ends. Then every answer
// must be a state of the slices that was true when it was asked for, or less than shownWithin before.
func record(t *testing.T, c *harness.Cluster, s *harness.Server, namespace, service string) {
	t.Helper()
	watcher, err := c.Client.DiscoveryV1().EndpointSlices(namespace).Watch(t.Context(),
		metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	// Before the watch has told anything, the service may as well be without endpoints.
	h := &history{states: []state{{addresses: "NXDOMAIN"}}}
	var running sync.WaitGroup
	running.Go(func() { h.watchSlices(ctx, watcher) })
	running.Go(func() { h.askAllTheTime(ctx, t, s, fmt.Sprintf("%s.%s.svc.cluster.local. A", service, namespace)) })
	t.Cleanup(func() {
		stop()
		watcher.Stop()
		running.Wait()
		h.check(t)
	})
}

func (h *history) watchSlices(ctx context.Context, watcher watch.Interface) {
	current := make(map[string][]string) // by name of the slice
	for {
		select {
		case <-ctx.Done():
			return
		case event, open := <-watcher.ResultChan():
			if !open {
				return
			}
			slice, ok := event.Object.(*discoveryv1.EndpointSlice)
			if !ok || slice.AddressType != discoveryv1.AddressTypeIPv4 {
				continue
			}
			delete(current, slice.Name)
			if event.Type != watch.Deleted {
				for _, endpoint := range slice.Endpoints {
					if endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready {
						current[slice.Name] = append(current[slice.Name], endpoint.Addresses...)
					}
				}
			}
			var all []string
			for _, addresses := range current {
				all = append(all, addresses...)
			}
			slices.Sort(all)
			text := "NXDOMAIN" // no ready endpoint: the service has no name
			if len(all) > 0 {
				text = harness.Records("A", slices.Compact(all)...)
			}
			h.states = append(h.states, state{from: time.Now(), addresses: text})
		}
	}
}

func (h *history) askAllTheTime(ctx context.Context, t *testing.T, s *harness.Server, question string) {
	pause := time.NewTicker(5 * time.Millisecond)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		from := time.Now()
		text := ""
		if reply, err := s.Try(t, harness.Question{Text: question}); err != nil {
			text = err.Error() // no state, so the check fails with it
		} else {
			text = harness.Text(reply)
		}
		h.answers = append(h.answers, answer{from: from, to: time.Now(), text: text})
	}
}

func (h *history) check(t *testing.T) {
	t.Helper()
	if len(h.answers) < 10 || len(h.states) < 3 {
		t.Errorf("%d answers over %d states are no test", len(h.answers), len(h.states))
	}
	// A watch may reach the server a little before it reaches this test.
	const ahead = 100 * time.Millisecond
	for _, answer := range h.answers {
		var possible []string
		for i, state := range h.states {
			begun := state.from.Before(answer.to.Add(ahead))
			over := i+1 < len(h.states) && h.states[i+1].from.Before(answer.from.Add(-shownWithin))
			if begun && !over {
				possible = append(possible, state.addresses)
			}
		}
		if !slices.Contains(possible, answer.text) {
			t.Errorf("at %s DNS said\n%s\nwhile the slices said\n%s",
				answer.to.Format("05.000"), answer.text, strings.Join(possible, "\nor "))
			return // the first shows what is wrong
		}
	}
	t.Logf("%d answers agree with %d states of the slices", len(h.answers), len(h.states))
}
