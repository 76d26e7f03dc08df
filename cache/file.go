package cache

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"aesthetic.computer/isofs/fault"
)

// window is how many bytes one read wants at once: it requests all their missing
// blocks before the first of them arrives. Longer reads go window by window.
const window = 16 << 20

// A File is a verified, cached view of one base: an io.ReaderAt of immutable
// bytes. It also has ReadAtContext and Pin, the optional interfaces of package
// extent, which it does not import. Its methods are safe for concurrent use.
//
// Their errors are the Origin's, or wrap fault.Corrupt if fetched bytes were wrong
// twice, fault.Unavailable if the Cache was closed or ctx ended, and fault.Invalid
// for a range outside every file.
type File struct {
	supply *supply
	base   atomic.Pointer[baseBlocks] // use current
}

var _ io.ReaderAt = (*File)(nil)

// current returns the base that one operation uses throughout.
func (f *File) current() *baseBlocks {
	b := f.base.Load()
	next := b.next.Load()
	if next == nil {
		return b
	}
	for ; next != nil; next = b.next.Load() {
		b = next
	}
	f.base.Store(b)
	return b
}

// Size returns the number of bytes of the base.
func (f *File) Size() int64 { return f.base.Load().Size }

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	return f.ReadAtContext(context.Background(), p, off)
}

// ReadAtContext is ReadAt that returns early with an error wrapping ctx.Err() when
// ctx ends. The blocks that it waited for are fetched all the same.
func (f *File) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	b := f.current()
	if off < 0 {
		return 0, fmt.Errorf("read base %s: %w: offset %d", b.ID, fault.Invalid, off)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= b.Size {
		return 0, io.EOF
	}
	if ctx.Err() != nil {
		return 0, fmt.Errorf("read base %s: %w", b.ID, canceled(ctx))
	}
	end := off + min(int64(len(p)), b.Size-off)
	n := 0
	for at := off; at < end; at = off + int64(n) {
		// Windows end where blocks do. Otherwise the block at each border would be
		// read twice.
		to := min(end, (at+window)/b.BlockSize*b.BlockSize)
		m, err := f.read(ctx, p[n:n+int(to-at)], at)
		n += m
		if err != nil {
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// read fills p, which lies within the base and is at most a window.
func (f *File) read(ctx context.Context, p []byte, off int64) (int, error) {
	x, b := f.supply.index, f.current()
	first, last := b.span(off, int64(len(p)))
	if x.pin(b, first, last) {
		n, _ := b.file.Load().ReadAt(p, off)
		x.unpin(b, first, last)
		if n == len(p) {
			return n, nil
		}
		x.lose(b, first, last)
	}
	return f.gather(ctx, p, off)
}

// gather fills p from blocks, some of which must be waited for.
func (f *File) gather(ctx context.Context, p []byte, off int64) (int, error) {
	x, b := f.supply.index, f.current()
	first, last := b.span(off, int64(len(p)))
	waiters := make([]waiter, last-first+1)
	rest, at := p, off
	for k := range waiters {
		from := at - b.offset(first+k)
		n := min(int64(len(rest)), b.length(first+k)-from)
		waiters[k] = waiter{dst: rest[:n], from: from}
		rest, at = rest[n:], at+n
	}
	if err := f.supply.want(ctx, b, first, waiters, int64(len(p))); err != nil {
		return 0, fmt.Errorf("read base %s: %w", b.ID, err)
	}
	// After the return only the caller writes to p.
	defer leaveAll(waiters)
	for k := range waiters {
		w := &waiters[k]
		if !w.pinned {
			continue
		}
		_, err := b.file.Load().ReadAt(w.dst, b.offset(first+k)+w.from)
		x.unpin(b, first+k, first+k)
		if err != nil {
			// This try takes the block from memory. The block is no longer
			// present, so the next try waits for a flight.
			x.lose(b, first+k, first+k)
			if _, err := f.gather(ctx, w.dst, b.offset(first+k)+w.from); err != nil {
				w.err = err
			}
		}
	}
	n := 0
	for k := range waiters {
		if err := waiters[k].wait(ctx); err != nil {
			return n, fmt.Errorf("read block %d of base %s: %w", first+k, b.ID, err)
		}
		n += len(waiters[k].dst)
	}
	return n, nil
}

// Pin makes [off, off+n) present and verified and keeps it so until release is
// called (exactly once). The bytes are at offset at of file, which must not be
// closed. A nil file with a nil error means: the bytes are not in one file now,
// use ReadAt. release then does nothing, and must be called too. This happens for
// an empty range, for more than 16 MiB or than the cache may hold, and while the
// disk is full, broken, or full of blocks in use.
func (f *File) Pin(ctx context.Context, off, n int64) (file *os.File, at int64, release func(), err error) {
	x, b := f.supply.index, f.current()
	nothing := func() {}
	if off < 0 || n < 0 || off > b.Size || n > b.Size-off {
		return nil, 0, nothing, fmt.Errorf("pin %d bytes at %d of base %s: %w: it has %d bytes", n, off, b.ID, fault.Invalid, b.Size)
	}
	if ctx.Err() != nil {
		return nil, 0, nothing, fmt.Errorf("pin base %s: %w", b.ID, canceled(ctx))
	}
	if n == 0 || n > window || n > f.supply.disk.max {
		return nil, 0, nothing, nil
	}
	first, last := b.span(off, n)
	if !x.pin(b, first, last) {
		// Bytes that the disk would not take would be fetched for nothing, and
		// again by the ReadAt that follows.
		if !f.supply.disk.takes() {
			return nil, 0, nothing, nil
		}
		all, err := f.pinMissing(ctx, b, first, last, n)
		if err != nil || !all {
			return nil, 0, nothing, err
		}
	}
	var released atomic.Bool
	return b.file.Load(), off, func() {
		if released.Swap(true) {
			panic("cache: a pinned range was released twice")
		}
		x.unpin(b, first, last)
	}, nil
}

// pinMissing pins blocks of which some must be waited for: all of them or none. It
// does not wait for others to release blocks. A block for which there is no room
// is not kept, and so not pinned.
func (f *File) pinMissing(ctx context.Context, b *baseBlocks, first, last int, n int64) (bool, error) {
	waiters := make([]waiter, last-first+1)
	for k := range waiters {
		waiters[k].pin = true
	}
	if err := f.supply.want(ctx, b, first, waiters, n); err != nil {
		return false, fmt.Errorf("pin base %s: %w", b.ID, err)
	}
	all := true
	var failure error
	for k := range waiters {
		if err := waiters[k].wait(ctx); err != nil {
			failure = fmt.Errorf("pin block %d of base %s: %w", first+k, b.ID, err)
			break
		}
		all = all && waiters[k].pinned
	}
	if all && failure == nil {
		return true, nil
	}
	leaveAll(waiters)
	for k := range waiters {
		if waiters[k].pinned {
			f.supply.index.unpin(b, first+k, first+k)
		}
	}
	return false, failure
}

// Prefetch fetches the missing blocks of [off, off+n) soon, behind the blocks that
// readers wait for. It returns at once and reports no failure. It ignores the part
// of the range outside the base.
//
// It does less, or nothing, in three cases. The disk takes no blocks now, so a
// reader would fetch them again. Half of the cache is blocks that were fetched
// ahead and not yet read. More bytes wait than the fetches at once may hold.
func (f *File) Prefetch(off, n int64) {
	if off < 0 {
		off, n = 0, n+off
	}
	b := f.current()
	if off >= b.Size {
		return
	}
	if n = min(n, b.Size-off); n > 0 {
		first, last := b.span(off, n)
		f.supply.advance(b, first, last)
	}
}

// Missing returns how many of the first n bytes of the base lie in blocks that are
// not on disk. It does not read the blocks on disk: they may yet turn out to be
// damaged.
func (f *File) Missing(n int64) int64 {
	b := f.current()
	n = min(n, b.Size)
	if n <= 0 {
		return 0
	}
	_, last := b.span(0, n)
	f.supply.disk.look(b, 0, last)
	return f.supply.index.missing(b, n)
}
