package cache

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

// A streamed source reports its progress, step bytes at a time.
type streamed struct {
	*source
	step int
	// pause, if set, is called before each step with the offset in the base;
	// its error ends the answer there.
	pause func(at int64) error

	mu    sync.Mutex
	wrong [][2]int64 // what Wrong was called with
}

func (s *streamed) FetchStream(ctx context.Context, p []byte, off int64, got func(n int)) error {
	whole := make([]byte, len(p))
	if err := s.Fetch(ctx, whole, off); err != nil {
		return err
	}
	for n := 0; n < len(p); {
		if s.pause != nil {
			if err := s.pause(off + int64(n)); err != nil {
				return err
			}
		}
		n += copy(p[n:], whole[n:min(len(p), n+s.step)])
		got(n)
	}
	return nil
}

func (s *streamed) Wrong(off, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, [2]int64{off, n})
}

func openStreamed(t testing.TB, s *Cache, src *streamed) *File {
	t.Helper()
	f, err := s.Blob(src.blob, src)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestReaderWaitsForItsOwnBlock(t *testing.T) {
	src := &streamed{source: newSource(1, 1<<20, 64*kib), step: 10_000}
	gate := make(chan struct{})
	src.pause = func(at int64) error {
		if at >= 300_000 {
			<-gate
		}
		return nil
	}
	s := openCache(t, Config{})
	f := openStreamed(t, s, src)
	f.Prefetch(0, 1<<20)
	src.check(t, f, 0, 256*kib) // four blocks, while the rest is stuck
	src.check(t, f, 100, 100)
	if st := s.Stats(); st.Fetches != 1 || st.Inflight != 1 {
		t.Errorf("%d fetches, %d of them under way", st.Fetches, st.Inflight)
	}
	close(gate)
	src.check(t, f, 0, 1<<20)
	if n := src.calls.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

func TestStreamThatDiesKeepsWhatCame(t *testing.T) {
	for _, c := range []struct {
		name         string
		err          error
		calls, bytes uint64
	}{
		{"unavailable", errOff, 1, 256 * kib},
		{"changed, and is good then", fmt.Errorf("it changed: %w", fault.Corrupt), 1, 1 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := &streamed{source: newSource(1, 1<<20, 64*kib), step: 10_000}
			died := false
			src.pause = func(at int64) error {
				if at >= 300_000 && !died {
					died = true
					return c.err
				}
				return nil
			}
			s := openCache(t, Config{})
			f := openStreamed(t, s, src)
			p := make([]byte, 1<<20)
			n, err := f.ReadAt(p, 0)
			if !bytes.Equal(p[:n], src.data[:n]) || err == nil && n < len(p) {
				t.Fatalf("%d bytes, error %v", n, err)
			}
			s.fetch.pulls.Wait()
			if st := s.Stats(); st.Fetches != c.calls || st.FetchedBytes != c.bytes {
				t.Errorf("%d fetches of %d bytes, want %d of %d", st.Fetches, st.FetchedBytes, c.calls, c.bytes)
			}
			before := len(src.ranges)
			src.check(t, f, 0, 1<<20)
			for _, r := range src.ranges[before:] {
				if r[0] < 256*kib {
					t.Errorf("what had come was fetched again: %v", r)
				}
			}
			if got := s.Stats().FetchedBytes; got != 1<<20 {
				t.Errorf("%d bytes fetched", got)
			}
		})
	}
}

func TestWrongBytesInAStream(t *testing.T) {
	const bad = 3
	for _, heals := range []bool{true, false} {
		t.Run(fmt.Sprint("heals ", heals), func(t *testing.T) {
			src := &streamed{source: newSource(1, 1<<20, 64*kib), step: 50_000}
			src.spoil = func(p []byte, off, call int64) error {
				if at := int64(bad*64*kib+17) - off; at >= 0 && at < int64(len(p)) && (call == 1 || !heals) {
					p[at] ^= 1
				}
				return nil
			}
			s := openCache(t, Config{})
			f := openStreamed(t, s, src)
			p := make([]byte, 1<<20)
			n, err := f.ReadAt(p, 0)
			if !bytes.Equal(p[:n], src.data[:n]) {
				t.Fatal("wrong bytes were served")
			}
			s.fetch.pulls.Wait()
			want := [][2]int64{{bad * 64 * kib, 64 * kib}}
			if heals {
				if err != nil {
					t.Fatal(err)
				}
			} else {
				wantKind(t, err, fault.Corrupt)
				if n != bad*64*kib {
					t.Errorf("%d bytes", n)
				}
				want = append(want, want[0])
			}
			if !slices.Equal(src.wrong, want) {
				t.Errorf("reported %v, want %v", src.wrong, want)
			}
			if st := s.Stats(); st.Fetches != 2 || st.CorruptFetches != uint64(len(want)) {
				t.Errorf("stats %+v", st)
			}
			src.spoil = nil
			src.check(t, f, 0, 1<<20)
			if n := src.calls.Load(); n > 3 {
				t.Errorf("%d fetches", n)
			}
		})
	}
}

// An origin that reports nonsense progress gets nothing past the hashes.
func TestStreamThatLiesAboutItsPlace(t *testing.T) {
	src := newSource(1, 1<<20, 64*kib)
	s := openCache(t, Config{})
	f, err := s.Blob(src.blob, liar{src})
	if err != nil {
		t.Fatal(err)
	}
	src.check(t, f, 0, 1<<20)
	if st := s.Stats(); st.CorruptFetches == 0 {
		t.Errorf("stats %+v", st)
	}
}

type liar struct{ *source }

func (l liar) FetchStream(ctx context.Context, p []byte, off int64, got func(n int)) error {
	got(-1)
	got(100 * kib) // nothing is there
	got(0)
	got(1 << 40)
	return l.Fetch(ctx, p, off)
}

// A reader that joined a large read-ahead fetch that failed gets a fetch of its
// own, once.
func TestReadAheadFailsReaderDoesNot(t *testing.T) {
	src := &streamed{source: newSource(1, 4<<20, 256*kib), step: 64 * kib}
	gate := make(chan struct{})
	src.spoil = func(_ []byte, _, call int64) error {
		if call == 1 {
			<-gate
			return errOff
		}
		return nil
	}
	s := openCache(t, Config{Fetches: 4})
	f := openStreamed(t, s, src)
	f.Prefetch(0, 4<<20)
	var all sync.WaitGroup
	all.Go(func() { src.check(t, f, 1<<20, 100) })
	testkit.Eventually(t, "the reader waits", func() bool { return s.Stats().Misses == 1 })
	close(gate)
	all.Wait()
	s.fetch.pulls.Wait()
	if n := src.calls.Load(); n != 2 || src.ranges[0] != [2]int64{0, 4 << 20} || src.ranges[1] != [2]int64{1 << 20, 256 * kib} {
		t.Errorf("fetched %v", src.ranges)
	}
	src.spoil = off
	f.Prefetch(0, 1<<20)
	_, err := f.ReadAt(make([]byte, 1), 0)
	wantKind(t, err, fault.Unavailable)
}

// Blocks on disk do not wait for an origin that hangs.
func TestLeftBlocksDoNotWaitForTheOrigin(t *testing.T) {
	dir := t.TempDir()
	src := newSource(1, 1<<20, 64*kib)
	s := openCache(t, Config{Dir: dir})
	src.check(t, openBlob(t, s, src), 0, 256*kib)
	s.fetch.pulls.Wait()
	s.Close()
	s = openCache(t, Config{Dir: dir, Fetches: 1})
	ctx := s.fetch.ctx
	src.spoil = func([]byte, int64, int64) error { <-ctx.Done(); return ctx.Err() }
	f := openBlob(t, s, src)
	stuck := make(chan error)
	go func() {
		_, err := f.ReadAt(make([]byte, 1), 512*kib)
		stuck <- err
	}()
	testkit.Eventually(t, "the origin hangs", func() bool { return s.Stats().Inflight == 1 })
	src.check(t, f, 0, 256*kib)
	s.Close()
	wantKind(t, <-stuck, fault.Unavailable)
}
