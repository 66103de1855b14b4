//go:build linux

package udpbatch

import (
	"encoding/binary"
	"net"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel is called without telling Go's scheduler, which would wake its
// monitor and give the lane's processor away: the calls never wait. The monitor
// also takes the processor from a goroutine that keeps it long; one that may has
// read or written something before, and that wakes it. Nothing interrupts a lane
// that sends, the garbage collector neither, so no more than atOnce replies are
// sent in one call, which takes some tenths of a millisecond.
const atOnce = 64

// A sockaddr is an IPv4 or IPv6 address and a port, as the kernel has it.
type sockaddr struct {
	raw    unix.RawSockaddrInet6 // or, in its place, a RawSockaddrInet4
	length uint32
}

// A slot is where a packet and what the kernel says of it go.
type slot struct {
	packet  [packetSize]byte
	from    unix.RawSockaddrInet6
	control [controlSize]byte
	iovec   unix.Iovec
}

// An inbox has slots for packets. One goroutine at a time uses it.
type inbox struct {
	raw      syscall.RawConn
	slots    []*slot
	headers  []unix.Mmsghdr // of the slots
	draining bool           // what has arrived is read, and nothing waited for

	// Arguments and results of call, which is made once.
	call   func(fd uintptr) bool
	room   int
	filled int
	errno  syscall.Errno
}

func newInbox(raw syscall.RawConn) *inbox {
	in := &inbox{raw: raw}
	in.call = in.receive
	return in
}

// read waits for packets and takes room of them at most. There is at least one,
// or an error.
func (in *inbox) read(room int) (int, error) {
	for len(in.slots) < room {
		in.addSlot()
	}
	for i := range room { // the kernel has written over them
		h := &in.headers[i].Hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(controlSize)
	}
	in.room = room
	if err := in.raw.Read(in.call); err != nil {
		return 0, err
	}
	if in.errno != 0 {
		return 0, in.errno
	}
	return in.filled, nil
}

func (in *inbox) addSlot() {
	s := new(slot)
	s.iovec.Base = &s.packet[0]
	s.iovec.SetLen(len(s.packet))
	header := unix.Mmsghdr{Hdr: unix.Msghdr{Name: (*byte)(unsafe.Pointer(&s.from)), Iov: &s.iovec, Control: &s.control[0]}}
	header.Hdr.SetIovlen(1)
	in.slots = append(in.slots, s)
	in.headers = append(in.headers, header)
}

// receive returns false if there is nothing to read yet.
func (in *inbox) receive(fd uintptr) bool {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&in.headers[0])), uintptr(in.room),
		unix.MSG_DONTWAIT, 0, 0)
	in.filled, in.errno = int(n), errno
	return errno != syscall.EAGAIN || in.draining
}

// packet is one that was read, and its control message. Both are there until the
// next read.
func (in *inbox) packet(i int) (packet, control []byte) {
	s, h := in.slots[i], &in.headers[i]
	return s.packet[:h.Len], s.control[:min(uint64(h.Hdr.Controllen), controlSize)]
}

// from is where a packet came from.
func (in *inbox) from(i int) sockaddr {
	return sockaddr{raw: in.slots[i].from, length: in.headers[i].Hdr.Namelen}
}

// udpAddr fills in the address as the net package has it, with storage for its
// bytes. It returns false if it is no address.
func (s *sockaddr) udpAddr(a *net.UDPAddr, storage *[net.IPv6len]byte) bool {
	switch {
	case s.raw.Family == unix.AF_INET && s.length >= unix.SizeofSockaddrInet4:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&s.raw))
		a.IP = storage[:copy(storage[:net.IPv4len], v4.Addr[:]):net.IPv4len]
	case s.raw.Family == unix.AF_INET6 && s.length >= unix.SizeofSockaddrInet6:
		a.IP = storage[:copy(storage[:], s.raw.Addr[:])]
		if s.raw.Scope_id != 0 {
			a.Zone = zone(s.raw.Scope_id)
		}
	default:
		return false
	}
	port := (*[2]byte)(unsafe.Pointer(&s.raw.Port))
	a.Port = int(binary.BigEndian.Uint16(port[:]))
	return true
}

// zones has the names of the interfaces that link-local addresses were seen at. A
// new interface has a new index.
var zones sync.Map // of string by uint32

func zone(index uint32) string {
	if name, ok := zones.Load(index); ok {
		return name.(string)
	}
	i, err := net.InterfaceByIndex(int(index))
	if err != nil {
		return strconv.FormatUint(uint64(index), 10)
	}
	zones.Store(index, i.Name)
	return i.Name
}

// An outbox has replies to send.
type outbox struct {
	headers []unix.Mmsghdr
	iovecs  []unix.Iovec       // one for each header
	buffers []*[replySize]byte // that the replies use
}

// push adds a reply.
func (o *outbox) push(w *response, packed []byte, buffer *[replySize]byte) {
	iovec := unix.Iovec{Base: unsafe.SliceData(packed)}
	iovec.SetLen(len(packed))
	header := unix.Mmsghdr{Hdr: unix.Msghdr{Name: (*byte)(unsafe.Pointer(&w.from.raw)), Namelen: w.from.length}}
	if w.controlLen > 0 {
		header.Hdr.Control = &w.control[0]
		header.Hdr.SetControllen(w.controlLen)
	}
	o.headers = append(o.headers, header)
	o.iovecs = append(o.iovecs, iovec)
	o.buffers = append(o.buffers, buffer)
}

// empty forgets what has been sent.
func (o *outbox) empty() {
	for _, b := range o.buffers {
		replyBuffers.Put(b)
	}
	clear(o.headers)
	clear(o.iovecs)
	clear(o.buffers)
	o.headers, o.iovecs, o.buffers = o.headers[:0], o.iovecs[:0], o.buffers[:0]
}

// A sender sends what is in an outbox. One goroutine at a time uses it.
type sender struct {
	raw syscall.RawConn

	// Arguments and results of call, which is made once.
	call    func(fd uintptr) bool
	pending []unix.Mmsghdr
	sent    int
	errno   syscall.Errno
}

func newSender(raw syscall.RawConn) *sender {
	s := &sender{raw: raw}
	s.call = s.transmit
	return s
}

// send sends all replies, and calls refused for each that the kernel does not take.
func (s *sender) send(o *outbox, refused func()) {
	for i := range o.headers { // push may have moved the iovecs
		o.headers[i].Hdr.Iov = &o.iovecs[i]
		o.headers[i].Hdr.SetIovlen(1)
	}
	for rest := o.headers; len(rest) > 0; {
		s.pending = rest[:min(len(rest), atOnce)]
		s.sent, s.errno = 0, 0
		if err := s.raw.Write(s.call); err != nil || s.errno != 0 {
			refused() // the first of the rest
			s.sent = 1
		}
		rest = rest[s.sent:]
	}
	s.pending = nil
}

// transmit returns false if nothing can be sent yet.
func (s *sender) transmit(fd uintptr) bool {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.pending[0])), uintptr(len(s.pending)),
		unix.MSG_DONTWAIT, 0, 0)
	if s.errno = errno; errno == 0 {
		s.sent = int(n)
	}
	return errno != syscall.EAGAIN
}
