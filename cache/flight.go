package cache

import (
	"context"
	"sync/atomic"
)

// A flight is one block on its way, from the first who wants it until it
// landed. It belongs to none of those who wait for it.
type flight struct {
	run     *run      // that brings it; guarded by index.mu, as what follows
	waiters []*waiter // none if it was fetched ahead and nobody came yet
}

// A waiter wants a part of one block, or the block pinned.
type waiter struct {
	dst  []byte // to be filled with the block's bytes from from on
	from int64
	pin  bool // pin the block if it is kept

	// turn says whose the fields around it are: the flight's when it swapped
	// waiting for landing, the reader's alone when he swapped it for gone.
	turn   atomic.Int32
	done   chan struct{} // closed after landing; nil if the block was present
	err    error
	pinned bool // this waiter has to unpin the block
}

const (
	waiting int32 = iota
	landing
	gone
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

// leave makes sure that nothing is done to w any more, and reports whether w
// left before the landing.
func (w *waiter) leave() bool {
	if w.done == nil {
		return false
	}
	if w.turn.CompareAndSwap(waiting, gone) {
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

// claim has each waiter's block, from first on, pinned if it is present; else
// the waiter waits for its flight, and for each block that has none one is
// started. Blocks side by side share a fetch. In class background, which wants
// no block but those that are missing, nothing is pinned or counted.
//
// Everything is under one lock, so there is one flight for a block: had two
// readers looked for it, both missed it and then both taken the lock to start
// one, there would be two. And a flight that is found still has all its
// landing before it, since land takes the same lock to end it.
func (f *File) claim(b *baseBlocks, first int, waiters []waiter, c class) error {
	s, x := f.store, f.store.index
	s.disk.look(b, first, first+len(waiters)-1)
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
			x.clearAhead(b, i)
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
			runs = f.board(b, runs, i, c)
		} else {
			bl.flight.run.promote(c)
		}
		bl.flight.waiters = append(bl.flight.waiters, w)
	}
	if c == demand {
		s.count.hits.Add(uint64(hits))
		s.count.misses.Add(uint64(len(waiters) - hits))
	}
	for _, r := range runs {
		r.depart(c)
	}
	return nil
}

// board makes a flight for block i, which is not present and has none: in the
// last of runs, in one that waits in the queue with the block before, or in a
// new one. It returns the runs that have yet to depart. The caller holds
// index.mu.
func (f *File) board(b *baseBlocks, runs []*run, i int, c class) []*run {
	x, bl := f.store.index, &b.blocks[i]
	bl.pins++
	x.pinned++
	r := &run{file: f, base: b, first: i, n: 1, onDisk: bl.state == unverified, wanted: c == demand}
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
		if before.queue != nil && before.file == f && before.reaches(i, c) && before.extend(c, bufferSize(before.size(before.n+1))) {
			before.n++
			bl.flight.run = before
			return runs
		}
	}
	return append(runs, r)
}
