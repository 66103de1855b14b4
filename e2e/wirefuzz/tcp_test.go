package wirefuzz

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"github.com/miekg/dns"
)

const (
	prefixSize = 2  // octets of the length before each message (RFC 1035 section 4.2.2)
	mostHeld   = 16 // connections that are left open in the middle of a message
)

// A tcpClient opens one connection after the other and sends a stream of messages on each.
type tcpClient struct {
	run     *run
	address string
	held    []net.Conn
}

// An ending is how a client leaves.
type ending int

const (
	atEnd   ending = iota // the stream ends after a message
	halfWay               // it ends in the middle of one
	reset                 // the client is gone at once, and its replies with it
	stalled               // the connection stays open, in the middle of a message
	endings               // their number
)

// round sends one stream, and reads a reply for each message that it holds.
func (c *tcpClient) round(r *rand.Rand) error {
	end := ending(r.IntN(int(endings)))
	stream, packets := c.stream(r, end)
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if !keep {
			conn.Close()
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	begun := now()
	written := make(chan error, 1)
	go func() { written <- c.write(conn.(*net.TCPConn), stream, end, 1+r.IntN(4)) }()
	err = nil
	if end != reset {
		err = c.read(conn, packets, begun, end)
	}
	if e := <-written; e != nil && end != reset {
		err = errors.Join(err, e)
	}
	if err == nil && end == stalled {
		keep = true
		c.hold(conn)
	}
	return err
}

// stream is what goes over one connection, and the packets that a server finds in it.
func (c *tcpClient) stream(r *rand.Rand, end ending) (stream []byte, packets []packet) {
	made := map[string]packet{}
	for i := range 1 + r.IntN(40) {
		p := hostile(r)
		if r.IntN(2) == 0 {
			p = valid(r)
		}
		if p.class == largestClass {
			p.wire = append(p.wire, octets(r, dns.MaxMsgSize-len(p.wire))...) // TCP has room for more than UDP
		}
		if len(p.wire) >= 2 {
			binary.BigEndian.PutUint16(p.wire, uint16(i))
		}
		made[string(p.wire)] = p
		length := len(p.wire)
		if r.IntN(20) == 0 { // from here on the server reads something else
			length = r.IntN(1 + 2*length)
		}
		stream = binary.BigEndian.AppendUint16(stream, uint16(length))
		stream = append(stream, p.wire...)
	}
	stream, rest, packets := split(stream, made)
	if end == halfWay || end == stalled {
		p := valid(r)
		half := binary.BigEndian.AppendUint16(nil, uint16(oneOf(r, len(p.wire), dns.MaxMsgSize)))
		half = append(half, p.wire...)
		if len(rest) == 0 {
			stream = append(stream, half[:1+r.IntN(len(half)-1)]...)
		}
	}
	for _, p := range packets {
		if end == reset {
			p.class = lostClass
		}
		c.run.count(p.class)
	}
	return stream, packets
}

// split returns the packets that a server finds in a stream, and the rest, which is less than one. What a wrong length
// leaves may have the ID of a packet before it, and the replies may come in any order: the stream ends before it then.
func split(stream []byte, made map[string]packet) (kept, rest []byte, packets []packet) {
	asked := map[uint16]bool{}
	for rest = stream; len(rest) >= prefixSize; {
		length := int(binary.BigEndian.Uint16(rest))
		if len(rest) < prefixSize+length {
			break
		}
		frame := rest[prefixSize : prefixSize+length]
		if isAnswered(frame) {
			id := binary.BigEndian.Uint16(frame)
			if asked[id] {
				return stream[:len(stream)-len(rest)], nil, packets
			}
			asked[id] = true
		}
		p, ok := made[string(frame)]
		if !ok {
			p = packet{class: wrongClass, wire: frame}
		}
		packets = append(packets, p)
		rest = rest[prefixSize+length:]
	}
	return stream, rest, packets
}

// write sends the stream in pieces and leaves as end says.
func (c *tcpClient) write(conn *net.TCPConn, stream []byte, end ending, pieces int) error {
	for piece := range slices.Chunk(stream, 1+len(stream)/pieces) {
		if _, err := conn.Write(piece); err != nil {
			return fmt.Errorf("write %d octets: %w", len(piece), err)
		}
	}
	switch end {
	case atEnd, halfWay:
		return conn.CloseWrite()
	case reset:
		return errors.Join(conn.SetLinger(0), conn.Close())
	}
	return nil
}

// read takes the replies off the connection, which are as many as there are packets to answer. A server may answer in
// any order (RFC 7766 section 7), so it goes by the ID.
func (c *tcpClient) read(conn net.Conn, packets []packet, begun moment, end ending) error {
	pending := map[uint16][]packet{}
	n := 0
	for _, p := range packets {
		if isAnswered(p.wire) {
			id := binary.BigEndian.Uint16(p.wire)
			pending[id] = append(pending[id], p)
			n++
		}
	}
	for range n {
		wire, err := readMessage(conn)
		if err != nil {
			for _, waiting := range pending {
				for _, p := range waiting {
					err = errors.Join(err, fmt.Errorf("no reply to %s %x", p.class, p.wire))
				}
			}
			return err
		}
		if len(wire) < headerSize {
			return fmt.Errorf("a reply of %d octets: %x", len(wire), wire)
		}
		id := binary.BigEndian.Uint16(wire)
		if len(pending[id]) == 0 {
			return fmt.Errorf("a reply that nobody waits for: %x", wire)
		}
		p := pending[id][0]
		if pending[id] = pending[id][1:]; len(pending[id]) == 0 {
			delete(pending, id)
		}
		if err := c.run.judge(p, wire, "tcp", begun); err != nil {
			return err
		}
	}
	if end == stalled {
		return nil
	}
	if wire, err := readMessage(conn); err == nil {
		return fmt.Errorf("a reply that nobody waits for: %x", wire)
	} else if !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the last reply: %w", err)
	}
	return nil
}

func readMessage(conn net.Conn) ([]byte, error) {
	var prefix [prefixSize]byte
	if _, err := io.ReadFull(conn, prefix[:]); err != nil {
		return nil, err
	}
	wire := make([]byte, binary.BigEndian.Uint16(prefix[:]))
	_, err := io.ReadFull(conn, wire)
	return wire, err
}

// hold keeps a connection open, and ends the one that has been open longest if there are too many.
func (c *tcpClient) hold(conn net.Conn) {
	if c.held = append(c.held, conn); len(c.held) > mostHeld {
		c.held[0].Close()
		c.held = c.held[1:]
	}
}

// release ends the connections that are still open.
func (c *tcpClient) release() {
	for _, conn := range c.held {
		conn.Close()
	}
	c.held = nil
}
