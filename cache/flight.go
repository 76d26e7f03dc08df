package cache

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"aesthetic.computer/isofs/fault"
)

// A flight is one block on its way, from the first reader that wants it until it
// landed. All readers that want it wait for it. It belongs to none of them.
type flight struct {
	run     *run      // that brings it; guarded by index.mu, as what follows
	waiters []*waiter // none if it was fetched ahead and no reader came yet
}

// A waiter wants a part of one block, or the block pinned.
type waiter struct {
	dst  []byte // to be filled with the block's bytes from from on
	from int64
	pin  bool // pin the block if it is kept

	// turn says whose the fields around it are. They are the flight's when it
	// swapped waiting for landing, and the reader's alone when the reader
	// swapped waiting for quit.
	turn   atomic.Int32
	done   chan struct{} // closed after landing; nil if the block was present
	err    error
	pinned bool // this waiter has to unpin the block
}

const (
	waiting int32 = iota
	landing
	quit
)

// wait returns when the block landed or ctx ended.
func (w *waiter) wait(ctx context.Context) error {
	if w.done == nil {
		return w.err
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		if w.leave() {
			return canceled(ctx)
		}
		return w.err
	}
}

// leave makes sure that the flight no longer touches w, and reports whether w
// left before the landing.
func (w *waiter) leave() bool {
	if w.done == nil {
		return false
	}
	if w.turn.CompareAndSwap(waiting, quit) {
		return true
	}
	if w.turn.Load() == landing {
		<-w.done // it is being copied to, or was
	}
	return false
}

func leaveAll(waiters []waiter) {
	for k := range waiters {
		waiters[k].leave()
	}
}

// canceled is the error for a reader that gave up.
func canceled(ctx context.Context) error {
	return fmt.Errorf("%w: %w", fault.Unavailable, ctx.Err())
}

// claimMissing is claim for the blocks from first to last. It claims only if the
// missing ones have room without evicting others.
func (f *supply) claimMissing(b *baseBlocks, first, last int) ([]waiter, error) {
	f.disk.look(b, first, last)
	if absent, cost := f.index.absent(b, first, last); absent > 0 {
		if err := f.disk.roomFor(absent, cost); err != nil {
			return nil, err
		}
	}
	waiters := make([]waiter, last-first+1)
	return waiters, f.claim(b, first, waiters, background)
}

// absent returns how many of the blocks from first to last are not on disk, and
// the space that they would take there.
func (x *blockIndex) absent(b *baseBlocks, first, last int) (blocks, cost int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := first; i <= last; i++ {
		if b.blocks[i].state == absent {
			blocks++
			cost += b.cost(i)
		}
	}
	return blocks, cost
}

// refetched returns how many bytes of the blocks from first to last must be
// fetched although they came before.
func (x *blockIndex) refetched(b *baseBlocks, first, last int) (bytes int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := first; i <= last; i++ {
		if bl := &b.blocks[i]; bl.came && bl.state == absent && bl.flight == nil {
			bytes += b.length(i)
		}
	}
	return bytes
}

// claim pins each waiter's block, from first on, if it is present. Otherwise the
// waiter waits for the block's flight, and claim starts a flight if the block
// has none. Adjacent blocks share a fetch. For class background it only wants
// the missing blocks: claim pins and counts nothing.
//
// Everything is under one lock, so there is one flight for a block. Without it
// two readers could look for the block, both miss it, and each start a flight. A
// flight that claim finds has not begun to land, since land takes the same lock
// to end it.
func (f *supply) claim(b *baseBlocks, first int, waiters []waiter, c class) error {
	x := f.index
	f.disk.look(b, first, first+len(waiters)-1)
	var runs []*run
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return errClosed
	}
	hits := 0
	for k := range waiters {
		i, w := first+k, &waiters[k]
		bl := &b.blocks[i]
		if c == demand {
			x.clearAheadLocked(b, i)
		}
		if bl.state == present {
			if c == demand {
				bl.pins++
				x.pinned++
				x.recent.Get(place{b, i})
				w.pinned = true
				hits++
			}
			continue
		}
		w.done = make(chan struct{})
		if bl.flight == nil {
			runs = f.boardLocked(b, runs, i, c)
		} else {
			bl.flight.run.promoteLocked(c)
		}
		bl.flight.waiters = append(bl.flight.waiters, w)
	}
	if c == demand {
		x.counts.Hits += uint64(hits)
		x.counts.Misses += uint64(len(waiters) - hits)
	}
	for _, r := range runs {
		r.departLocked(c)
	}
	return nil
}

// boardLocked makes a flight for block i, which is not present and has none. The
// flight joins the last of runs, or a run in the queue that ends with the block
// before, or gets a run of its own. It returns the runs that have yet to depart.
func (f *supply) boardLocked(b *baseBlocks, runs []*run, i int, c class) []*run {
	x, bl := f.index, &b.blocks[i]
	bl.pins++
	x.pinned++
	r := &run{supply: f, base: b, first: i, n: 1, onDisk: bl.state == unverified, wanted: c == demand}
	bl.flight = &flight{run: r}
	if r.onDisk {
		return append(runs, r)
	}
	if last := len(runs) - 1; last >= 0 && runs[last].reaches(i, c) {
		runs[last].n++
		bl.flight.run = runs[last]
		return runs
	}
	if c != demand && i > 0 && b.blocks[i-1].flight != nil {
		before := b.blocks[i-1].flight.run
		if before.supply == f && before.reaches(i, c) && f.queue.extend(&before.ticket, c, bufferSize(before.size(before.n+1))) {
			before.n++
			bl.flight.run = before
			return runs
		}
	}
	return append(runs, r)
}

// streamRun is the size in bytes of the largest request that no reader waits
// for. At 20 ms to the first byte and 25 MB/s after it, a connection is in use
// for 9/10 of the time; with MaxBlockSize it is for 2/3. Read-ahead is cut
// smaller: all connections together bring aheadSpan bytes at a time. Larger
// requests use a connection better but come later. The reader waits for the
// first of them while the others have nothing more to fetch. With 32 and 64 MiB
// a download was slower.
const (
	streamRun = 4 << 20
	aheadSpan = 16 << 20
)

// reaches reports whether block i can join the run in class c.
func (r *run) reaches(i int, c class) bool {
	most := int64(MaxBlockSize)
	if c != demand {
		most = r.supply.longest
		if c == ahead {
			share := aheadSpan / max(1, int64(r.supply.queue.most(ahead)))
			most = min(most, max(MaxBlockSize, bufferSize(share/2+1)))
		}
	}
	return !r.onDisk && i == r.first+r.n && int64(r.n+1)*r.base.BlockSize <= most
}

// advance starts flights without waiters, for the blocks that a reader will want
// next.
func (f *supply) advance(b *baseBlocks, first, last int) {
	x := f.index
	if !f.disk.takes() {
		return
	}
	f.disk.look(b, first, last)
	x.mu.Lock()
	defer x.mu.Unlock()
	for first <= last && b.blocks[first].state == present {
		first++
	}
	if first > last || x.closed {
		return
	}
	var runs []*run
	room := f.queue.room(ahead)
	for i := first; i <= last && room > 0; i++ {
		bl := &b.blocks[i]
		if bl.state == present {
			continue
		}
		if bl.flight != nil {
			bl.flight.run.promoteLocked(ahead)
			continue
		}
		if bl.state == absent {
			if x.unused+b.cost(i) > f.disk.max/2 {
				break
			}
			bl.ahead = true
			x.unused += b.cost(i)
			room -= b.length(i)
			x.counts.Ahead++
		}
		runs = f.boardLocked(b, runs, i, ahead)
	}
	for _, r := range runs {
		r.departLocked(ahead)
	}
}

// fetchInstead starts a new run for the one block of this run, which was wrong
// on disk.
func (r *run) fetchInstead() {
	x := r.supply.index
	// Under the lock, so that a reader that makes the block more urgent finds it
	// in one queue or the other.
	x.mu.Lock()
	r.supply.checks.done(&r.ticket)
	if x.closed {
		x.mu.Unlock()
		r.failure = errClosed
		r.abandon()
		return
	}
	next := &run{supply: r.supply, base: r.base, first: r.first, n: 1, wanted: r.wanted}
	r.base.blocks[r.first].flight.run = next
	next.departLocked(r.class)
	x.mu.Unlock()
}

// land ends the flight of block i of the run, with its bytes in data, or with
// err.
func (r *run) land(i int, data []byte, err error, kept bool) {
	b, x := r.base, r.supply.index
	x.mu.Lock()
	bl := &b.blocks[i]
	waiters := bl.flight.waiters
	if r.class == demand && !r.wanted && len(waiters) > 0 && !x.closed && errors.Is(err, fault.Unavailable) {
		// The request was not made for a reader, and is larger than a reader's
		// would be. The reader that waits for it gets a request of its own.
		bl.flight.run = &run{supply: r.supply, base: b, first: i, n: 1, wanted: true}
		bl.flight.run.departLocked(demand)
		x.mu.Unlock()
		return
	}
	bl.came = bl.came || err == nil
	if kept && b.next.Load() == nil {
		bl.state = present
		x.recent.Add(place{b, i}, struct{}{})
	} else {
		x.clearAheadLocked(b, i)
	}
	bl.flight = nil
	staying := waiters[:0]
	for _, w := range waiters {
		if !w.turn.CompareAndSwap(waiting, landing) {
			continue
		}
		staying = append(staying, w)
		if w.pin && kept {
			// Pinned before another block could evict it.
			bl.pins++
			x.pinned++
			w.pinned = true
		}
	}
	x.mu.Unlock()
	x.unpin(b, i, i)
	for _, w := range staying {
		if err == nil && w.dst != nil {
			copy(w.dst, data[w.from:])
		}
		w.err = err
		close(w.done)
	}
}
