package cache

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"aesthetic.computer/isofs/fault"
)

// Where a base does not fit the cache, a reader of single bytes here and there
// could have the origin send thousands of times what it reads. So what is
// fetched again for a read counts beyond tollFree times the bytes that the read
// wants: tollBurst at once, and tollRate a second after that. Reads of 4 KiB and
// more, which is a 64th of the usual block, never pay.
const (
	tollFree  = 64
	tollRate  = 256 << 10
	tollBurst = 16 << 20
	tollQuiet = time.Minute // between two lines in the log

	// tollQueue is how many reads wait. A web server has some tens of threads for
	// all reads: were all of them to wait, nobody's downloads would go on.
	tollQueue = 4
)

// A toll delays small reads of what did not stay, for all readers of a Cache
// together, and refuses those for which there is no place in the queue.
type toll struct {
	*rate.Limiter
	queue  chan struct{} // one element for each read that waits
	waited atomic.Uint64 // reads that had to wait, or were refused
	said   atomic.Int64  // when the log said so last, in nanoseconds since 1970
}

func newToll() *toll {
	return &toll{Limiter: rate.NewLimiter(tollRate, tollBurst), queue: make(chan struct{}, tollQueue)}
}

// pay waits until the blocks from first to last of which a reader wants n bytes
// may be fetched.
func (f *File) pay(ctx context.Context, b *baseBlocks, first, last int, n int64) error {
	s := f.store
	cost := min(s.index.refetched(b, first, last)-tollFree*n, tollBurst)
	if cost <= 0 || s.toll.AllowN(time.Now(), int(cost)) {
		return nil
	}
	s.toll.waited.Add(1)
	now := time.Now()
	if said := s.toll.said.Load(); now.Sub(time.Unix(0, said)) > tollQuiet && s.toll.said.CompareAndSwap(said, now.UnixNano()) {
		s.log.Warn("cache: small reads wait, since what they need did not stay in the cache and is fetched again and again", "base", b.ID, "size", b.Size, "cache_size", s.disk.max)
	}
	select {
	case s.toll.queue <- struct{}{}:
		defer func() { <-s.toll.queue }()
	default:
		return fmt.Errorf("%w: fetch again what the cache has no room for: too many small reads wait for that", fault.Unavailable)
	}
	if err := s.toll.WaitN(ctx, int(cost)); err != nil {
		return fmt.Errorf("%w: fetch again what the cache has no room for: %w", fault.Unavailable, err)
	}
	return nil
}

// refetched returns how many bytes the blocks from first to last have that must
// be fetched although they came before.
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
