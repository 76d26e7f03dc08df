package cache

import (
	"context"
	"fmt"
)

// fillSpan is how many bytes Fill requests at a time: two of the largest
// requests.
const fillSpan = 2 * streamRun

// Fill fetches all missing blocks of the base, in order, and compares those
// that an earlier process left. It gives way: it starts nothing while a reader
// or a read-ahead waits. After each few MiB it calls progress, unless that is
// nil, with the bytes done so far and those of the base.
//
// Fill evicts nothing: it ends with ErrFull instead. ErrFull wraps
// fault.Unavailable. So do the errors if the disk takes no blocks and if ctx
// ended. Other errors are those of ReadAt.
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

// fill fetches the missing blocks from first to last.
func (f *File) fill(ctx context.Context, b *baseBlocks, first, last int) error {
	waiters, err := f.supply.claimMissing(b, first, last)
	if err != nil {
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
