package main

import (
	"crypto/rand"
	"sync"

	"github.com/miekg/dns"
)

// idBlock is how many octets of the system's randomness are drawn at once. The
// loadbalance plugin draws an ID for every record that it moves, and the library
// goes to the source for each.
const idBlock = 512

// An idSource holds randomness that was drawn and not used.
type idSource struct {
	octets [idBlock]byte
	used   int
}

var idSources = sync.Pool{New: func() any { return &idSource{used: idBlock} }}

func init() { dns.Id = newID }

// newID returns an ID that nobody can predict. It is safe for concurrent use.
func newID() uint16 {
	s := idSources.Get().(*idSource)
	if s.used == idBlock {
		_, _ = rand.Read(s.octets[:]) // never fails
		s.used = 0
	}
	id := uint16(s.octets[s.used])<<8 | uint16(s.octets[s.used+1])
	s.used += 2
	idSources.Put(s)
	return id
}
