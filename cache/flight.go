package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"aesthetic.computer/isofs/fault"
)

// A flight is one block on its way, from the first who wants it until it
// landed. It belongs to none of those who wait for it.
type flight struct {
	waiters []*waiter // guarded by index.mu
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

// A run is adjacent blocks that are fetched by one request.
type run struct {
	file    *File
	first   int  // block
	n       int  // blocks
	onDisk  bool // one block that is there, unverified
	landed  int  // blocks of it
	failure error
}

// claim has each waiter's block, from first on, pinned if it is present; else
// the waiter waits for its flight, and for each block that has none one is
// started. Blocks side by side share a fetch.
//
// Everything is under one lock, so there is one flight for a block: had two
// readers looked for it, both missed it and then both taken the lock to start
// one, there would be two. And a flight that is found still has all its
// landing before it, since land takes the same lock to end it.
func (f *File) claim(first int, waiters []waiter) error {
	s, x, b := f.store, f.store.index, f.base
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
		if bl.state == present {
			bl.pins++
			x.pinned++
			x.recent.Get(place{b, i})
			w.pinned = true
			hits++
			continue
		}
		w.done = make(chan struct{})
		if bl.flight != nil {
			bl.flight.waiters = append(bl.flight.waiters, w)
			continue
		}
		bl.flight = &flight{waiters: []*waiter{w}}
		bl.pins++
		x.pinned++
		onDisk := bl.state == unverified
		if last := len(runs) - 1; last >= 0 && !onDisk && runs[last].reaches(i) {
			runs[last].n++
		} else {
			runs = append(runs, &run{file: f, first: i, n: 1, onDisk: onDisk})
		}
	}
	s.count.hits.Add(uint64(hits))
	s.count.misses.Add(uint64(len(waiters) - hits))
	for _, r := range runs {
		s.pulls.Go(r.pull)
	}
	return nil
}

// reaches reports whether block i can join the run.
func (r *run) reaches(i int) bool {
	return !r.onDisk && i == r.first+r.n && int64(r.n+1)*r.file.base.BlockSize <= MaxBlockSize
}

// pull fetches the run's blocks, compares, keeps and lands them. It waits for
// no reader, so however few slots there are and however many blocks a reader
// wants, every slot comes free.
func (r *run) pull() {
	defer r.landRest()
	s, b := r.file.store, r.file.base
	r.failure = fmt.Errorf("%w: the fetch ended without a result", fault.Unavailable)
	var buf []byte
	select {
	case buf = <-s.slots:
		defer func() { s.slots <- buf }()
	case <-s.ctx.Done():
		r.failure = errClosed
		return
	}
	end := r.first + r.n - 1
	size := b.offset(end) + b.length(end) - b.offset(r.first)
	if int64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	p := buf[:size]
	if r.onDisk && s.recheck(b, r.first, p) {
		r.land(p, nil, true)
		return
	}
	if err := r.fetch(p, b.offset(r.first)); err != nil {
		r.failure = err
		return
	}
	for range r.n {
		i := r.first + r.landed
		data := p[b.offset(i)-b.offset(r.first):][:b.length(i)]
		err := r.verify(i, data)
		kept := err == nil && s.keep(b, i, data)
		r.land(data, err, kept)
	}
}

// landRest ends the flights that did not land, also when the Fetcher panics
// or ends the goroutine: their waiters would wait for ever.
func (r *run) landRest() {
	if v := recover(); v != nil {
		r.failure = fmt.Errorf("%w: the fetcher panicked: %v", fault.Unavailable, v)
		r.file.store.log.Error("cache: the fetcher panicked", "base", r.file.base.ID, "panic", v, "stack", string(debug.Stack()))
	}
	for r.landed < r.n {
		r.land(nil, r.failure, false)
	}
}

// fetch fills p from off on, with a second attempt if the object changed.
func (r *run) fetch(p []byte, off int64) error {
	s := r.file.store
	s.count.fetches.Add(1)
	s.count.inflight.Add(1)
	failed := true
	defer func() {
		s.count.inflight.Add(-1)
		if failed {
			s.count.fetchErrors.Add(1)
		}
	}()
	err := r.file.fetcher.Fetch(s.ctx, p, off)
	if errors.Is(err, fault.Corrupt) {
		// The object is not the one that it was: it was published anew, or put
		// back. Once more, for what is there now; its hashes say whether it will do.
		s.log.Warn("cache: the origin changed, fetching again", "base", r.file.base.ID, "offset", off, "err", err)
		err = r.file.fetcher.Fetch(s.ctx, p, off)
	}
	if err != nil {
		if fault.Kind(err) == nil {
			err = fmt.Errorf("%w: %w", fault.Unavailable, err)
		}
		return err
	}
	failed = false
	s.count.fetchedBytes.Add(uint64(len(p)))
	return nil
}

// verify compares block i with its SHA-256, and has it fetched once more if
// it is another.
func (r *run) verify(i int, data []byte) error {
	s, b := r.file.store, r.file.base
	first := sha256.Sum256(data)
	if first == b.Sums[i] {
		return nil
	}
	s.count.corruptFetches.Add(1)
	s.log.Warn("cache: fetched bytes are wrong, fetching them again", "base", b.ID, "block", i, "offset", b.offset(i),
		"sha256", fmt.Sprintf("%x", first), "want", fmt.Sprintf("%x", b.Sums[i]))
	if err := r.fetch(data, b.offset(i)); err != nil {
		return err
	}
	second := sha256.Sum256(data)
	if second == b.Sums[i] {
		return nil
	}
	s.count.corruptFetches.Add(1)
	return fmt.Errorf("%w: block %d at byte %d of base %s was fetched twice with SHA-256 %x and %x, want %x: the origin has other bytes than the manifest says",
		fault.Corrupt, i, b.offset(i), b.ID, first, second, b.Sums[i])
}

// recheck reports whether block i is on disk as it should be, having read it
// into p. If not, it is removed.
func (s *Store) recheck(b *base, i int, p []byte) bool {
	_, err := b.file.Load().ReadAt(p, b.offset(i))
	if err == nil && sha256.Sum256(p) == b.Sums[i] {
		return true
	}
	s.count.corruptDisk.Add(1)
	s.log.Warn("cache: a block on disk is wrong, fetching it", "base", b.ID, "block", i, "dir", s.dir, "error", err)
	s.discard(b, i)
	return false
}

// land ends the flight of the run's next block: data is its bytes, or err why
// there are none.
func (r *run) land(data []byte, err error, kept bool) {
	b, x := r.file.base, r.file.store.index
	i := r.first + r.landed
	r.landed++
	x.mu.Lock()
	bl := &b.blocks[i]
	if kept {
		bl.state = present
		x.recent.Add(place{b, i}, struct{}{})
	}
	waiters := bl.flight.waiters
	bl.flight = nil
	staying := waiters[:0]
	for _, w := range waiters {
		if !w.turn.CompareAndSwap(waiting, landing) {
			continue
		}
		staying = append(staying, w)
		if w.pin && kept {
			// Pinned before anybody could evict it.
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
