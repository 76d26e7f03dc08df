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
// could make the origin send thousands of times what it reads. So bytes that are
// fetched again for a read count if they exceed tollFree times the bytes of the
// read. It may fetch tollBurst of them at once, and tollRate a second after that.
// Reads of 4 KiB and more, which is a 64th of the usual block, never pay.
const (
	tollFree  = 64
	tollRate  = 256 << 10
	tollBurst = 16 << 20
	tollQuiet = time.Minute // between two lines in the log

	// tollQueue is how many reads wait. A web server has some tens of threads for
	// all reads. If all of them waited, all downloads would stop.
	tollQueue = 4
)

// A toll delays small reads of blocks that did not stay, for all readers of a
// Cache together. It refuses those for which the queue has no place.
type toll struct {
	*rate.Limiter
	queue  chan struct{} // one element for each read that waits
	waited atomic.Uint64 // reads that waited, or were refused
	warned atomic.Int64  // when the log last had a line about it, in nanoseconds since 1970
}

func newToll() *toll {
	return &toll{Limiter: rate.NewLimiter(tollRate, tollBurst), queue: make(chan struct{}, tollQueue)}
}

// pay waits until that many bytes may be fetched again for a reader of n bytes.
// If it must wait, it calls warn at intervals.
func (t *toll) pay(ctx context.Context, again, n int64, warn func()) error {
	cost := min(again-tollFree*n, tollBurst)
	if cost <= 0 || t.AllowN(time.Now(), int(cost)) {
		return nil
	}
	t.waited.Add(1)
	now := time.Now()
	if last := t.warned.Load(); now.Sub(time.Unix(0, last)) > tollQuiet && t.warned.CompareAndSwap(last, now.UnixNano()) {
		warn()
	}
	select {
	case t.queue <- struct{}{}:
		defer func() { <-t.queue }()
	default:
		return fmt.Errorf("%w: fetch again what the cache has no room for: too many small reads wait for that", fault.Unavailable)
	}
	if err := t.WaitN(ctx, int(cost)); err != nil {
		return fmt.Errorf("%w: fetch again what the cache has no room for: %w", fault.Unavailable, err)
	}
	return nil
}
