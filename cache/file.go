package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"

	"aesthetic.computer/isofs/fault"
)

// A File is a verified, cached view of one base: an io.ReaderAt of immutable
// bytes. It also has ReadAtContext and Pin (see package extent, whose optional
// interfaces it meets without importing it).
type File struct {
	store   *Store
	blocks  *blockFile
	fetcher Fetcher
}

// Size returns the base's length in bytes.
func (f *File) Size() int64 { return f.blocks.Size }

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	return f.ReadAtContext(context.Background(), p, off)
}

// ReadAtContext is ReadAt that can be given up: the fetch goes on for others.
// Errors wrap fault.Corrupt (no source gives the right bytes) or Unavailable.
func (f *File) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read base %s at offset %d: %w", f.blocks.ID, off, fault.Invalid)
	}
	if off >= f.blocks.Size {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), f.blocks.Size-off)]
	first, last := f.span(off, int64(len(want)))
	if last > first {
		f.prefetch(ctx, first, last)
	}
	n := 0
	for b := first; b <= last && n < len(want); b++ {
		at := off + int64(n)
		part := want[n:min(int64(len(want)), f.blocks.offset(b)+f.blocks.length(b)-off)]
		if err := f.readBlock(ctx, part, b, at-f.blocks.offset(b)); err != nil {
			return n, err
		}
		n += len(part)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Pin makes [off, off+n) present and holds it until release is called. A nil
// file without an error means that the range cannot be held on disk now.
func (f *File) Pin(ctx context.Context, off, n int64) (*os.File, int64, func(), error) {
	if off < 0 || n <= 0 || off+n > f.blocks.Size {
		return nil, 0, nil, fmt.Errorf("pin [%d,+%d) of base %s: %w", off, n, f.blocks.ID, fault.Invalid)
	}
	first, last := f.span(off, n)
	if int64(last-first+1)*f.blocks.BlockSize > f.store.cfg.MaxBytes/2 {
		return nil, 0, nil, nil
	}
	if last > first {
		f.prefetch(ctx, first, last)
	}
	pinned := first
	for ; pinned <= last; pinned++ {
		data, held, err := f.hold(ctx, pinned)
		if err == nil && held && data == nil {
			continue
		}
		f.unpin(first, pinned-1)
		return nil, 0, nil, err
	}
	var once sync.Once
	return f.blocks.file, off, func() { once.Do(func() { f.unpin(first, last) }) }, nil
}

func (f *File) span(off, n int64) (first, last int) {
	return int(off / f.blocks.BlockSize), int((off + n - 1) / f.blocks.BlockSize)
}

// prefetch starts the fetches of all blocks of a range together; readBlock and
// Pin then wait for each in turn.
func (f *File) prefetch(ctx context.Context, first, last int) {
	for b := first; b <= last; b++ {
		if ctx.Err() == nil && !f.isPresent(b) {
			f.flight(b)
		}
	}
}

func (f *File) isPresent(b int) bool {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	return f.blocks.state[b] == present
}

// readBlock copies part of a block, from offset in within it.
func (f *File) readBlock(ctx context.Context, p []byte, b int, in int64) error {
	data, held, err := f.hold(ctx, b)
	if err != nil {
		return err
	}
	if data != nil {
		copy(p, data[in:])
		return nil
	}
	if held {
		defer f.unpin(b, b)
	}
	if _, err := f.blocks.file.ReadAt(p, f.blocks.offset(b)+in); err != nil {
		return fmt.Errorf("read block %d of base %s from the cache: %w: %w", b, f.blocks.ID, fault.Unavailable, err)
	}
	return nil
}

// hold makes a block present and pins it, or returns its bytes if the disk
// would not take them.
func (f *File) hold(ctx context.Context, b int) (data []byte, held bool, err error) {
	if f.pinIfPresent(b) {
		f.store.count.hits.Add(1)
		return nil, true, nil
	}
	f.store.count.misses.Add(1)
	// A block can be evicted between its fetch and the pin; a second miss means
	// that the cache is far too small for what is read at once, and then the
	// bytes of the flight serve.
	select {
	case r := <-f.flight(b):
		if r.err != nil {
			return nil, false, r.err
		}
		if f.pinIfPresent(b) {
			return nil, true, nil
		}
		return r.data, false, nil
	case <-ctx.Done():
		return nil, false, fmt.Errorf("wait for block %d of base %s: %w: %w", b, f.blocks.ID, fault.Unavailable, context.Cause(ctx))
	}
}

func (f *File) pinIfPresent(b int) bool {
	s := f.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.blocks.state[b] != present {
		return false
	}
	f.blocks.pins[b]++
	s.lru.Get(key{f.blocks, b})
	return true
}

func (f *File) unpin(first, last int) {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	for b := first; b <= last; b++ {
		f.blocks.pins[b]--
	}
}

// A landing is the end of a flight.
type landing struct {
	data []byte
	err  error
}

// flight makes a block present, once for all who want it at the time. It goes
// on when they leave.
func (f *File) flight(b int) <-chan landing {
	out := make(chan landing, 1)
	done := f.store.flights.DoChan(f.blocks.ID+" "+strconv.Itoa(b), func() (any, error) {
		return f.load(b)
	})
	go func() {
		r := <-done
		data, _ := r.Val.([]byte)
		out <- landing{data, r.Err}
	}()
	return out
}

// load is the body of a flight: the block from the disk, if an earlier run
// left it whole, else from the origin, at most twice.
func (f *File) load(b int) (data []byte, err error) {
	defer func() {
		if v := recover(); v != nil { // waiters of a flight that panics would hang
			err = fmt.Errorf("fetch block %d of base %s: %v: %w", b, f.blocks.ID, v, fault.Unavailable)
		}
	}()
	data = make([]byte, f.blocks.length(b))
	if f.stateOf(b) == present {
		_, err := f.blocks.file.ReadAt(data, f.blocks.offset(b))
		return data, err
	}
	if f.stateOf(b) == unverified && f.recheck(b, data) {
		return data, nil
	}
	if err := f.store.fetches.Acquire(context.Background(), 1); err != nil {
		return nil, err
	}
	defer f.store.fetches.Release(1)
	f.store.count.inflight.Add(1)
	defer f.store.count.inflight.Add(-1)
	for attempt := 1; ; attempt++ {
		err := f.fetch(b, data)
		if err == nil {
			break
		}
		if attempt == 2 || !errors.Is(err, fault.Corrupt) {
			return nil, err
		}
		f.store.cfg.Log.Warn("a block is not what the manifest says; fetching it again", "err", err)
	}
	f.store.keep(f.blocks, b, data)
	return data, nil
}

func (f *File) stateOf(b int) blockState {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	return f.blocks.state[b]
}

// fetch fills data from the origin and compares it with the manifest.
func (f *File) fetch(b int, data []byte) error {
	c := &f.store.count
	c.fetches.Add(1)
	if err := f.fetcher.Fetch(context.Background(), data, f.blocks.offset(b)); err != nil {
		c.fetchErrors.Add(1)
		return fmt.Errorf("fetch block %d of base %s (offset %d): %w", b, f.blocks.ID, f.blocks.offset(b), err)
	}
	c.fetchedBytes.Add(uint64(len(data)))
	if got := sha256.Sum256(data); got != f.blocks.Sums[b] {
		c.corruptFetches.Add(1)
		return fmt.Errorf("block %d of base %s (offset %d) came with sha256 %x, the manifest has %x: %w",
			b, f.blocks.ID, f.blocks.offset(b), got, f.blocks.Sums[b], fault.Corrupt)
	}
	return nil
}

// recheck reads a block that an earlier run left and compares it.
func (f *File) recheck(b int, data []byte) bool {
	s := f.store
	_, err := f.blocks.file.ReadAt(data, f.blocks.offset(b))
	if err == nil && sha256.Sum256(data) == f.blocks.Sums[b] {
		s.mu.Lock()
		defer s.mu.Unlock()
		if f.blocks.state[b] != unverified {
			return false // evicted meanwhile
		}
		f.blocks.state[b] = present
		return true
	}
	s.count.corruptDisk.Add(1)
	s.cfg.Log.Warn("a cached block is damaged; fetching it again", "base", f.blocks.ID, "block", b, "err", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.blocks.state[b] == unverified {
		s.evict(key{f.blocks, b})
	}
	return false
}
