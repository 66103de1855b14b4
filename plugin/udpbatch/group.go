//go:build linux

package udpbatch

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/coredns/coredns/plugin/pkg/transport"

	"github.com/kubezone/kubezone/plugin/internal/selfmark"
)

// grow opens more sockets. If not all can be had, those that can are used.
func (e *listener) grow(more int) error {
	var failed error
	for range more {
		l := newLane(e)
		if err := openSocket(l, hostPort(e.address)); err != nil {
			failed = fmt.Errorf("%s: one more socket: %w", e.address, err)
			break
		}
		e.mu.Lock()
		e.lanes = append(e.lanes, l)
		e.mu.Unlock()
		e.workers.run(l)
	}
	return errors.Join(failed, e.aim())
}

// shrink takes sockets out of the group and closes them once they are empty.
func (e *listener) shrink(keep int) error {
	e.mu.Lock()
	leaving := e.lanes[keep:]
	e.lanes = append([]*lane(nil), e.lanes[:keep]...)
	e.mu.Unlock()
	err := e.aim()
	for _, l := range leaving {
		err = errors.Join(err, l.leave())
	}
	for _, l := range leaving {
		<-l.done
		e.closeLane(l)
	}
	return errors.Join(err, e.aim()) // the kernel has moved other sockets to the places of the closed ones
}

// close gives the address back to CoreDNS's own sockets: it takes its own out of
// the group, answers what they hold, waits for the workers, and closes them.
func (e *listener) close() {
	deadline, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	e.mu.Lock()
	e.closed = true // from now on, nothing is begun in the background
	e.mu.Unlock()
	e.background.Wait()
	lanes := e.open()
	var leaving sync.WaitGroup
	leaving.Go(func() { e.streams.leave(deadline.Done()) })

	if len(lanes) > 0 {
		_ = steer(lanes[0].conn, steering(e.prober.magic, nil)) // nobody who is connected is chosen anyway
	}
	for _, l := range lanes {
		if err := l.leave(); err != nil {
			log.Warningf("%s: packets may be lost: %v", e.address, err)
		}
	}
	for _, l := range lanes {
		select {
		case <-l.done:
		case <-deadline.Done():
		}
	}
	leaving.Wait()
	e.mu.Lock()
	s := e.current
	e.mu.Unlock()
	if s != nil {
		e.await(s, deadline.Done())
	}
	for _, l := range lanes {
		e.closeLane(l)
	}
	e.workers.close()
}

func (e *listener) closeLane(l *lane) {
	e.mu.Lock()
	l.closed = true
	e.mu.Unlock()
	_ = l.conn.Close()
}

// retarget makes the kernel choose our sockets, for UDP and TCP.
func (e *listener) retarget() error { return errors.Join(e.aim(), e.streams.aim()) }

// aim finds out where in the group the sockets are and makes the kernel choose
// among them. The kernel does not tell, and other processes may have sockets in
// the group; so every place is sent a packet, and who gets it is there.
func (e *listener) aim() error {
	lanes := e.open()
	if len(lanes) == 0 {
		return nil
	}
	e.steered.Store(time.Now().Unix())
	if err := steer(lanes[0].conn, steering(e.prober.magic, nil)); err != nil {
		return fmt.Errorf("%s: the kernel does not steer packets to single sockets, so some are served the ordinary way: %w", e.address, err)
	}
	indexes, err := e.prober.locate(lanes)
	if err != nil {
		return fmt.Errorf("%s: %w: some packets are served the ordinary way", e.address, err)
	}
	return steer(lanes[0].conn, steering(e.prober.magic, indexes))
}

const (
	// aimInterval is how often the group is looked at if packets go astray:
	// another process may have changed it.
	aimInterval = 10 // seconds

	probeSize    = 10 // shorter than any message, so whoever else gets one ignores it
	mostProbes   = 100 + maxSockets
	probeTimeout = 200 * time.Millisecond // packets to oneself arrive at once, unless a flood is in the way
)

// A prober finds out which place in its group a socket has. A probe is a magic
// number and an index; the program of the group sends it there.
type prober struct {
	magic uint64 // chosen at random, so that nobody else sends probes

	mu     *sync.Mutex // guards what follows
	found  map[*lane]int
	wanted int
	all    chan struct{} // closed when as many as wanted are found
}

func newProber() prober {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return prober{magic: binary.BigEndian.Uint64(b[:]), mu: new(sync.Mutex)}
}

// locate returns the index of each of the lanes.
func (p *prober) locate(lanes []*lane) ([]int, error) {
	all := make(chan struct{})
	p.mu.Lock()
	p.found = make(map[*lane]int, len(lanes))
	p.wanted, p.all = len(lanes), all
	p.mu.Unlock()

	to := reachable(lanes[0].local.(*net.UDPAddr).AddrPort())
	conn, err := (&net.Dialer{Control: selfmark.Try}).Dial("udp", to.String())
	if err != nil {
		return nil, fmt.Errorf("probing the own address: %w", err)
	}
	defer conn.Close()
	timeout := time.After(probeTimeout)
	probe := binary.BigEndian.AppendUint64(nil, p.magic)
probing:
	for index := range uint16(mostProbes) {
		if _, err := conn.Write(binary.BigEndian.AppendUint16(probe, index)); err != nil {
			return nil, fmt.Errorf("probing the own address: %w", err)
		}
		if int(index) < len(lanes) {
			continue // there are as many places at least, and mostly one more
		}
		select {
		case <-all:
			break probing
		case <-timeout:
			break probing
		case <-time.After(probeTimeout / 100):
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = nil
	indexes := make([]int, 0, len(lanes))
	for _, l := range lanes {
		index, ok := p.found[l]
		if !ok {
			return nil, fmt.Errorf("%d of %d sockets were found in their group", len(p.found), len(lanes))
		}
		indexes = append(indexes, index)
	}
	return indexes, nil
}

// probed takes in a packet of probeSize that a lane got, and tells whether it
// is a probe.
func (p *prober) probed(l *lane, packet []byte) bool {
	if binary.BigEndian.Uint64(packet) != p.magic {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil {
		return true
	}
	// An index beyond the last leads to some socket too, but a smaller one has
	// led there before.
	if _, ok := p.found[l]; !ok {
		p.found[l] = int(binary.BigEndian.Uint16(packet[8:]))
		if len(p.found) == p.wanted {
			close(p.all)
			p.wanted = -1
		}
	}
	return true
}

// hostPort is an address as the net package takes it.
func hostPort(address string) string { return strings.TrimPrefix(address, transport.DNS+"://") }

// reachable returns where to send to for what a socket is bound to.
func reachable(bound netip.AddrPort) netip.AddrPort {
	switch address := bound.Addr().Unmap(); {
	case !address.IsUnspecified():
		return bound
	case address.Is4():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), bound.Port())
	default:
		return netip.AddrPortFrom(netip.IPv6Loopback(), bound.Port())
	}
}

// addrPort is the address of a connection; one of IPv4 in its own form.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := t.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}
