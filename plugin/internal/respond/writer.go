package respond

import (
	"reflect"
	"sync"

	"github.com/coredns/coredns/request"
	"github.com/kubezone/kubezone/plugin/internal/wire"

	"github.com/miekg/dns"
)

// A writer takes the place of the server's ScrubWriter: it makes a reply fit and
// packs it, with the same outcome in a fraction of the time. What it does not
// pack itself goes the way of the ScrubWriter.
type writer struct {
	*request.ScrubWriter
	req *dns.Msg
}

// newWriter is w if that is no ScrubWriter, as after another Gate, or if what it
// writes to is not known to take packed messages: some writers that plugins put
// in its place catch the messages, and nothing else.
func newWriter(w dns.ResponseWriter, req *dns.Msg) dns.ResponseWriter {
	scrub, ok := w.(*request.ScrubWriter)
	if !ok || !takesPacked(scrub.ResponseWriter) {
		return w
	}
	return &writer{scrub, req}
}

// Those that send a packed message as they would send it unpacked: the writers
// of the ordinary server and of the udpbatch plugin. Their types have no names
// outside of their packages.
const (
	ordinaryWriter = "github.com/miekg/dns.response"
	batchWriter    = "github.com/kubezone/kubezone/plugin/udpbatch.response"
)

// A writerType is what is known of a type of writer.
type writerType struct {
	takesPacked bool
	sender      int // the field that holds what really sends, or -1
}

// writerTypes remembers them by type.
var writerTypes sync.Map

func writerTypeOf(t reflect.Type) writerType {
	if known, ok := writerTypes.Load(t); ok {
		return known.(writerType)
	}
	w := writerType{sender: -1}
	if t.Kind() == reflect.Pointer {
		switch t.Elem().PkgPath() + "." + t.Elem().Name() {
		case batchWriter:
			w.takesPacked = true
		case ordinaryWriter:
			f, ok := t.Elem().FieldByName("writer")
			if w.takesPacked = ok && f.Type.Kind() == reflect.Interface; w.takesPacked {
				w.sender = f.Index[0]
			}
		}
	}
	writerTypes.Store(t, w)
	return w
}

// takesPacked tells whether to write packed messages to w. The ordinary server's
// writer sends them itself even if a plugin, such as shed, decorated it: then
// only messages that it packs take the decorated way.
func takesPacked(w dns.ResponseWriter) bool {
	v := reflect.ValueOf(w)
	t := writerTypeOf(v.Type())
	if !t.takesPacked || t.sender < 0 {
		return t.takesPacked
	}
	sender := v.Elem().Field(t.sender).Elem()
	return sender.Kind() == reflect.Pointer && sender.Pointer() == v.Pointer()
}

// packedSize is for what a reply over UDP may have; larger ones are rare.
const packedSize = MaxUDPSize + 256

var packedBuffers = sync.Pool{New: func() any { return new([packedSize]byte) }}

// WriteMsg writes the reply.
func (w *writer) WriteMsg(m *dns.Msg) error {
	state := request.Request{Req: w.req, W: w.ResponseWriter}
	state.SizeAndDo(m)
	buffer := packedBuffers.Get().(*[packedSize]byte)
	defer packedBuffers.Put(buffer)
	m.Compress = true
	packed, ok := wire.Pack(m, buffer[:])
	if !ok || len(packed) > state.Size() {
		state.Scrub(m)
		return w.ResponseWriter.WriteMsg(m)
	}
	_, err := w.Write(packed)
	return err
}
