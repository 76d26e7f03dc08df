package origin

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// How often, and when, a second request is made for what is late.
const (
	hedgeShare   = 20 // one for so many fetches
	hedgeBurst   = 4  // and so many beyond that, so that few fetches can have one, too
	hedgesAtOnce = 4  // as each takes memory of its own
	hedgeSoonest = 200 * time.Millisecond
	paceSamples  = 256
)

// pace is what is known of how soon first bytes come, and the allowance of
// second requests.
type pace struct {
	mu      sync.Mutex // guards what follows
	samples [paceSamples]time.Duration
	count   int // samples ever; the place is modulo
	credit  int // of second requests, each of which costs hedgeShare
	running int
	closed  bool

	slowest     atomic.Int64  // a time.Duration that 95 of 100 answers began in
	issued, won atomic.Uint64 // second requests
}

// request counts one fetch, which earns a part of a second request.
func (p *pace) request() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.credit = min(p.credit+1, hedgeBurst*hedgeShare)
}

// answered notes how long a first byte took.
func (p *pace) answered(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.samples[p.count%paceSamples] = d
	p.count++
	if n := min(p.count, paceSamples); n < 16 || p.count%16 == 0 {
		sorted := p.samples
		slices.Sort(sorted[:n])
		p.slowest.Store(int64(sorted[(n*95+99)/100-1]))
	}
}

// lateAfter returns the silence after which a request counts as late: longer
// than nearly all answers took to begin.
func (p *pace) lateAfter() time.Duration {
	return max(time.Duration(p.slowest.Load()), hedgeSoonest)
}

// take reports whether a second request may be made now, having called running
// then. done ends it.
func (p *pace) take(running func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.credit < hedgeShare || p.running == hedgesAtOnce {
		return false
	}
	p.credit -= hedgeShare
	p.running++
	p.issued.Add(1)
	running()
	return true
}

func (p *pace) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running--
}

// close allows no more second requests.
func (p *pace) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}
