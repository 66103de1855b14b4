package main

import (
	"bytes"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLoad(t *testing.T) {
	broken := errors.New("no such host")
	synctest.Test(t, func(t *testing.T) {
		// Of every four lookups one fails and one is slow; a bubble's clock makes all of it exact.
		var n atomic.Int64
		got := load(4, 10*time.Second, 500*time.Millisecond, func() error {
			switch n.Add(1) % 4 {
			case 0:
				time.Sleep(100 * time.Millisecond)
				return broken
			case 1:
				time.Sleep(700 * time.Millisecond)
			default:
				time.Sleep(200 * time.Millisecond)
			}
			return nil
		})
		made := int(n.Load())
		if got.requests != made || got.errors != made/4 || got.over != (made+3)/4 {
			t.Errorf("%d requests, %d errors, %d over the limit; want %d, %d, %d", got.requests, got.errors, got.over, made, made/4, (made+3)/4)
		}
		if got.min != 100*time.Millisecond || got.max != 700*time.Millisecond || !errors.Is(got.firstError, broken) {
			t.Errorf("min %v, max %v, first error %v; want 100ms, 700ms, %v", got.min, got.max, got.firstError, broken)
		}
	})
}

func TestCommandLine(t *testing.T) {
	for _, test := range []struct {
		name, args     string
		code           int
		stdout, stderr string
	}{
		{"a name that every resolver knows", "-host localhost -c 2 -d 1 -l 60000", 0, "error count: 0\n", ""},
		{"no name", "-c 1", 2, "", "want -host NAME"},
		{"nobody asks", "-host localhost -c 0", 2, "", "numbers of 1 or more"},
		{"not a number", "-host localhost -c many", 2, "", "invalid value"},
		{"too many arguments", "-host localhost again", 2, "", "want -host NAME"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(strings.Fields(test.args), &stdout, &stderr); code != test.code {
				t.Errorf("exit status %d; want %d", code, test.code)
			}
			if !strings.Contains(stdout.String(), test.stdout) || !strings.Contains(stderr.String(), test.stderr) {
				t.Errorf("printed %q and %q; want %q and %q", stdout.String(), stderr.String(), test.stdout, test.stderr)
			}
		})
	}
}
