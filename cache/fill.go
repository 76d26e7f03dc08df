package cache

import (
	"context"
	"fmt"
)

// fillSpan is how many bytes Fill wants at a time: two of the largest requests.
const fillSpan = 2 * streamRun

// Fill fetches all blocks of the base that are missing, in order, and compares
// those that an earlier process left. It gives way: nothing begins while a
// reader waits for something, or something waits to be read ahead. After each
// few MiB it calls progress, unless that is nil, with the bytes that were gone
// through and those of the base.
//
// Nothing is evicted for it: it ends with ErrFull first, which wraps
// fault.Unavailable as does the error if the disk takes no blocks, or if ctx
// ended. Else its errors are those of ReadAt.
func (f *File) Fill(ctx context.Context, progress func(done, total int64)) error {
	b := f.current()
	for first := 0; first < len(b.blocks); {
		last := min(first+int(max(1, fillSpan/b.BlockSize)), len(b.blocks)) - 1
		if ctx.Err() != nil {
			return fmt.Errorf("fill the cache with base %s: %w", b.ID, canceled(ctx))
		}
		if err := f.fill(ctx, f.current(), first, last); err != nil {
			return fmt.Errorf("fill the cache with base %s: %w", b.ID, err)
		}
		if progress != nil {
			progress(b.offset(last)+b.length(last), b.Size)
		}
		first = last + 1
	}
	return nil
}

// fill fetches what is missing of the blocks from first to last.
func (f *File) fill(ctx context.Context, b *baseBlocks, first, last int) error {
	s := f.store
	s.disk.look(b, first, last)
	if absent, cost := s.index.absent(b, first, last); absent > 0 {
		if err := s.disk.roomFor(absent, cost); err != nil {
			return err
		}
	}
	waiters := make([]waiter, last-first+1)
	if err := f.claim(b, first, waiters, background); err != nil {
		return err
	}
	defer leaveAll(waiters)
	for k := range waiters {
		if err := waiters[k].wait(ctx); err != nil {
			return fmt.Errorf("fetch block %d: %w", first+k, err)
		}
	}
	return nil
}

// absent returns how many of the blocks from first to last are not on disk,
// and what they would take there.
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

// Missing returns how many of the first n bytes of the base lie in blocks that
// are not on disk. It reads none: what is there may yet turn out to be damaged.
func (f *File) Missing(n int64) int64 {
	x, b := f.store.index, f.current()
	n = min(n, b.Size)
	if n <= 0 {
		return 0
	}
	_, last := b.span(0, n)
	f.store.disk.look(b, 0, last)
	x.mu.Lock()
	defer x.mu.Unlock()
	missing := int64(0)
	for i := range last + 1 {
		if b.blocks[i].state == absent {
			missing += min(b.length(i), n-b.offset(i))
		}
	}
	return missing
}
