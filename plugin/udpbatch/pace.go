//go:build linux

package udpbatch

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// A pace remembers, by the end of the name asked for, how often handlers wait
// for something: a cluster's own names are answered from memory, others wait
// for an upstream. What it learns from is time, which also passes while other
// processes have the processor; so single late answers mean little, and one for
// which a thread sleeps means much. The zero value knows nothing. All methods
// may be called at any time.
type pace struct {
	waits     [paceSuffixes]atomic.Uint32 // how often, of certain; 0: not known
	strangers atomic.Uint32               // the same for what is not known
}

const (
	paceSuffixes = 512 // suffixes told apart; two that share a number are treated alike

	certain = 1 << 16      // every handler waits
	often   = certain / 24 // beyond this, queries are handled by workers
	memory  = 256          // queries that a figure is made of

	// quickly is longer than any answer from memory takes, and shorter than a
	// round trip to another machine.
	quickly = 200 * time.Microsecond
)

// An observation is how much one query counts, in queries that wait.
type observation int64

const (
	answered observation = 0  // at once
	tardy    observation = 1  // after more than quickly, for whatever reason
	asleep   observation = 12 // not in time for its lane, whose thread slept; that is so in a long pause of the collector, too
)

// seen is the observation for a handler that took so long.
func seen(took time.Duration) observation {
	if took < quickly {
		return answered
	}
	return tardy
}

// A suffix stands for the last two labels of a name.
type suffix uint32

var suffixSeed = maphash.MakeSeed() // nobody can choose a name that shares the number of another

func suffixOf(req *dns.Msg) suffix {
	if len(req.Question) == 0 {
		return 0
	}
	name := req.Question[0].Name
	start := 0
	for i, dots := len(name)-1, 0; i >= 0; i-- {
		if name[i] == '.' {
			if dots++; dots == 3 {
				start = i + 1
				break
			}
		}
	}
	var lower [32]byte
	tail := name[max(start, len(name)-len(lower)):]
	for i := range len(tail) {
		lower[i] = tail[i]
		if 'A' <= tail[i] && tail[i] <= 'Z' {
			lower[i] |= 0x20
		}
	}
	return suffix(maphash.Bytes(suffixSeed, lower[:len(tail)]) % paceSuffixes)
}

// quick tells whether the handlers are expected to answer at once.
func (p *pace) quick(s suffix) bool {
	w := p.waits[s].Load()
	if w == 0 {
		w = p.strangers.Load()
	}
	return w < often
}

// observe takes in one query.
func (p *pace) observe(s suffix, o observation) {
	w := p.waits[s].Load()
	if w == 0 {
		w = p.strangers.Load()
		p.strangers.Store(learn(w, o))
	}
	if next := learn(w, o) | 1; next != w {
		p.waits[s].Store(next)
	}
}

func learn(w uint32, o observation) uint32 {
	next := int64(w) + (int64(o)*certain-int64(w))/memory
	return uint32(min(next, certain))
}
