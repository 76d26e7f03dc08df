package cache

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

func TestPrefetch(t *testing.T) {
	src := newSource(1, 4<<20+5, 64*kib)
	s := openCache(t, Config{})
	f := openBlob(t, s, src)
	for _, r := range [][2]int64{{0, 0}, {5, -1}, {-10, 10}, {-10, 5}, {4<<20 + 5, 1}, {1 << 40, 1 << 40}} {
		f.Prefetch(r[0], r[1])
	}
	s.fetch.pulls.Wait()
	if n := src.calls.Load(); n != 0 {
		t.Fatalf("%d fetches of nothing", n)
	}
	src.check(t, f, 128*kib, 1)
	f.Prefetch(-5, 1<<40)
	f.Prefetch(0, 1<<20)
	src.check(t, f, 0, 4<<20+5) // joins what is under way
	s.fetch.pulls.Wait()
	if st := s.Stats(); st.FetchedBytes != 4<<20+5 || st.Ahead != 64 || st.AheadUnused != 0 {
		t.Errorf("stats %+v", st)
	}
	for _, r := range src.ranges {
		if r[1] > MaxBlockSize {
			t.Errorf("%d bytes at once from an origin that has nothing before it has all", r[1])
		}
	}
	calls := src.calls.Load()
	f.Prefetch(0, 1<<40)
	s.fetch.pulls.Wait()
	if s.index.unused != 0 || src.calls.Load() != calls {
		t.Errorf("%d bytes unused, %d fetches", s.index.unused, src.calls.Load()-calls)
	}
	s.Close()
	f.Prefetch(0, 1<<20)
}

func TestPrefetchedBlocksArePresent(t *testing.T) {
	src := newSource(1, 2<<20, 64*kib)
	s := openCache(t, Config{})
	f := openBlob(t, s, src)
	f.Prefetch(0, 1<<20)
	s.fetch.pulls.Wait()
	src.spoil = off
	src.check(t, f, 0, 1<<20)
	if st := s.Stats(); st.Misses != 0 || st.Hits != 16 {
		t.Errorf("stats %+v", st)
	}
	f.Prefetch(1<<20, 1<<20) // fails, silently
	s.fetch.pulls.Wait()
	if s.index.pinned != 0 || s.index.unused != 0 {
		t.Errorf("%d pins, %d bytes unused are left", s.index.pinned, s.index.unused)
	}
	src.spoil = nil
	src.check(t, f, 1<<20, 1<<20)
}

// A file that is read on and on gets larger requests when fetches are scarce.
func TestPrefetchExtendsWhatWaits(t *testing.T) {
	src := &streamed{source: newSource(1, 16<<20, 256*kib), step: 256 * kib}
	gate := make(chan struct{})
	src.pause = func(int64) error { <-gate; return nil }
	s := openCache(t, Config{Fetches: 2})
	f := openStreamed(t, s, src)
	for off := int64(0); off < 16<<20; off += 512 * kib {
		f.Prefetch(off, 512*kib)
	}
	close(gate)
	s.fetch.pulls.Wait()
	want := fmt.Sprint([][2]int64{{0, 512 * kib}, {512 * kib, 4 << 20}, {4608 * kib, 4 << 20}, {8704 * kib, 4 << 20}, {12800 * kib, 3584 * kib}})
	if got := fmt.Sprint(src.ranges); got != want {
		t.Errorf("fetched %v, want %v", got, want)
	}
	src.check(t, f, 0, 16<<20)
}

func TestReaderOvertakesReadAhead(t *testing.T) {
	src := &streamed{source: newSource(1, 16<<20, 256*kib), step: 256 * kib}
	gate := make(chan struct{})
	src.pause = func(at int64) error {
		if at < 1<<20 {
			<-gate
		}
		return nil
	}
	s := openCache(t, Config{Fetches: 2})
	f := openStreamed(t, s, src)
	for off := int64(0); off < 16<<20; off += 4 << 20 {
		f.Prefetch(off, 4<<20) // the first is under way, and stuck
	}
	src.check(t, f, 12<<20, 100)
	src.check(t, f, 4<<20, 100)
	close(gate)
	s.fetch.pulls.Wait()
	if st := s.Stats(); st.Fetches != 4 || st.FetchedBytes != 16<<20 {
		t.Errorf("stats %+v", st)
	}
}

func TestPrefetchLeavesHalfOfTheCache(t *testing.T) {
	src := newSource(1, 4<<20, 64*kib)
	s := openCache(t, Config{MaxBytes: 16 * 64 * kib})
	f := openBlob(t, s, src)
	f.Prefetch(0, 4<<20)
	s.fetch.pulls.Wait()
	if st := s.Stats(); st.Ahead != 8 || st.Evictions != 0 {
		t.Errorf("stats %+v", st)
	}
	src.check(t, f, 2<<20, 1<<20) // it pushes out blocks that no reader came for
	s.fetch.pulls.Wait()
	if st := s.Stats(); st.AheadUnused != 8 || s.index.unused != 0 {
		t.Errorf("%d unused of %d, %d bytes", st.AheadUnused, st.Ahead, s.index.unused)
	}
}

func TestPrefetchOfLeftBlocks(t *testing.T) {
	dir := t.TempDir()
	src := newSource(1, 1<<20, 64*kib)
	s := openCache(t, Config{Dir: dir})
	src.check(t, openBlob(t, s, src), 0, 512*kib)
	s.fetch.pulls.Wait()
	s.Close()
	s = openCache(t, Config{Dir: dir})
	f := openBlob(t, s, src)
	f.Prefetch(0, 1<<20)
	s.fetch.pulls.Wait()
	src.check(t, f, 0, 1<<20)
	if st := s.Stats(); st.Misses != 0 || st.FetchedBytes != 512*kib || st.Ahead != 8 {
		t.Errorf("stats %+v", st)
	}
}

func TestPrefetchWhileTheDiskTakesNothing(t *testing.T) {
	src := newSource(1, 1<<20, 64*kib)
	s := openCache(t, Config{})
	f := openBlob(t, s, src)
	s.disk.failing.Store(true)
	f.Prefetch(0, 1<<20)
	s.fetch.pulls.Wait()
	if src.calls.Load() != 0 {
		t.Error("fetched for nothing")
	}
	one := openCache(t, Config{Fetches: 1})
	openBlob(t, one, src).Prefetch(0, 1<<20)
	one.fetch.pulls.Wait()
	if src.calls.Load() != 0 {
		t.Error("the only fetch is not for what no reader waits for")
	}
	_, err := Open(Config{Dir: t.TempDir(), MaxBytes: 1, InflightBytes: -1})
	wantKind(t, err, fault.Invalid)
}

// Close ends the blocks that wait to be fetched ahead.
func TestCloseEndsReadAhead(t *testing.T) {
	src := newSource(1, 8<<20, 64*kib)
	s := openCache(t, Config{Fetches: 2})
	ctx := s.fetch.ctx
	src.spoil = func([]byte, int64, int64) error { <-ctx.Done(); return ctx.Err() }
	f := openBlob(t, s, src)
	f.Prefetch(0, 8<<20)
	errs := make(chan error)
	go func() {
		_, err := f.ReadAt(make([]byte, 1), 7<<20)
		errs <- err
	}()
	testkit.Eventually(t, "the reader waits", func() bool { return s.Stats().Misses == 1 })
	s.Close()
	wantKind(t, <-errs, fault.Unavailable)
	if s.index.pinned != 0 || s.fetch.queue.inflight() != 0 {
		t.Errorf("%d pins, %d bytes are left", s.index.pinned, s.fetch.queue.inflight())
	}
}

// Readers, pins, advice and filling run at once, with an origin that fails,
// lies and breaks off. Reads are right, and in the end nothing is left over.
func TestReadAheadAtRandom(t *testing.T) {
	for seed := range uint64(8) {
		src := &streamed{source: newSource(seed, 1<<20+1234, 64*kib), step: 30_000}
		if seed%2 == 1 {
			src.spoil = func(p []byte, _, call int64) error {
				if call%3 == 0 {
					p[call%int64(len(p))] ^= 16
				}
				return nil
			}
			var steps atomic.Int64
			src.pause = func(int64) error {
				if steps.Add(1)%7 == 0 {
					return errOff
				}
				return nil
			}
		}
		s := openCache(t, Config{MaxBytes: int64(1+seed*3) * 64 * kib, Fetches: 1 + int(seed)%4, InflightBytes: 1 << 20})
		f := openStreamed(t, s, src)
		var all sync.WaitGroup
		for i := range uint64(6) {
			all.Go(func() {
				r := rand.New(rand.NewPCG(seed, i))
				for range 60 {
					off := r.Int64N(f.Size())
					n := 1 + r.Int64N(min(f.Size()-off, 300*kib))
					switch r.IntN(5) {
					case 0:
						ctx, cancel := context.WithCancel(t.Context())
						go cancel()
						_ = f.Fill(ctx, nil)
					case 1:
						f.Prefetch(off, 4*n)
					default:
						p := make([]byte, n)
						got, err := f.ReadAt(p, off)
						if !bytes.Equal(p[:got], src.data[off:off+int64(got)]) || err == nil && int64(got) < n || err != nil && seed%2 == 0 {
							t.Errorf("seed %d: %d of %d bytes at %d, error %v", seed, got, n, off, err)
						}
					}
				}
			})
		}
		all.Wait()
		s.fetch.pulls.Wait()
		unused := int64(0)
		for i := range f.current().blocks {
			if f.current().blocks[i].ahead {
				unused += f.current().cost(i)
			}
		}
		if s.index.pinned != 0 || s.index.unused != unused || s.fetch.queue.running != [classes]int{} || s.fetch.queue.backlog != [classes]int64{} {
			t.Errorf("seed %d: left are %d pins, %d bytes ahead (counted %d), the queue has %v and %v", seed, s.index.pinned, unused, s.index.unused, s.fetch.queue.running, s.fetch.queue.backlog)
		}
	}
}
