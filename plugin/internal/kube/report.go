package kube

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

// A countdown closes done when it was counted down from left.
type countdown struct {
	mu   sync.Mutex // guards left
	left int
	done chan struct{}
}

func (c *countdown) down() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left == 0 {
		close(c.done)
	}
}

// A report is what Status tells of one kind. It is safe for concurrent use.
type report struct {
	kind   kind
	unheld *countdown
	braked atomic.Bool // a list is held back; queries read it
	astray atomic.Bool // all was held once, and is not followed now; queries read it

	mu        sync.Mutex // guards the rest
	settled   bool       // unheld was told
	lists     int
	lastEvent time.Time
	missing   bool   // the source lacks the kind
	trouble   string // as in KindStatus.LastError
	logged    string // the class of the trouble that was last logged, "" since it ended

	repairs bool // what is held is known to be wrong, and a list is on its way
	drift   int
	refused int
	skipped map[string]int // by reason
	invalid map[index.ObjectKey]invalid
	round   int // of listing; see pruneInvalid
}

// An invalid object is one with faults.
type invalid struct {
	faults string
	round  int // in which it was last seen
}

func newReport(k kind, unheld *countdown) *report {
	return &report{kind: k, unheld: unheld, skipped: map[string]int{}, invalid: map[index.ObjectKey]invalid{}}
}

// event notes that the source said something.
func (r *report) event() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastEvent = time.Now()
}

// listed notes that the kind is complete in the Index.
func (r *report) listed() {
	r.mu.Lock()
	defer r.noted()
	r.lastEvent = time.Now()
	r.lists++
	r.missing = false
	r.pruneInvalid()
	r.settle()
}

// absent notes that the source has no such kind, so that all there is of it is
// known.
func (r *report) absent() {
	r.mu.Lock()
	defer r.noted()
	r.lastEvent = time.Now()
	r.lists = max(r.lists, 1)
	r.missing = true
	r.settle()
}

// answered notes that the source said something about a kind that nothing waits
// for beyond that.
func (r *report) answered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settle()
}

// noted works out astray, and unlocks. The caller holds mu.
func (r *report) noted() {
	r.astray.Store(r.lists > 0 && (r.repairs || (r.trouble != "" && !r.missing)))
	r.mu.Unlock()
}

// settle tells the countdown, once. The caller holds mu.
func (r *report) settle() {
	if !r.settled {
		r.settled = true
		r.unheld.down()
	}
}

// drifted counts objects that differed from the source's without its having said
// so.
func (r *report) drifted(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drift += n
}

// repair notes that a list is on its way because what is held is wrong, and
// reports whether that is news.
func (r *report) repair() (news bool) {
	r.mu.Lock()
	defer r.noted()
	news = !r.repairs
	r.repairs = true
	return news
}

// repaired notes that a list came.
func (r *report) repaired() {
	r.mu.Lock()
	defer r.noted()
	r.repairs = false
}

// following tells whether the kind is held and followed without trouble, and not
// known to be wrong.
func (r *report) following() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lists > 0 && !r.missing && !r.astray.Load() && !r.braked.Load()
}

// failed notes a trouble, and reports whether its class is another than that of
// the one before, if that has not ended: whether it is worth a line in the log.
func (r *report) failed(class, text string) (news bool) {
	r.mu.Lock()
	defer r.noted()
	r.trouble = text
	news = class != r.logged
	r.logged = class
	return news
}

// troubled notes a trouble that is of all kinds, or may pass by itself, and so is
// not for this kind to log.
func (r *report) troubled(text string) {
	r.mu.Lock()
	defer r.noted()
	r.trouble = text
}

// ended notes that there is no trouble, and reports whether there was one that
// was logged.
func (r *report) ended() (news bool) {
	r.mu.Lock()
	defer r.noted()
	news = r.logged != ""
	r.trouble, r.logged = "", ""
	return news
}

// refuse is failed for an edit of the manifests that is not taken over.
func (r *report) refuse(text string) (news bool) {
	if news = r.failed(text, text); news {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.refused++
	}
	return news
}

// check notes the faults of an object, and logs and counts them unless it had
// the very same before.
func (r *report) check(key index.ObjectKey, f faults) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(f) == 0 {
		delete(r.invalid, key)
		return
	}
	text := f.Error()
	news := r.invalid[key].faults != text
	r.invalid[key] = invalid{faults: text, round: r.round}
	if !news {
		return
	}
	for _, fault := range f {
		r.skipped[string(fault.reason)]++
	}
	log.Warningf("Skipped in %s %s: %s", r.kind, keyText(key), text)
}

// forget is for an object that is gone.
func (r *report) forget(key index.ObjectKey) { r.check(key, nil) }

// pruneInvalid forgets the invalid objects that the list that just ended does
// not hold any more. One that an event brought since the list before stays for
// a round, as it cannot be told from those.
func (r *report) pruneInvalid() {
	for key, object := range r.invalid {
		if object.round != r.round {
			delete(r.invalid, key)
		}
	}
	r.round++
}

// isSettled tells whether nothing waits for the kind any more.
func (r *report) isSettled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settled
}

func (r *report) status() KindStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := KindStatus{
		Kind:      r.kind.Kind,
		Imported:  r.kind.imported,
		Synced:    r.lists > 0,
		LastEvent: r.lastEvent,
		Relists:   max(r.lists-1, 0),
		SkippedBy: maps.Clone(r.skipped),
		Drift:     r.drift,
		Refused:   r.refused,
		LastError: r.trouble,
		Braked:    r.braked.Load(),
	}
	for _, n := range r.skipped {
		st.Skipped += n
	}
	return st
}

func keyText(key index.ObjectKey) string {
	if key.Namespace == "" {
		return key.Name
	}
	return key.Namespace + "/" + key.Name
}
