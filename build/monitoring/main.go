// Command monitoring writes the Grafana dashboard for kubezone to its standard output. `make dashboard` keeps what it
// writes in dashboard.json; rules.yaml beside it has the Prometheus rules.
package main

import (
	"fmt"
	"os"
)

func main() {
	text, err := ours().JSON()
	if err == nil {
		_, err = os.Stdout.Write(text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "monitoring:", err)
		os.Exit(1)
	}
}
