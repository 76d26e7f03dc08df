package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"aesthetic.computer/isofs/fault"
)

// An Origin has the bytes of one base. It need not be right: every block is
// compared with its SHA-256. A call ends by a deadline of the Origin's own,
// since readers come and go; ctx ends only when the Cache is closed.
type Origin interface {
	// Fetch fills p from off on, wholly or with an error. It does not touch p
	// after it returned.
	Fetch(ctx context.Context, p []byte, off int64) error
	// FetchStream is Fetch that says how far it is. It calls got, with n
	// growing, from the goroutine that called it: p[:n] has the final bytes of
	// this answer. After an error the cache uses the p[:n] of the last call.
	FetchStream(ctx context.Context, p []byte, off int64, got func(n int)) error
	// Wrong reports that [off, off+n), as it was last fetched, did not have its
	// SHA-256. If others have these bytes, the next call should ask them.
	Wrong(off, n int64)
	// Sources returns how many places have the bytes. The cache fetches a wrong
	// block again that often, so that each place gets its turn.
	Sources() int
}

// streamRun is the most that is fetched at once, in bytes, where no reader waits
// for it: at 20 ms to the first byte and 25 MB/s after it a
// connection is in use for 9/10 of the time, and with MaxBlockSize for 2/3.
// What is read ahead is cut smaller: all connections together bring aheadSpan
// bytes at a time. Larger requests use a connection better and come later, so
// that the reader waits for the first of them while the others have no more to
// fetch: with 32 and 64 MiB a download was slower.
const (
	streamRun = 4 << 20
	aheadSpan = 16 << 20
)

// A run is adjacent blocks that are fetched by one request.
type run struct {
	ticket
	file   *File
	base   *baseBlocks
	first  int  // block
	n      int  // blocks; grows until the run begins, guarded by index.mu
	onDisk bool // one block that is there, unverified
	wanted bool // begun for a reader: his failure is final

	next    int   // blocks, from first on, that landed or are in wrong
	wrong   []int // blocks that came with other bytes, and are to be fetched again
	failure error // of those that do not land otherwise
}

// reaches reports whether block i can join the run in class c.
func (r *run) reaches(i int, c class) bool {
	most := int64(MaxBlockSize)
	if c != demand {
		most = r.file.longest
		if c == ahead {
			share := aheadSpan / max(1, int64(r.file.store.queue.most(ahead)))
			most = min(most, max(MaxBlockSize, bufferSize(share/2+1)))
		}
	}
	return !r.onDisk && i == r.first+r.n && int64(r.n+1)*r.base.BlockSize <= most
}

// size of n blocks of the run in bytes.
func (r *run) size(n int) int64 {
	b, end := r.base, r.first+n-1
	return b.offset(end) + b.length(end) - b.offset(r.first)
}

// data is where in p, which has the run's bytes, block i is.
func (r *run) data(p []byte, i int) []byte {
	b := r.base
	return p[b.offset(i)-b.offset(r.first):][:b.length(i)]
}

// depart adds the run to its queue. What is on disk does not wait for what is
// far away. The caller holds index.mu.
func (r *run) depart(c class) {
	s := r.file.store
	q, work := s.queue, r.pull
	if r.onDisk {
		q, work = s.checks, r.check
	}
	r.class, r.bytes = c, bufferSize(r.size(r.n))
	r.begin = r.beginWith(work)
	if !q.add(&r.ticket) {
		panic("cache: a flight began after the end")
	}
}

// beginWith is what the queue calls: work goes on by itself.
func (r *run) beginWith(work func()) func(ok bool) {
	return func(ok bool) {
		if ok {
			r.file.store.pulls.Go(work)
			return
		}
		r.failure = errClosed
		r.abandon()
	}
}

// check lands the one block of the run if it is on disk as it should be, and
// else has it fetched.
func (r *run) check() {
	s, x := r.file.store, r.file.store.index
	buf := s.buffers.get(r.size(1))
	p := (*buf)[:r.size(1)]
	right := s.disk.check(r.base, r.first, p)
	if right {
		r.next++
		r.land(r.first, p, nil, true)
	}
	s.buffers.put(buf)
	if right {
		s.checks.done(&r.ticket)
		return
	}
	// Under the lock, so that whoever makes the run more urgent finds it in
	// one queue or the other.
	x.mu.Lock()
	s.checks.done(&r.ticket)
	r.begin = r.beginWith(r.pull)
	added := s.queue.add(&r.ticket)
	x.mu.Unlock()
	if !added {
		r.begin(false)
	}
}

// pull fetches the run's blocks, compares, keeps and lands them, each as soon
// as it came. It waits for no reader, so however few fetches there may be and
// however many blocks a reader wants, every run gets its turn.
func (r *run) pull() {
	s := r.file.store
	s.index.mu.Lock() // who extended the run may not have released it
	size := r.size(r.n)
	s.index.mu.Unlock()
	buf := s.buffers.get(size)
	defer s.queue.done(&r.ticket)
	defer s.buffers.put(buf)
	defer r.landRest()
	r.failure = fmt.Errorf("%w: the fetch ended without a result", fault.Unavailable)
	p := (*buf)[:size]
	if err := r.fetch(p); err != nil {
		r.failure = err
		r.abandon()
	}
	for len(r.wrong) > 0 {
		i := r.wrong[0]
		data := r.data(p, i)
		err := r.again(i, data)
		kept := err == nil && s.disk.keep(r.base, i, data)
		r.wrong = r.wrong[1:]
		r.land(i, data, err, kept)
	}
}

// landRest ends the flights that did not land, also when the Origin panics
// or ends the goroutine: their waiters would wait for ever.
func (r *run) landRest() {
	if v := recover(); v != nil {
		r.failure = fmt.Errorf("%w: the origin panicked: %v", fault.Unavailable, v)
		r.file.store.log.Error("cache: the origin panicked", "base", r.base.ID, "panic", v, "stack", string(debug.Stack()))
	}
	r.abandon()
	for _, i := range r.wrong {
		r.land(i, nil, r.failure, false)
	}
}

// abandon lands, without their bytes, the blocks that did not come.
func (r *run) abandon() {
	for r.next < r.n {
		i := r.first + r.next
		r.next++
		r.land(i, nil, r.failure, false)
	}
}

// fetch fills p with the run's blocks and lands those that are right, with a
// second attempt for the rest if the object changed.
func (r *run) fetch(p []byte) error {
	off := r.base.offset(r.first)
	return r.counted(func() error {
		err := r.ask(p)
		if errors.Is(err, fault.Corrupt) {
			// The object is not the one that it was: it was published anew, or put
			// back. Once more, for what is there now; its hashes say whether it will do.
			r.file.store.log.Warn("cache: the origin changed, fetching again", "base", r.base.ID, "offset", off, "err", err)
			err = r.ask(p)
		}
		return err
	})
}

// ask asks once for the blocks of the run that did not come.
func (r *run) ask(p []byte) error {
	if r.next == r.n {
		return nil // the failure came behind the last byte
	}
	off := r.base.offset(r.first + r.next)
	before := int(off - r.base.offset(r.first))
	rest := p[before:]
	err := r.file.origin.FetchStream(r.file.store.ctx, rest, off, func(n int) { r.arrive(p, before+min(max(n, 0), len(rest))) })
	if err == nil {
		r.arrive(p, len(p))
	}
	if r.next == r.n {
		return nil
	}
	return err
}

// counted counts a call that fetches.
func (r *run) counted(call func() error) error {
	c := &r.file.store.count
	c.fetches.Add(1)
	c.inflight.Add(1)
	failed, begun := true, time.Now()
	defer func() {
		if told := r.file.store.fetched; told != nil {
			told(time.Since(begun), failed)
		}
		c.inflight.Add(-1)
		if failed {
			c.fetchErrors.Add(1)
		}
	}()
	if err := call(); err != nil {
		if fault.Kind(err) == nil {
			err = fmt.Errorf("%w: %w", fault.Unavailable, err)
		}
		return err
	}
	failed = false
	return nil
}

// arrive lands the blocks that are within the first n bytes of p, and notes
// those that are wrong: they are fetched again when the others have come.
func (r *run) arrive(p []byte, n int) {
	s, b := r.file.store, r.base
	for r.next < r.n && r.size(r.next+1) <= int64(n) {
		i := r.first + r.next
		data := r.data(p, i)
		s.count.fetchedBytes.Add(uint64(len(data)))
		if sum := sha256.Sum256(data); sum != b.Sums[i] {
			r.report(i)
			s.log.Warn("cache: fetched bytes are wrong, fetching them again", "base", b.ID, "block", i, "offset", b.offset(i),
				"sha256", fmt.Sprintf("%x", sum), "want", fmt.Sprintf("%x", b.Sums[i]))
			r.wrong = append(r.wrong, i)
			r.next++
			continue
		}
		kept := s.disk.keep(b, i, data)
		r.next++
		r.land(i, data, nil, kept)
	}
}

// report counts block i as fetched with other bytes, and tells the Origin.
func (r *run) report(i int) {
	r.file.store.count.corruptFetches.Add(1)
	r.file.origin.Wrong(r.base.offset(i), r.base.length(i))
}

// again fetches block i, which came with other bytes, once more, or once more
// from each place that has it.
func (r *run) again(i int, data []byte) error {
	s, b := r.file.store, r.base
	turns := max(1, r.file.origin.Sources())
	first := sha256.Sum256(data)
	var last [32]byte
	for range turns {
		if err := r.counted(func() error { return r.file.origin.Fetch(s.ctx, data, b.offset(i)) }); err != nil {
			return err
		}
		s.count.fetchedBytes.Add(uint64(len(data)))
		if last = sha256.Sum256(data); last == b.Sums[i] {
			return nil
		}
		r.report(i)
	}
	return fmt.Errorf("%w: block %d at byte %d of base %s was fetched %d times, with SHA-256 %x at first and %x at last, want %x: the origin has other bytes than the manifest says",
		fault.Corrupt, i, b.offset(i), b.ID, 1+turns, first, last, b.Sums[i])
}

// land ends the flight of block i of the run: data is its bytes, or err why
// there are none.
func (r *run) land(i int, data []byte, err error, kept bool) {
	b, x := r.base, r.file.store.index
	x.mu.Lock()
	bl := &b.blocks[i]
	waiters := bl.flight.waiters
	if r.class == demand && !r.wanted && len(waiters) > 0 && !x.closed && errors.Is(err, fault.Unavailable) {
		// A reader came to wait for what was not fetched for him, by a larger
		// request than his would be. He gets one of his own.
		bl.flight.run = &run{file: r.file, base: b, first: i, n: 1, wanted: true}
		bl.flight.run.depart(demand)
		x.mu.Unlock()
		return
	}
	bl.came = bl.came || err == nil
	if kept && b.next.Load() == nil {
		bl.state = present
		x.recent.Add(place{b, i}, struct{}{})
	} else {
		x.clearAhead(b, i)
	}
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
