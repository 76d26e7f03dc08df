package cache

import (
	"container/list"
	"math/bits"
	"sync"
)

// A class says how urgent a run is.
type class uint8

const (
	demand     class = iota // a reader waits for it
	ahead                   // a reader will probably want it soon
	background              // no reader asked for it
	classes
)

// A ticket is a run's place in a queue.
type ticket struct {
	// begin is called once: with true on the run's turn (it must not wait then), or with
	// false when the queue was closed.
	begin func(ok bool)

	// The queue's mu guards the rest.
	class class
	bytes int64         // of memory that it takes while it runs
	place *list.Element // nil unless it waits
}

// A queue starts runs, the urgent first and of those the oldest. It bounds how many run at
// once, and their bytes.
type queue struct {
	fetches int   // most runs at once
	bytes   int64 // most bytes of theirs; a larger run runs alone

	mu      sync.Mutex // taken after index.mu; guards what follows
	waiting [classes]list.List
	backlog [classes]int64 // bytes of what waits
	running [classes]int
	held    int64 // bytes of what runs
	closed  bool
}

func newQueue(fetches int, bytes int64) *queue { return &queue{fetches: fetches, bytes: bytes} }

// most is how many runs of a class and the less urgent ones there are at once, so that a
// reader finds a free slot. One free slot suffices: a run that a reader waits for counts
// as the reader's.
func (q *queue) most(c class) int {
	switch c {
	case ahead:
		return q.fetches - 1
	case background:
		return min(2, max(1, q.fetches-1))
	}
	return q.fetches
}

// add queues t, which begins on its turn. It returns false if the queue is closed.
func (q *queue) add(t *ticket) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.pushLocked(t)
	q.dispatchLocked()
	return true
}

// promote makes t more urgent, unless its run is over.
func (q *queue) promote(t *ticket, c class) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.class <= c {
		return
	}
	if t.place != nil {
		q.popLocked(t)
		t.class = c
		q.pushLocked(t)
	} else if !q.closed {
		q.running[t.class]--
		t.class = c
		q.running[c]++
	}
	q.dispatchLocked()
}

// extend sets t's bytes, if it still waits in that class.
func (q *queue) extend(t *ticket, c class, bytes int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.place == nil || t.class != c {
		return false
	}
	q.backlog[c] += bytes - t.bytes
	t.bytes = bytes
	return true
}

// done ends a run that began.
func (q *queue) done(t *ticket) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running[t.class]--
	q.held -= t.bytes
	q.dispatchLocked()
}

// close stops all further runs. The waiting ones get begin(false).
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	var rest []*ticket
	for c := range q.waiting {
		for q.waiting[c].Len() > 0 {
			t := q.waiting[c].Front().Value.(*ticket)
			q.popLocked(t)
			rest = append(rest, t)
		}
	}
	q.mu.Unlock()
	for _, t := range rest {
		t.begin(false)
	}
}

// room returns how many more bytes may wait in a class below demand.
func (q *queue) room(c class) int64 {
	if q.most(c) == 0 {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes - q.backlog[c]
}

// inflight returns the bytes of the runs that began.
func (q *queue) inflight() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.held
}

// busy reports whether a reader waits for a fetch.
func (q *queue) busy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running[demand] > 0 || q.waiting[demand].Len() > 0
}

func (q *queue) pushLocked(t *ticket) {
	t.place = q.waiting[t.class].PushBack(t)
	q.backlog[t.class] += t.bytes
}

func (q *queue) popLocked(t *ticket) {
	q.waiting[t.class].Remove(t.place)
	q.backlog[t.class] -= t.bytes
	t.place = nil
}

// dispatchLocked starts the runs whose turn it is. Nothing overtakes a more urgent or an
// older run: otherwise a large one would wait for ever.
func (q *queue) dispatchLocked() {
	for c := range q.waiting {
		for q.waiting[c].Len() > 0 {
			t := q.waiting[c].Front().Value.(*ticket)
			if !q.fitsLocked(t) {
				return
			}
			q.popLocked(t)
			q.running[c]++
			q.held += t.bytes
			t.begin(true)
		}
	}
}

// fitsLocked reports whether t may begin now. A background run may only while no
// reader waits for a fetch.
func (q *queue) fitsLocked(t *ticket) bool {
	all, notMore := 0, 0
	for c, n := range q.running {
		all += n
		if class(c) >= t.class {
			notMore += n
		}
	}
	if all >= q.fetches || notMore >= q.most(t.class) || t.class == background && q.running[demand] > 0 {
		return false
	}
	limit := q.bytes
	if t.class != demand {
		limit = limit / 4 * 3
	}
	return all == 0 || q.held+t.bytes <= limit
}

// buffers are reused. The garbage collector takes those that were idle for long. A run
// that takes one has a ticket for its bytes.
type buffers struct {
	pools [64]sync.Pool // of *[]byte, by the binary logarithm of the size
}

// bufferSize is the size of the buffer for n > 0 bytes. There are few sizes, so a buffer
// is often free.
func bufferSize(n int64) int64 { return 1 << bits.Len64(uint64(n-1)) }

func (b *buffers) get(n int64) *[]byte {
	size := bufferSize(n)
	if p, ok := b.pools[bits.Len64(uint64(size))].Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, size)
	return &p
}

func (b *buffers) put(p *[]byte) { b.pools[bits.Len(uint(len(*p)))].Put(p) }
