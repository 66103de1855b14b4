//go:build linux

package udpbatch

import (
	"context"
	"encoding/binary"
	"reflect"
	"slices"

	"github.com/coredns/coredns/core/dnsserver"

	"github.com/miekg/dns"
)

// A serving is a server of CoreDNS and what of it the loops need. It does not
// change, but for users, which its listener counts.
type serving struct {
	server  *dnsserver.Server
	ctx     context.Context // of every query, as the ordinary path makes it
	opcodes map[int]bool    // accepted beside QUERY and NOTIFY
	secrets keyring

	users int           // batches and workers at work with it
	idle  chan struct{} // if somebody waits for users to be 0: closed then
}

func newServing(server *dnsserver.Server) *serving {
	ctx := context.WithValue(context.Background(), dnsserver.Key{}, server)
	ctx = context.WithValue(ctx, dnsserver.LoopKey{}, 0)
	return &serving{
		server:  server,
		ctx:     ctx,
		opcodes: allowedOpcodes(server),
		secrets: keyring(server.TsigSecret),
	}
}

// allowedOpcodes are those that plugins have asked for by Config.AllowOpcode.
// CoreDNS keeps them to itself, so they are looked up by name; if they are no
// longer there, a test fails, and such messages are refused as by a server
// without those plugins.
func allowedOpcodes(server *dnsserver.Server) map[int]bool {
	field := reflect.ValueOf(server).Elem().FieldByName("allowedOpcodes")
	if field.Kind() != reflect.Map {
		return nil
	}
	opcodes := make(map[int]bool, field.Len())
	for _, key := range field.MapKeys() {
		opcodes[int(key.Int())] = true
	}
	return opcodes
}

// headerSize is that of the fixed part of a message (RFC 1035 section 4.1.1).
const headerSize = 12

// action says what to do with a message that has this header.
func (s *serving) action(h dns.Header) dns.MsgAcceptAction {
	action := dns.DefaultMsgAcceptFunc(h)
	if action != dns.MsgRejectNotImplemented || !s.opcodes[int(h.Bits>>11)&0xF] {
		return action
	}
	if h.Qdcount != 1 {
		return dns.MsgReject
	}
	return dns.MsgAccept
}

// read reads a message. It returns the query; or, if the message is refused by
// its form, the reply to that; or neither. It keeps nothing of packet, but may
// write to it.
func (s *serving) read(sig *signature, packet []byte) (req, refusal *dns.Msg) {
	if len(packet) < headerSize {
		return nil, nil
	}
	action := s.action(dns.Header{
		Id:      binary.BigEndian.Uint16(packet),
		Bits:    binary.BigEndian.Uint16(packet[2:]),
		Qdcount: binary.BigEndian.Uint16(packet[4:]),
		Ancount: binary.BigEndian.Uint16(packet[6:]),
		Nscount: binary.BigEndian.Uint16(packet[8:]),
		Arcount: binary.BigEndian.Uint16(packet[10:]),
	})
	if action == dns.MsgAccept {
		if req = unpackQuery(packet); req != nil {
			return req, nil
		}
	}
	req = new(dns.Msg)
	switch action {
	case dns.MsgAccept:
		if req.Unpack(packet) != nil {
			return nil, refuse(req, dns.MsgReject)
		}
	case dns.MsgIgnore:
		return nil, nil
	default:
		if req.Unpack(packet[:headerSize]) != nil {
			return nil, nil
		}
		return nil, refuse(req, action)
	}
	if t := req.IsTsig(); t != nil {
		// Verifying appends to the message, behind which others may be.
		sig.status = dns.TsigVerifyWithProvider(slices.Clip(packet), s.secrets, "", false)
		sig.requestMAC = t.MAC
	}
	return req, nil
}

// refuse makes a message of which the header, and perhaps more, is known the
// reply to itself.
func refuse(req *dns.Msg, action dns.MsgAcceptAction) *dns.Msg {
	opcode := req.Opcode
	req.SetRcodeFormatError(req)
	req.Zero = false
	if action == dns.MsgRejectNotImplemented {
		req.Opcode = opcode
		req.Rcode = dns.RcodeNotImplemented
	}
	req.Answer, req.Ns, req.Extra = nil, nil, nil
	return req
}
