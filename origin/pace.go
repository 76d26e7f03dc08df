package origin

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// How often, and when, a second request is made for a late answer.
const (
	hedgeShare   = 20 // one for so many fetches
	hedgeBurst   = 4  // and so many more, so that the first fetches can have one, too
	hedgesAtOnce = 4  // each takes memory of its own
	hedgeSoonest = 200 * time.Millisecond
	paceSamples  = 256
)

// pace is how soon first bytes come, and how many second requests are allowed.
type pace struct {
	mu      sync.Mutex // guards what follows
	samples [paceSamples]time.Duration
	count   int // of samples so far; the next one is at count modulo paceSamples
	credit  int // for second requests, each of which costs hedgeShare
	running int
	closed  bool

	slowest     atomic.Int64  // a time.Duration: 95 of 100 answers came sooner
	issued, won atomic.Uint64 // second requests
}

// earn counts one fetch, which earns a part of a second request.
func (p *pace) earn() {
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
// than nearly all first bytes took.
func (p *pace) lateAfter() time.Duration {
	return max(time.Duration(p.slowest.Load()), hedgeSoonest)
}

// take reports whether a second request may be made now. If so it first calls
// running, and the caller must call done after the request.
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

// close makes take refuse all further requests.
func (p *pace) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}
