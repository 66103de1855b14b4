package kube

import (
	"io"
	golog "log"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	golog.SetOutput(io.Discard)
	goleak.VerifyTestMain(m)
}

// captureLog catches the log for the rest of the test.
func captureLog(t *testing.T) *logCapture {
	t.Helper()
	l := new(logCapture)
	golog.SetOutput(l)
	t.Cleanup(func() { golog.SetOutput(io.Discard) })
	return l
}
