package main

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// answerWithin is how long an answer may take before it counts as lost.
const answerWithin = 2 * time.Second

// A sample is how long each of some answers took. Lost ones are only counted.
type sample struct {
	took  []time.Duration
	lost  int
	wrong int // answers with another rcode than the one that is right
}

func (s *sample) add(o sample) {
	s.took = append(s.took, o.took...)
	s.lost += o.lost
	s.wrong += o.wrong
}

// quantile is the time within which the part q of the answers came; those that were lost never did.
func (s *sample) quantile(q float64) time.Duration {
	slices.Sort(s.took)
	at := int(q * float64(len(s.took)+s.lost))
	if at >= len(s.took) {
		return answerWithin
	}
	return s.took[at]
}

// askUDP sends the questions, which are whole messages, at a fixed rate, whether or not earlier ones were answered. The
// moment an answer comes is the kernel's, so a client that has to wait for its CPU does not count.
func askUDP(server string, questions [][]byte, rcode int, rate float64, duration time.Duration) (sample, error) {
	address, err := netip.ParseAddrPort(server)
	if err != nil {
		return sample{}, err
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return sample{}, err
	}
	defer unix.Close(socket)
	const buffer = 4 << 20 // octets: holds all answers while the client waits for its CPU
	patience := unix.NsecToTimeval(int64(answerWithin))
	if err := errors.Join(
		unix.Connect(socket, &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}),
		unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience),
	); err != nil {
		return sample{}, err
	}
	// Without the privilege the buffer is as large as net.core.rmem_max allows.
	if unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		if err := unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer); err != nil {
			return sample{}, err
		}
	}
	var (
		sentAt  [1 << 16]atomic.Int64 // by the message's ID, in nanoseconds since 1970; 0 when answered
		result  sample
		total   = int(rate * duration.Seconds())
		sent    atomic.Int64
		stopped = make(chan struct{})
	)
	result.took = make([]time.Duration, 0, total)
	go func() {
		defer close(stopped)
		message, control := make([]byte, 1<<16), make([]byte, 128)
		for len(result.took) < total {
			n, controlLen, _, _, err := unix.Recvmsg(socket, message, control, 0)
			if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNREFUSED) {
				continue
			}
			if err != nil { // nothing came for as long as an answer may take
				if int(sent.Load()) == total {
					return
				}
				continue
			}
			if n < 12 {
				continue
			}
			start := sentAt[binary.BigEndian.Uint16(message)].Swap(0)
			at, ok := received(control[:controlLen])
			if start == 0 || !ok {
				continue
			}
			result.took = append(result.took, time.Duration(at-start))
			if int(message[3]&0xf) != rcode {
				result.wrong++
			}
		}
	}()
	if err := paced(rate, total, func(n int) error {
		q := questions[n%len(questions)]
		binary.BigEndian.PutUint16(q, uint16(n))
		sentAt[uint16(n)].Store(time.Now().UnixNano())
		sent.Add(1)
		_, err := unix.Write(socket, q)
		if errors.Is(err, unix.ECONNREFUSED) { // of an earlier one, which is lost
			err = nil
		}
		return err
	}); err != nil {
		return sample{}, err
	}
	<-stopped
	result.lost = total - len(result.took)
	return result, nil
}

// received is the kernel's time stamp of a message, in nanoseconds since 1970.
func received(control []byte) (int64, bool) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0, false
	}
	for _, m := range messages {
		if m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
			return int64(binary.NativeEndian.Uint64(m.Data))*int64(time.Second) + int64(binary.NativeEndian.Uint64(m.Data[8:])), true
		}
	}
	return 0, false
}

// paced calls f so many times at the rate, with gaps as they are between independent clients (exponential), on a thread
// of its own. When it is late it makes up for it.
func paced(rate float64, total int, f func(n int) error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	random := rand.New(rand.NewPCG(1, 2)) // the same gaps for every side
	next := time.Now()
	for n := range total {
		if wait := time.Until(next); wait > 0 {
			pause := unix.NsecToTimespec(int64(wait))
			_ = unix.Nanosleep(&pause, nil) // a shorter sleep does no harm
		}
		if err := f(n); err != nil {
			return err
		}
		next = next.Add(time.Duration(random.ExpFloat64() / rate * float64(time.Second)))
	}
	return nil
}
