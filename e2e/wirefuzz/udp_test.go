package wirefuzz

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"time"
)

const (
	// replyWithin is how long a reply may take, from the beginning of its round.
	replyWithin = time.Second
	// patience is how long the test waits for a reply that is late, to tell late from never.
	patience = 30 * time.Second
	// roundOctets is what a round may put into the server's socket before it reads: the kernel's usual buffer is of
	// 208 KiB, and it counts more than the octets.
	roundOctets = 80_000
)

// A udpClient sends rounds of packets from one socket. It waits for the replies of a round before the next, so that
// nothing is lost on the way and each reply can be told from the others by its ID.
type udpClient struct {
	run  *run
	conn net.Conn
	id   uint16
}

// round sends a few hostile packets and a few valid ones in a random order, and reads the replies.
func (c *udpClient) round(r *rand.Rand) error {
	pending := make(map[uint16]packet)
	size, begun := 0, now()
	for range 2 + r.IntN(20) {
		p := hostile(r)
		if r.IntN(4) == 0 {
			p = valid(r)
		}
		if size += len(p.wire); size > roundOctets {
			break
		}
		c.id++
		if len(p.wire) >= 2 {
			binary.BigEndian.PutUint16(p.wire, c.id)
		}
		c.run.count(p.class)
		if isAnswered(p.wire) {
			pending[c.id] = p
		}
		if _, err := c.conn.Write(p.wire); err != nil {
			return fmt.Errorf("%s %x: %w", p.class, p.wire, err)
		}
	}
	for len(pending) > 0 {
		if err := c.receive(pending, begun, patience); err != nil {
			return err
		}
	}
	return nil
}

// receive reads one reply and takes its query off those that are pending.
func (c *udpClient) receive(pending map[uint16]packet, begun moment, within time.Duration) error {
	if err := c.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	buffer := make([]byte, 1<<16)
	n, err := c.conn.Read(buffer)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		for _, p := range pending {
			err = errors.Join(err, fmt.Errorf("no reply to %s %x", p.class, p.wire))
		}
	}
	if err != nil {
		return err
	}
	wire := buffer[:n]
	if n < headerSize {
		return fmt.Errorf("a reply of %d octets: %x", n, wire)
	}
	id := binary.BigEndian.Uint16(wire)
	p, ok := pending[id]
	if !ok {
		return fmt.Errorf("a reply that nobody waits for: %x", wire)
	}
	delete(pending, id)
	return c.run.judge(p, wire, "udp", begun)
}

// strays reads what comes after the last round: nothing.
func (c *udpClient) strays() error {
	const pause = 100 * time.Millisecond // many times what a reply takes
	err := c.receive(nil, now(), pause)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}
