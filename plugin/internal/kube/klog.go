package kube

import (
	"sync"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

// quietKlog keeps what client-go logs off the standard error. It changes klog for
// the whole process, which has no other way.
var quietKlog = sync.OnceFunc(func() { klog.SetLogger(logr.New(debugSink{})) })

// A debugSink passes what client-go logs on to the debug log. Changes of state
// are logged where they are noticed.
type debugSink struct{}

func (debugSink) Init(logr.RuntimeInfo) {}

// Enabled turns all but errors off.
func (debugSink) Enabled(int) bool { return false }

// Info is not called.
func (debugSink) Info(int, string, ...any) {}

func (debugSink) Error(err error, message string, keysAndValues ...any) {
	log.Debugf("%s: %v %v", message, err, keysAndValues)
}

func (s debugSink) WithValues(...any) logr.LogSink { return s }

func (s debugSink) WithName(string) logr.LogSink { return s }
