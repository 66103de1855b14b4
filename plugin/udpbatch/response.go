//go:build linux

package udpbatch

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/miekg/dns"
)

// replySize is what a reply in a pooled buffer may have, before compression.
// Nearly all have less: clients announce 1232 octets, or no EDNS at all.
const replySize = 2048

// controlSize is enough for the one control message that a socket asks for.
const controlSize = 40

var replyBuffers = sync.Pool{New: func() any { return new([replySize]byte) }}

var (
	errWriteAfterClose = errors.New("udpbatch: write after Close")
	errClosed          = errors.New("udpbatch: closed already")
	errTooLong         = fmt.Errorf("udpbatch: a message of more than %d octets", dns.MaxMsgSize)
)

// A response writes the reply to one query, as dns.ResponseWriter says. It is
// never used again for another query: plugins may keep it. As with the ordinary
// server's, its methods are not to be called at the same time.
type response struct {
	signature
	lane       *lane
	from       sockaddr
	remote     net.UDPAddr // that is from
	ip         [net.IPv6len]byte
	control    [controlSize]byte // names the address to reply from
	controlLen int

	closed bool
}

var (
	_ dns.ResponseWriter   = (*response)(nil)
	_ dns.ConnectionStater = (*response)(nil)
)

func (w *response) LocalAddr() net.Addr { return w.lane.local }

func (w *response) RemoteAddr() net.Addr { return &w.remote }

// Hijack does nothing: there is no connection to take over, and a query without
// a reply is nothing that has to be told.
func (w *response) Hijack() {}

// Close ends writing. The socket is everybody's and stays open.
func (w *response) Close() error {
	if w.closed {
		return errClosed
	}
	w.closed = true
	return nil
}

// WriteMsg packs and signs a reply and hands it over to be sent. It keeps
// nothing of m. The reply may leave with others after WriteMsg has returned; if
// the kernel does not take it then, it is counted as dropped.
func (w *response) WriteMsg(m *dns.Msg) error {
	if w.closed {
		return errWriteAfterClose
	}
	buffer := replyBuffers.Get().(*[replySize]byte)
	packed, err := w.pack(m, buffer[:])
	if err != nil {
		replyBuffers.Put(buffer)
		return err
	}
	return w.lane.reply(w, packed, buffer)
}

// Write sends a message that is packed already.
func (w *response) Write(packed []byte) (int, error) {
	if w.closed {
		return 0, errWriteAfterClose
	}
	buffer := replyBuffers.Get().(*[replySize]byte)
	own := append(buffer[:0], packed...) // the caller may use packed again at once
	if err := w.lane.reply(w, own, buffer); err != nil {
		return 0, err
	}
	return len(packed), nil
}
