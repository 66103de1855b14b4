//go:build linux

package udpbatch

import (
	"sync"

	"github.com/miekg/dns"
)

// A runner reads queries from somewhere and handles them. Run returns true once
// another goroutine does so and this one only has handled a query, and false at
// the end.
type runner interface {
	run() (lost bool)
}

// A job is what a worker does: it handles the query that w answers or, if w is
// nil, runs the runner.
type job struct {
	runner  runner
	w       *response
	req     *dns.Msg
	serving *serving
	suffix  suffix
}

// workers handle what may take long. Their goroutines are used again and again,
// so their stacks have the size they need.
type workers struct {
	wg sync.WaitGroup // of their goroutines

	mu      sync.Mutex // guards what follows
	limit   int
	busy    int // handling a query
	idle    []chan job
	waiting queue
	closed  bool
}

// keepIdle is how many workers stay without work: enough for the ups and downs
// of a usual load.
const keepIdle = 128

func (p *workers) resize(limit, queue int) (dropped []job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = limit
	return p.waiting.resize(queue)
}

// dispatch hands a query to a worker or, if all are busy, makes it wait. It
// returns false and the query that is given up for it if too many wait.
//
// An eighth of the workers is left to take over lanes.
func (p *workers) dispatch(j job) (dropped job, ok bool) {
	p.mu.Lock()
	if p.closed || p.busy >= p.limit-p.limit/8 {
		dropped, full := p.waiting.push(j)
		p.mu.Unlock()
		return dropped, !full
	}
	p.busy++
	p.start(j)
	return job{}, true
}

// takeOver runs a runner in another goroutine, as its own one is stuck in a
// handler and counts as a worker from now on. It returns false if too many are
// busy: all, or as much of them as the share says, such as 2 for a half.
func (p *workers) takeOver(r runner, share int) bool {
	p.mu.Lock()
	if p.closed || p.busy >= p.limit/share {
		p.mu.Unlock()
		return false
	}
	p.busy++
	p.start(job{runner: r})
	return true
}

// run runs a runner in a goroutine that counts as none of the workers yet.
func (p *workers) run(r runner) {
	p.mu.Lock()
	p.start(job{runner: r})
}

// start gives a job to an idle worker or a new one. It is called with mu held,
// and gives it back.
func (p *workers) start(j job) {
	if n := len(p.idle); n > 0 {
		jobs := p.idle[n-1] // the one with the warmest stack
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		jobs <- j
		return
	}
	p.wg.Add(1)
	p.mu.Unlock()
	go p.work(j)
}

// work is the goroutine of one worker.
func (p *workers) work(j job) {
	defer p.wg.Done()
	jobs := make(chan job, 1)
	for ok := true; ok; j, ok = p.next(jobs) {
		if j.w != nil {
			j.w.lane.handle(j)
		} else if lost := j.runner.run(); !lost {
			p.enlist()
		}
	}
}

// enlist counts a goroutine that has run a runner to its end as a worker.
func (p *workers) enlist() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy++
}

// next returns the newest query that waits, as its client is the most likely to
// wait still, or else blocks until there is a job. It returns false at the end.
func (p *workers) next(jobs chan job) (job, bool) {
	p.mu.Lock()
	if p.busy <= p.limit {
		if j, ok := p.waiting.pop(); ok {
			p.mu.Unlock()
			return j, true
		}
	}
	p.busy--
	if p.closed || len(p.idle) >= keepIdle {
		p.mu.Unlock()
		return job{}, false
	}
	p.idle = append(p.idle, jobs)
	p.mu.Unlock()
	j, ok := <-jobs
	return j, ok
}

// load returns how many workers handle a query and how many queries wait.
func (p *workers) load() (busy, waiting int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.busy, p.waiting.count
}

// close ends the idle workers; the others end when they have done their work.
func (p *workers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, jobs := range p.idle {
		close(jobs)
	}
	p.idle = nil
}

// A queue holds a limited number of jobs in the order of their arrival. The
// zero value holds none.
type queue struct {
	ring  []job
	start int // of the oldest
	count int
}

// push adds a job as the newest. If the queue is full it returns the oldest,
// which is no longer in it, and true.
func (q *queue) push(j job) (oldest job, full bool) {
	if len(q.ring) == 0 {
		return j, true
	}
	if q.count == len(q.ring) {
		oldest, full = q.ring[q.start], true
		q.ring[q.start] = j
		q.start = (q.start + 1) % len(q.ring)
		return oldest, full
	}
	q.ring[(q.start+q.count)%len(q.ring)] = j
	q.count++
	return job{}, false
}

// pop removes the newest.
func (q *queue) pop() (job, bool) {
	if q.count == 0 {
		return job{}, false
	}
	q.count--
	i := (q.start + q.count) % len(q.ring)
	j := q.ring[i]
	q.ring[i] = job{}
	return j, true
}

// resize changes the limit. It returns the oldest jobs if there are too many.
func (q *queue) resize(limit int) (dropped []job) {
	if limit == len(q.ring) {
		return nil
	}
	kept := queue{ring: make([]job, limit)}
	for i := range q.count {
		if oldest, full := kept.push(q.ring[(q.start+i)%len(q.ring)]); full {
			dropped = append(dropped, oldest)
		}
	}
	*q = kept
	return dropped
}
