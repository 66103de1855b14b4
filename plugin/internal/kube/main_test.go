package kube

import (
	"bytes"
	"encoding/pem"
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

func pemCertificate(der []byte) []byte {
	var b bytes.Buffer
	_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	return b.Bytes()
}
