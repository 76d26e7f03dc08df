package cache

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
)

// The rows of docs/failures.md that are this package's, by their numbers.

// 64 readers want one cold block, and 64 want overlapping ranges. Each block or
// run of blocks takes one GET, and no byte comes twice.
func TestRow17ManyReadersOneFetch(t *testing.T) {
	const readers, size = 64, 8 << 20
	src := &streamed{source: newSource(1, size, 256*kib), step: 100_000}
	gate := make(chan struct{})
	src.pause = func(int64) error { <-gate; return nil }
	s := openCache(t, Config{})
	f := openStreamed(t, s, src)
	var all sync.WaitGroup
	for i := range int64(readers) {
		all.Go(func() { src.check(t, f, 1<<20+1000*i, 2000) }) // all of block 4
	}
	testkit.Eventually(t, "all wait", func() bool { return s.Stats().Misses == readers })
	gate <- struct{}{}
	if n := src.calls.Load(); n != 1 {
		t.Errorf("%d GETs of one block", n)
	}
	close(gate)
	all.Wait()
	for i := range uint64(readers) {
		r := rand.New(rand.NewPCG(i, 17))
		all.Go(func() {
			for range 5 {
				from := r.Int64N(size)
				f.Prefetch(from, r.Int64N(4<<20))
				src.check(t, f, from, 1+r.Int64N(min(3<<20, size-from)))
			}
		})
	}
	all.Wait()
	f.Prefetch(0, size)
	s.fetch.pulls.Wait()
	src.check(t, f, 0, size)
	wantOnce(t, src.source)
}

// wantOnce checks that every byte was fetched exactly once, and that no request
// was too large.
func wantOnce(t *testing.T, src *source) {
	t.Helper()
	times := make([]int, len(src.blob.Sums))
	for _, r := range src.ranges {
		if r[1] > streamRun {
			t.Errorf("a GET of %d bytes", r[1])
		}
		for off := r[0]; off < r[0]+r[1]; off += src.blob.BlockSize {
			times[off/src.blob.BlockSize]++
		}
	}
	for i, n := range times {
		if n != 1 {
			t.Errorf("block %d was fetched %d times", i, n)
		}
	}
}

// The reader that started the flight is interrupted: the others get the block.
func TestRow18LeaderInterrupted(t *testing.T) {
	src := &streamed{source: newSource(1, 1<<20, 256*kib), step: 64 * kib}
	gate := make(chan struct{})
	src.pause = func(int64) error { <-gate; return nil }
	s := openCache(t, Config{})
	f := openStreamed(t, s, src)
	ctx, interrupt := context.WithCancel(t.Context())
	led := make(chan error)
	go func() {
		p := make([]byte, 1<<20)
		_, err := f.ReadAtContext(ctx, p, 0)
		clear(p) // a landing after this would be a race
		led <- err
	}()
	testkit.Eventually(t, "the fetch began", func() bool { return src.calls.Load() == 1 })
	var others sync.WaitGroup
	for i := range int64(16) {
		others.Go(func() { src.check(t, f, 64*kib*i, 64*kib) })
	}
	others.Go(func() {
		file, at, release, err := f.Pin(t.Context(), 0, 1<<20)
		if err != nil || file == nil {
			t.Errorf("pin: %v, error %v", file, err)
			return
		}
		src.readPinned(t, file, at, 0, 1<<20)
		release()
	})
	testkit.Eventually(t, "the others wait", func() bool { return s.Stats().Misses == 4+16+4 })
	gate <- struct{}{} // in the middle of the block
	interrupt()
	if err := <-led; err == nil {
		t.Error("the interrupted read succeeded")
	}
	close(gate)
	others.Wait()
	if n := src.calls.Load(); n != 1 {
		t.Errorf("%d GETs", n)
	}
}

// 200 open files, sequential and at random: the memory of fetches stays
// bounded.
func TestRow19ManyHandlesBoundedMemory(t *testing.T) {
	const handles, bound = 200, 8 << 20
	src := &streamed{source: newSource(1, 24<<20+999, 256*kib), step: 256 * kib}
	s := openCache(t, Config{InflightBytes: bound, MaxBytes: 16 << 20})
	var most atomic.Int64
	src.pause = func(int64) error {
		n := s.fetch.queue.inflight()
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		return nil
	}
	f := openStreamed(t, s, src)
	var all sync.WaitGroup
	for i := range uint64(handles) {
		all.Go(func() {
			r := rand.New(rand.NewPCG(i, 19))
			p := make([]byte, 64*kib)
			at := r.Int64N(f.Size())
			for range 10 {
				if i%2 == 0 {
					at = r.Int64N(f.Size())
				} else {
					f.Prefetch(at, 16<<20)
				}
				n, _ := f.ReadAt(p, at)
				if !bytes.Equal(p[:n], src.data[at:at+int64(n)]) || n == 0 {
					t.Errorf("%d bytes at %d are wrong", n, at)
				}
				at = (at + int64(n)) % f.Size()
			}
		})
	}
	all.Wait()
	s.fetch.pulls.Wait()
	if most.Load() > bound || most.Load() == 0 {
		t.Errorf("%d bytes of buffers, the bound is %d", most.Load(), bound)
	}
	if st := s.Stats(); st.InflightBytes != 0 || s.index.pinned != 0 || s.fetch.queue.backlog != [classes]int64{} {
		t.Errorf("%d bytes of buffers, %d pins, %v bytes in the queue are left", st.InflightBytes, s.index.pinned, s.fetch.queue.backlog)
	}
}

// A cache of one block, or of a few, under readers that want all of the base:
// all of them finish, and the limit holds.
func TestRow20CacheSmallerThanTheWorkingSet(t *testing.T) {
	inBoth(t, cacheSmallerThanTheWorkingSet)
}

func cacheSmallerThanTheWorkingSet(t *testing.T, c Config) {
	for _, blocks := range []int64{1, 2, 7} {
		limit := blocks * 64 * kib
		src := &streamed{source: newSource(1, 2<<20, 64*kib), step: 30_000}
		c.MaxBytes, c.Fetches = limit, 3
		s := openCache(t, c)
		f := openStreamed(t, s, src)
		var all sync.WaitGroup
		for i := range int64(6) {
			all.Go(func() {
				for off := int64(0); off < 2<<20; off += 128 * kib {
					at := (off + i*300_000) % (2 << 20)
					n := min(128*kib, 2<<20-at)
					f.Prefetch(at+n, 1<<20)
					if file, where, release, err := f.Pin(t.Context(), at, n); err != nil {
						t.Error(err)
					} else if file != nil {
						src.readPinned(t, file, where, at, n)
						release()
					} else {
						src.check(t, f, at, n)
					}
				}
			})
		}
		all.Wait()
		s.fetch.pulls.Wait()
		if got := taken(t, s); got > limit || s.Stats().DiskBytes > uint64(limit) {
			t.Errorf("%d bytes on disk, %d accounted, the limit is %d", got, s.Stats().DiskBytes, limit)
		}
		if s.index.pinned != 0 || s.fetch.queue.inflight() != 0 || s.index.unused > limit/2 {
			t.Errorf("%d pins, %d bytes of buffers, %d of blocks ahead are left", s.index.pinned, s.fetch.queue.inflight(), s.index.unused)
		}
		if err := f.Fill(t.Context(), nil); err == nil {
			t.Error("filled what has no room")
		}
		s.Close()
	}
}
