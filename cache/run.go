package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"aesthetic.computer/isofs/fault"
)

// An Origin has the bytes of one base. It need not be right: every block is compared
// with its SHA-256. An Origin ends each call by a deadline of its own, since readers
// come and go. ctx ends only when the Cache is closed.
type Origin interface {
	// Fetch fills p from off on, wholly or with an error. It does not touch p after it
	// returned.
	Fetch(ctx context.Context, p []byte, off int64) error
	// FetchStream is Fetch that reports its progress. It calls got, with n growing, from
	// the goroutine that called it: p[:n] has the final bytes of this answer. After an
	// error the cache uses the p[:n] of the last call.
	FetchStream(ctx context.Context, p []byte, off int64, got func(n int)) error
	// Wrong reports that [off, off+n), as it was last fetched, did not have its SHA-256.
	// If other places have these bytes, the next call should ask them.
	Wrong(off, n int64)
	// Sources returns how many places have the bytes. The cache fetches a wrong block
	// again that many times, so that each place gets its turn.
	Sources() int
}

// checksAtOnce is how many blocks on disk are compared at once. They have a queue of
// their own, since they need not wait for a slow origin.
const checksAtOnce = 4

// A fetcher brings blocks: from an origin, or from disk if an earlier process left them
// there. It uses the index and the disk. They do not use it.
type fetcher struct {
	index   *blockIndex
	disk    *disk
	log     *slog.Logger
	fetched func(took time.Duration, failed bool) // Config.Fetched

	queue   *queue // of runs that are fetched
	checks  *queue // of those that are on disk, to be compared
	toll    *toll
	buffers buffers
	pulls   sync.WaitGroup  // the goroutines of runs
	ctx     context.Context // of calls of an Origin

	counts struct {
		sync.Mutex
		FetchStats
	}
}

// FetchStats are about what comes from origins.
type FetchStats struct {
	Fetches        uint64 // requests to origins
	FetchErrors    uint64 // those that failed
	FetchedBytes   uint64 // bytes of the blocks that came whole, the wrong ones included
	CorruptFetches uint64 // fetched blocks that did not have their SHA-256

	Delayed uint64 // small reads that waited, or were refused, so that the origin does not send much for little

	Inflight      int64 // requests under way
	InflightBytes int64 // memory of those, and of blocks on disk being compared
}

// newFetcher makes a fetcher whose calls of origins end with ctx.
func newFetcher(ctx context.Context, c Config, index *blockIndex, disk *disk) *fetcher {
	return &fetcher{
		index: index, disk: disk, log: c.Log, fetched: c.Fetched,
		queue: newQueue(c.Fetches, c.InflightBytes), checks: newQueue(checksAtOnce, checksAtOnce*MaxBlockSize),
		toll: newToll(), ctx: ctx,
	}
}

// close stops all further runs, and waits for those under way.
func (f *fetcher) close() {
	f.queue.close()
	f.checks.close()
	f.pulls.Wait()
}

// busy reports whether a reader waits for an origin.
func (f *fetcher) busy() bool { return f.queue.busy() }

// stats returns the current counters and gauges.
func (f *fetcher) stats() FetchStats {
	f.counts.Lock()
	defer f.counts.Unlock()
	now := f.counts.FetchStats
	now.Delayed = f.toll.waited.Load()
	now.InflightBytes = f.queue.inflight() + f.checks.inflight()
	return now
}

func (f *fetcher) count(change func(*FetchStats)) {
	f.counts.Lock()
	defer f.counts.Unlock()
	change(&f.counts.FetchStats)
}

// A supply is the fetcher for one File, whose blocks come from one Origin.
type supply struct {
	*fetcher
	origin  Origin
	longest int64 // bytes of a request that no reader waits for; tests have it shorter
}

func (f *fetcher) newSupply(origin Origin) *supply {
	return &supply{fetcher: f, origin: origin, longest: streamRun}
}

// want is claim for a reader of n bytes. If the blocks did not stay in the cache, it
// first waits until they may be fetched again.
func (f *supply) want(ctx context.Context, b *baseBlocks, first int, waiters []waiter, n int64) error {
	again := f.index.refetched(b, first, first+len(waiters)-1)
	err := f.toll.pay(ctx, again, n, func() {
		f.log.Warn("cache: small reads wait, since what they need did not stay in the cache and is fetched again and again", "base", b.ID, "size", b.Size, "cache_size", f.disk.max)
	})
	if err != nil {
		return err
	}
	return f.claim(b, first, waiters, demand)
}

// A run is adjacent blocks that are fetched by one request.
type run struct {
	ticket
	supply *supply
	base   *baseBlocks
	first  int  // block
	n      int  // blocks; grows until the run begins, guarded by index.mu
	onDisk bool // one block that is there, unverified
	wanted bool // made for a reader: if it fails, his read fails

	next    int   // blocks, from first on, that landed or are in wrong
	wrong   []int // blocks that came with other bytes, and are to be fetched again
	failure error // of those that do not land otherwise
}

// size returns the bytes of the run's first n blocks.
func (r *run) size(n int) int64 {
	b, end := r.base, r.first+n-1
	return b.offset(end) + b.length(end) - b.offset(r.first)
}

// data returns the part of p, the run's bytes, that has block i.
func (r *run) data(p []byte, i int) []byte {
	b := r.base
	return p[b.offset(i)-b.offset(r.first):][:b.length(i)]
}

// queue returns the queue where the run waits for its turn. Blocks on disk do not wait
// for an origin.
func (r *run) queue() *queue {
	if r.onDisk {
		return r.supply.checks
	}
	return r.supply.queue
}

// departLocked adds the run to its queue.
func (r *run) departLocked(c class) {
	work := r.pull
	if r.onDisk {
		work = r.check
	}
	r.class, r.bytes = c, bufferSize(r.size(r.n))
	r.begin = func(ok bool) {
		if ok {
			r.supply.pulls.Go(work)
			return
		}
		r.failure = errClosed
		r.abandon()
	}
	if !r.queue().add(&r.ticket) {
		panic("cache: a flight started after the end")
	}
}

// promoteLocked makes the run more urgent, if it is not over.
func (r *run) promoteLocked(c class) { r.queue().promote(&r.ticket, c) }

// check lands the one block of the run if it is right on disk. Otherwise it starts a
// fetch.
func (r *run) check() {
	buf := r.supply.buffers.get(r.size(1))
	p := (*buf)[:r.size(1)]
	right := r.supply.disk.check(r.base, r.first, p)
	if right {
		r.next++
		r.land(r.first, p, nil, true)
	}
	r.supply.buffers.put(buf)
	if right {
		r.supply.checks.done(&r.ticket)
		return
	}
	r.fetchInstead()
}

// pull fetches the run's blocks, then compares, keeps and lands each as soon as it came.
// It waits for no reader. So every run gets its turn, however few fetches there may be
// and however many blocks a reader wants.
func (r *run) pull() {
	f := r.supply
	f.index.mu.Lock() // the reader who extended the run may not have released it
	size := r.size(r.n)
	f.index.mu.Unlock()
	buf := f.buffers.get(size)
	defer f.queue.done(&r.ticket)
	defer f.buffers.put(buf)
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
		kept := err == nil && f.disk.keep(r.base, i, data)
		r.wrong = r.wrong[1:]
		r.land(i, data, err, kept)
	}
}

// landRest ends the flights that did not land, also when the Origin panics or ends the
// goroutine. Otherwise their waiters would wait for ever.
func (r *run) landRest() {
	if v := recover(); v != nil {
		r.failure = fmt.Errorf("%w: the origin panicked: %v", fault.Unavailable, v)
		r.supply.log.Error("cache: the origin panicked", "base", r.base.ID, "panic", v, "stack", string(debug.Stack()))
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

// fetch fills p with the run's blocks and lands the right ones. If the object changed,
// it makes a second attempt for the rest.
func (r *run) fetch(p []byte) error {
	off := r.base.offset(r.first)
	return r.counted(func() error {
		err := r.ask(p)
		if errors.Is(err, fault.Corrupt) {
			// The object changed: it was published again, or put back. One more attempt
			// fetches the current object. Its hashes decide whether it will do.
			r.supply.log.Warn("cache: the origin changed, fetching again", "base", r.base.ID, "offset", off, "err", err)
			err = r.ask(p)
		}
		return err
	})
}

// ask makes one request for the blocks of the run that did not come.
func (r *run) ask(p []byte) error {
	if r.next == r.n {
		return nil // the failure came behind the last byte
	}
	off := r.base.offset(r.first + r.next)
	before := int(off - r.base.offset(r.first))
	rest := p[before:]
	err := r.supply.origin.FetchStream(r.supply.ctx, rest, off, func(n int) { r.arrive(p, before+min(max(n, 0), len(rest))) })
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
	f := r.supply
	f.count(func(s *FetchStats) { s.Fetches++; s.Inflight++ })
	failed, start := true, time.Now()
	defer func() {
		if f.fetched != nil {
			f.fetched(time.Since(start), failed)
		}
		f.count(func(s *FetchStats) {
			s.Inflight--
			if failed {
				s.FetchErrors++
			}
		})
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

// arrive lands the blocks that are within the first n bytes of p, and notes the wrong
// ones. They are fetched again when the others have come.
func (r *run) arrive(p []byte, n int) {
	f, b := r.supply, r.base
	for r.next < r.n && r.size(r.next+1) <= int64(n) {
		i := r.first + r.next
		data := r.data(p, i)
		f.count(func(s *FetchStats) { s.FetchedBytes += uint64(len(data)) })
		if sum := sha256.Sum256(data); sum != b.Sums[i] {
			r.report(i)
			f.log.Warn("cache: fetched bytes are wrong, fetching them again", "base", b.ID, "block", i, "offset", b.offset(i),
				"sha256", fmt.Sprintf("%x", sum), "want", fmt.Sprintf("%x", b.Sums[i]))
			r.wrong = append(r.wrong, i)
			r.next++
			continue
		}
		kept := f.disk.keep(b, i, data)
		r.next++
		r.land(i, data, nil, kept)
	}
}

// report counts block i as fetched with wrong bytes, and reports it to the Origin.
func (r *run) report(i int) {
	r.supply.count(func(s *FetchStats) { s.CorruptFetches++ })
	r.supply.origin.Wrong(r.base.offset(i), r.base.length(i))
}

// again fetches block i, which came with wrong bytes, again: once, or once from each
// place that has it.
func (r *run) again(i int, data []byte) error {
	f, b := r.supply, r.base
	turns := max(1, f.origin.Sources())
	first := sha256.Sum256(data)
	var last [32]byte
	for range turns {
		if err := r.counted(func() error { return f.origin.Fetch(f.ctx, data, b.offset(i)) }); err != nil {
			return err
		}
		f.count(func(s *FetchStats) { s.FetchedBytes += uint64(len(data)) })
		if last = sha256.Sum256(data); last == b.Sums[i] {
			return nil
		}
		r.report(i)
	}
	return fmt.Errorf("%w: block %d at byte %d of base %s was fetched %d times, with SHA-256 %x at first and %x at last, want %x: the origin has other bytes than the manifest says",
		fault.Corrupt, i, b.offset(i), b.ID, 1+turns, first, last, b.Sums[i])
}
