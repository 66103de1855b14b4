package udpbatch

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/coredns/caddy"
)

func TestParse(t *testing.T) {
	defaults := config{sockets: runtime.GOMAXPROCS(0), batch: defaultBatch, workers: defaultWorkers, queue: defaultQueue}
	defaults.connections = min(defaultConnections, descriptors()/2)
	defaults.perClient = (defaults.connections + 3) / 4
	changed := func(change func(*config)) config {
		cfg := defaults
		change(&cfg)
		return cfg
	}
	for _, tc := range []struct {
		text string
		want config
		err  string // "" for none
	}{
		{text: "udpbatch", want: defaults},
		{text: "udpbatch 3", want: changed(func(c *config) { c.sockets = 3 })},
		{text: "udpbatch {\nbatch 16\nworkers 8\nqueue 0\n}", want: changed(func(c *config) { c.batch, c.workers, c.queue = 16, 8, 0 })},
		{text: "udpbatch 256 {\nbatch 1024\nworkers 1048576\nqueue 1048576\nconnections 1048576\nper_client 1048576\n}", want: config{256, 1024, 1 << 20, 1 << 20, 1 << 20, 1 << 20}},
		{text: "udpbatch {\nconnections 0\n}", want: changed(func(c *config) { c.connections, c.perClient = 0, 0 })},
		{text: "udpbatch {\nconnections 9\n}", want: changed(func(c *config) { c.connections, c.perClient = 9, 3 })},
		{text: "udpbatch {\nper_client 7\nconnections 9\n}", want: changed(func(c *config) { c.connections, c.perClient = 9, 7 })},

		{text: "udpbatch 0", err: `1: udpbatch "0": want a whole number from 1 to 256`},
		{text: "udpbatch 257", err: `1: udpbatch "257": want a whole number from 1 to 256`},
		{text: "udpbatch many", err: `1: udpbatch "many": want a whole number from 1 to 256`},
		{text: `udpbatch ""`, err: `1: udpbatch "": want a whole number from 1 to 256`},
		{text: "udpbatch 1 2", err: `1: udpbatch: surplus argument "2"; want "udpbatch [SOCKETS]"`},
		{text: "udpbatch\nudpbatch", err: `2: udpbatch: given twice in this server block, first at Testfile:1`},
		{text: "udpbatch {\n}\n}", err: `3: unexpected "}" after udpbatch`},

		{text: "udpbatch {\nbatch 0\n}", err: `2: batch "0": want a whole number from 1 to 1024`},
		{text: "udpbatch {\nbatch 1025\n}", err: `2: batch "1025": want a whole number from 1 to 1024`},
		{text: "udpbatch {\nworkers 0\n}", err: `2: workers "0": want a whole number from 1 to 1048576`},
		{text: "udpbatch {\nqueue -1\n}", err: `2: queue "-1": want a whole number from 0 to 1048576`},
		{text: "udpbatch {\nconnections -1\n}", err: `2: connections "-1": want a whole number from 0 to 1048576`},
		{text: "udpbatch {\nper_client 0\n}", err: `2: per_client "0": want a whole number from 1 to 1048576`},
		{text: "udpbatch {\nbatch\n}", err: `2: batch: missing argument after "batch"; want "batch N"`},
		{text: "udpbatch {\nbatch 1 2\n}", err: `2: batch: surplus argument "2"; want "batch N"`},
		{text: "udpbatch {\nbatch 1\nqueue 1\nbatch 2\n}", err: `4: batch: given twice, first at Testfile:2; want it once, as "batch N"`},
		{text: "udpbatch {\nbatch 1 {\n}\n}", err: `2: batch: unexpected "{"; want "batch N" and no block`},
		{text: "udpbatch {\nsize 1\n}", err: `2: unknown option "size"; want one of batch, connections, per_client, queue, workers`},
	} {
		t.Run(tc.text, func(t *testing.T) {
			got, at, err := parse(caddy.NewTestController("dns", tc.text))
			if tc.err != "" {
				if want := "Testfile:" + tc.err[:1] + " - Error during parsing: " + tc.err[3:]; err == nil || err.Error() != want {
					t.Errorf("error %v; want %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got != tc.want {
				t.Errorf("got %+v; want %+v", got, tc.want)
			}
			if want := "Testfile:1"; fmt.Sprint(at) != want {
				t.Errorf("it is said to be at %s; want %s", at, want)
			}
		})
	}
}
