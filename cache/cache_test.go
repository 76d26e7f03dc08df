package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

// A source is a base and its origin, which counts requests and may be spoilt.
type source struct {
	blob  Blob
	data  []byte
	calls atomic.Int64
	// spoil, if set, is called with the filled bytes, the offset and the
	// number of the call, from 1 on.
	spoil func(p []byte, off int64, call int64) error

	mu     sync.Mutex
	ranges [][2]int64 // offset and length of each call
}

func newSource(seed uint64, size, blockSize int64) *source {
	s := &source{data: make([]byte, size)}
	var key [32]byte
	key[0] = byte(seed)
	rand.NewChaCha8(key).Read(s.data)
	id := sha256.Sum256(s.data)
	s.blob = Blob{ID: hex.EncodeToString(id[:]), Size: size, BlockSize: blockSize}
	for off := int64(0); off < size; off += blockSize {
		s.blob.Sums = append(s.blob.Sums, sha256.Sum256(s.data[off:min(off+blockSize, size)]))
	}
	return s
}

func (s *source) Fetch(ctx context.Context, p []byte, off int64) error {
	call := s.calls.Add(1)
	s.mu.Lock()
	s.ranges = append(s.ranges, [2]int64{off, int64(len(p))})
	s.mu.Unlock()
	copy(p, s.data[off:off+int64(len(p))])
	if s.spoil != nil {
		return s.spoil(p, off, call)
	}
	return nil
}

// The whole answer comes at once.
func (s *source) FetchStream(ctx context.Context, p []byte, off int64, got func(n int)) error {
	err := s.Fetch(ctx, p, off)
	if err == nil {
		got(len(p))
	}
	return err
}

func (s *source) Wrong(off, n int64) {}

func (s *source) Sources() int { return 1 }

var errOff = errors.New("the origin is off")

func off([]byte, int64, int64) error { return errOff }

// A record is a log that tests can read.
type record struct{ testkit.Buffer }

func (r *record) count(text string) int { return strings.Count(r.String(), text) }

func (r *record) logger() *slog.Logger { return slog.New(slog.NewTextHandler(r, nil)) }

func openCache(t testing.TB, c Config) *Cache {
	t.Helper()
	if c.Dir == "" && !c.Memory {
		c.Dir = t.TempDir()
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 1 << 30
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// openBlob opens a base whose origin sends the whole answer at once, in small
// requests.
func openBlob(t testing.TB, s *Cache, src *source) *File {
	t.Helper()
	f, err := s.Blob(src.blob, src)
	if err != nil {
		t.Fatal(err)
	}
	f.supply.longest = MaxBlockSize
	return f
}

// check reads a range and compares it with the source.
func (s *source) check(t testing.TB, f *File, off, n int64) {
	t.Helper()
	p := make([]byte, n)
	if _, err := f.ReadAt(p, off); err != nil {
		t.Fatalf("read %d bytes at %d: %v", n, off, err)
	}
	if !bytes.Equal(p, s.data[off:off+n]) {
		t.Fatalf("read %d bytes at %d: wrong bytes", n, off)
	}
}

// wantKind checks that err is of exactly this kind.
func wantKind(t *testing.T, err, kind error) {
	t.Helper()
	for _, k := range []error{fault.NotFound, fault.Corrupt, fault.Unavailable, fault.Invalid} {
		if errors.Is(err, k) != (k == kind) {
			t.Fatalf("got error %v, want one that is only: %v", err, kind)
		}
	}
}

func TestReaderAt(t *testing.T) {
	const size = 3*4096 + 100
	src := newSource(1, size, 4096)
	s := openCache(t, Config{})
	f := openBlob(t, s, src)
	if err := iotest.TestReader(io.NewSectionReader(f, 0, f.Size()), src.data); err != nil {
		t.Fatal(err)
	}
	borders := []int64{0, 1, 4095, 4096, 4097, 8191, 8192, 12287, 12288, 12289, size - 1, size, size + 1, size + 5000}
	for _, from := range borders {
		for _, to := range borders {
			if to < from {
				continue
			}
			p := make([]byte, to-from)
			n, err := f.ReadAt(p, from)
			want := src.data[min(from, size):min(to, size)]
			if !bytes.Equal(p[:n], want) {
				t.Fatalf("[%d,%d): wrong bytes", from, to)
			}
			if short := to > size && to > from; short != (err == io.EOF) || (!short && err != nil) {
				t.Fatalf("[%d,%d): error %v", from, to, err)
			}
		}
	}
	_, err := f.ReadAt(make([]byte, 1), -1)
	wantKind(t, err, fault.Invalid)
	if got := s.Stats().FetchedBytes; got != size {
		t.Errorf("fetched %d bytes of a base of %d", got, size)
	}
}

func TestOneFetchForManyReaders(t *testing.T) {
	const readers = 64
	src := newSource(1, 1<<20, 256<<10)
	gate := make(chan struct{})
	src.spoil = func([]byte, int64, int64) error { <-gate; return nil }
	s := openCache(t, Config{})
	f := openBlob(t, s, src)
	var all sync.WaitGroup
	for i := range readers {
		all.Go(func() { src.check(t, f, 256<<10+int64(i)*1000, 1000) })
	}
	testkit.Eventually(t, "all readers wait", func() bool { return s.Stats().Misses == readers })
	close(gate)
	all.Wait()
	if n := src.calls.Load(); n != 1 {
		t.Errorf("%d fetches for one block", n)
	}
}

func TestOverlappingRangesFetchEachBlockOnce(t *testing.T) {
	const size = 5<<20 + 12345
	src := newSource(1, size, 256<<10)
	s := openCache(t, Config{Fetches: 4})
	f := openBlob(t, s, src)
	var all sync.WaitGroup
	for i := range 16 {
		r := rand.New(rand.NewPCG(1, uint64(i)))
		all.Go(func() {
			for range 20 {
				from := r.Int64N(size)
				src.check(t, f, from, 1+r.Int64N(size-from))
			}
		})
	}
	all.Wait()
	if got := s.Stats().FetchedBytes; got > size {
		t.Errorf("fetched %d bytes of a base of %d", got, size)
	}
}

func TestNeighboursShareAFetch(t *testing.T) {
	src := newSource(1, 4<<20, 256<<10)
	f := openBlob(t, openCache(t, Config{}), src)
	src.check(t, f, 512<<10, 1) // block 2
	src.check(t, f, 0, 2<<20)   // blocks 0-1, 3-6, 7
	for _, r := range src.ranges {
		if r[1] > MaxBlockSize {
			t.Errorf("%d bytes were fetched at once", r[1])
		}
	}
	if n := src.calls.Load(); n != 4 {
		t.Errorf("%d fetches, want 4: %v", n, src.ranges)
	}
}

func TestFetchesAreBounded(t *testing.T) {
	src := newSource(1, 8<<20, 64<<10)
	var now, most atomic.Int64
	src.spoil = func([]byte, int64, int64) error {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		runtime.Gosched()
		return nil
	}
	f := openBlob(t, openCache(t, Config{Fetches: 3}), src)
	var all sync.WaitGroup
	for i := range 128 {
		all.Go(func() { src.check(t, f, int64(i)*64<<10, 100) })
	}
	all.Wait()
	if most.Load() > 3 {
		t.Errorf("%d fetches at once", most.Load())
	}
}

func TestReaderLeavesFetchGoesOn(t *testing.T) {
	src := newSource(1, 1<<20, 256<<10)
	gate := make(chan struct{})
	src.spoil = func([]byte, int64, int64) error { <-gate; return nil }
	s := openCache(t, Config{})
	f := openBlob(t, s, src)
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		p := make([]byte, 10)
		_, err := f.ReadAtContext(ctx, p, 0)
		clear(p) // a write by the flight would be a race
		left <- err
	}()
	testkit.Eventually(t, "the fetch began", func() bool { return src.calls.Load() == 1 })
	stays := make(chan struct{})
	go func() { src.check(t, f, 0, 20); close(stays) }()
	testkit.Eventually(t, "the second waits", func() bool { return s.Stats().Misses == 2 })
	leave()
	err := <-left
	wantKind(t, err, fault.Unavailable)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not wrap the context's error", err)
	}
	close(gate)
	<-stays
	src.check(t, f, 0, 30)
	if n := src.calls.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
	if _, err := f.ReadAtContext(ctx, make([]byte, 1), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("a reader who left before: %v", err)
	}
}

func TestFailureIsSharedAndNotRemembered(t *testing.T) {
	src := newSource(1, 1<<20, 256<<10)
	gate := make(chan struct{})
	src.spoil = func(_ []byte, _ int64, call int64) error {
		if call == 1 {
			<-gate
			return errOff
		}
		return nil
	}
	s := openCache(t, Config{})
	f := openBlob(t, s, src)
	errs := make(chan error)
	for range 8 {
		go func() {
			_, err := f.ReadAt(make([]byte, 1), 0)
			errs <- err
		}()
	}
	testkit.Eventually(t, "all wait", func() bool { return s.Stats().Misses == 8 })
	close(gate)
	for range 8 {
		err := <-errs
		wantKind(t, err, fault.Unavailable)
		if !errors.Is(err, errOff) || !strings.Contains(err.Error(), "block 0") {
			t.Errorf("got %v", err)
		}
	}
	src.check(t, f, 0, 100)
	if n := src.calls.Load(); n != 2 {
		t.Errorf("%d fetches", n)
	}
}

func TestKindOfTheOriginIsKept(t *testing.T) {
	src := newSource(1, 1<<20, 256<<10)
	src.spoil = func([]byte, int64, int64) error { return fmt.Errorf("gone: %w", fault.NotFound) }
	_, err := openBlob(t, openCache(t, Config{}), src).ReadAt(make([]byte, 1), 0)
	wantKind(t, err, fault.NotFound)
}

func TestOriginThatBreaks(t *testing.T) {
	for name, breaks := range map[string]func(){
		"panics":             func() { panic("broken") },
		"ends its goroutine": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			src := newSource(1, 4<<20, 256<<10)
			src.spoil = func(_ []byte, _ int64, call int64) error {
				if call <= 3 {
					breaks()
				}
				return nil
			}
			s := openCache(t, Config{Fetches: 1})
			f := openBlob(t, s, src)
			for range 3 {
				_, err := f.ReadAt(make([]byte, 1<<20), 0)
				wantKind(t, err, fault.Unavailable)
				s.fetch.pulls.Wait() // else the next joins what is left of this run
			}
			src.check(t, f, 0, 4<<20)
			s.fetch.pulls.Wait()
			if st := s.Stats(); st.Inflight != 0 || st.FetchErrors != 3 {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

func TestWrongBytes(t *testing.T) {
	flip := func(p []byte, off int64) {
		if off <= 300<<10 && 300<<10 < off+int64(len(p)) {
			p[300<<10-off] ^= 1
		}
	}
	for _, c := range []struct {
		name          string
		spoil         func(p []byte, off, call int64) error
		heals         bool
		corrupt, call uint64
	}{
		{"a flipped bit, once", func(p []byte, off, call int64) error {
			if call == 1 {
				flip(p, off)
			}
			return nil
		}, true, 1, 2},
		{"a flipped bit, always", func(p []byte, off, _ int64) error { flip(p, off); return nil }, false, 2, 2},
		{"half of it", func(p []byte, _, _ int64) error { clear(p[len(p)/2:]); return nil }, false, 2, 2},
		{"zeroes", func(p []byte, _, _ int64) error { clear(p); return nil }, false, 4, 3},
		{"of another place", func(p []byte, _, _ int64) error {
			copy(p, p[len(p)/2:])
			return nil
		}, false, 2, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := newSource(1, 1<<20, 256<<10)
			src.spoil = c.spoil
			s := openCache(t, Config{})
			f := openBlob(t, s, src)
			p := make([]byte, 512<<10) // blocks 0 and 1
			n, err := f.ReadAt(p, 0)
			if !bytes.Equal(p[:n], src.data[:n]) {
				t.Error("wrong bytes were served")
			}
			if c.heals != (err == nil) {
				t.Fatalf("error %v", err)
			}
			s.fetch.pulls.Wait() // the run's other blocks
			if st := s.Stats(); st.CorruptFetches != c.corrupt || st.Fetches != c.call {
				t.Errorf("stats %+v, want %d corrupt of %d fetches", st, c.corrupt, c.call)
			}
			src.spoil = nil
			if c.heals {
				return
			}
			wantKind(t, err, fault.Corrupt)
			for _, part := range []string{src.blob.ID, "at byte", fmt.Sprintf("%x", src.blob.Sums[n/(256<<10)])} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error does not say %q: %v", part, err)
				}
			}
			src.check(t, f, 0, 1<<20) // nothing wrong was kept
		})
	}
}

func TestDescriptions(t *testing.T) {
	s := openCache(t, Config{})
	src := newSource(1, 10_000, 4096)
	for name, change := range map[string]func(*Blob){
		"no id":              func(b *Blob) { b.ID = "" },
		"path as id":         func(b *Blob) { b.ID = "../" + b.ID[3:] },
		"upper case":         func(b *Blob) { b.ID = strings.ToUpper(b.ID) },
		"short id":           func(b *Blob) { b.ID = b.ID[2:] },
		"no bytes":           func(b *Blob) { b.Size, b.Sums = 0, nil },
		"negative":           func(b *Blob) { b.Size = -1 },
		"other block count":  func(b *Blob) { b.Size = 13_000 },
		"block size 0":       func(b *Blob) { b.BlockSize = 0 },
		"no multiple of 4Ki": func(b *Blob) { b.BlockSize = 5000 },
		"huge blocks":        func(b *Blob) { b.BlockSize = 2 << 20; b.Sums = b.Sums[:1] },
	} {
		b := src.blob
		change(&b)
		if _, err := s.Blob(b, src); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	f := openBlob(t, s, src)
	src.check(t, f, 0, 10_000)
	again := newSource(1, 10_000, 4096)
	again.check(t, openBlob(t, s, again), 0, 10_000)
	if again.calls.Load() != 0 {
		t.Error("a second view does not share the blocks")
	}
	other := src.blob
	other.Sums = append([][32]byte{{1}}, other.Sums[1:]...)
	_, err := s.Blob(other, src)
	wantKind(t, err, fault.Invalid)
	for _, c := range []Config{{MaxBytes: 1}, {Dir: t.TempDir()}, {Dir: t.TempDir(), MaxBytes: 1, Fetches: -1},
		{Dir: t.TempDir(), Memory: true, MaxBytes: 1}, {Dir: t.TempDir(), MaxBytes: 1, ScrubRate: -1}} {
		_, err := Open(c)
		wantKind(t, err, fault.Invalid)
	}
}

func TestClose(t *testing.T) {
	src := newSource(1, 1<<20, 256<<10)
	began := make(chan struct{})
	s := openCache(t, Config{})
	ctx := s.fetch.ctx
	src.spoil = func([]byte, int64, int64) error {
		close(began)
		<-ctx.Done() // as an origin ends by its context
		return ctx.Err()
	}
	f := openBlob(t, s, src)
	errs := make(chan error)
	go func() {
		_, err := f.ReadAt(make([]byte, 1), 0)
		errs <- err
	}()
	<-began
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	wantKind(t, <-errs, fault.Unavailable)
	_, err := f.ReadAt(make([]byte, 1), 0)
	wantKind(t, err, fault.Unavailable)
	_, _, _, err = f.Pin(t.Context(), 0, 1)
	wantKind(t, err, fault.Unavailable)
	_, err = s.Blob(src.blob, src)
	wantKind(t, err, fault.Unavailable)
}

// readPinned compares a pinned range with the source.
func (s *source) readPinned(t testing.TB, file *os.File, at, off, n int64) {
	t.Helper()
	p := make([]byte, n)
	if _, err := file.ReadAt(p, at); err != nil {
		t.Fatalf("read pinned: %v", err)
	}
	if !bytes.Equal(p, s.data[off:off+n]) {
		t.Fatalf("pinned %d bytes at %d: wrong bytes", n, off)
	}
}

func TestPin(t *testing.T) { inBoth(t, testPin) }

func testPin(t *testing.T, c Config) {
	src := newSource(1, 1<<20+100, 64<<10)
	f := openBlob(t, openCache(t, c), src)
	for _, r := range []struct{ off, n int64 }{{0, 1}, {0, 64 << 10}, {1000, 200 << 10}, {1 << 20, 100}, {0, 1<<20 + 100}} {
		for range 2 {
			file, at, release, err := f.Pin(t.Context(), r.off, r.n)
			if err != nil || file == nil {
				t.Fatalf("pin %v: file %v, error %v", r, file, err)
			}
			src.readPinned(t, file, at, r.off, r.n)
			release()
		}
	}
	for _, r := range []struct{ off, n int64 }{{-1, 1}, {0, -1}, {0, 1<<20 + 101}, {1<<20 + 101, 0}, {1, 1<<63 - 1}} {
		_, _, _, err := f.Pin(t.Context(), r.off, r.n)
		wantKind(t, err, fault.Invalid)
	}
	if file, _, release, err := f.Pin(t.Context(), 5, 0); file != nil || err != nil || release == nil {
		t.Errorf("an empty range: %v, %v", file, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, _, err := f.Pin(ctx, 0, 1)
	wantKind(t, err, fault.Unavailable)

	_, _, release, err := f.Pin(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	release()
	defer func() {
		if recover() == nil {
			t.Error("a second release does not panic")
		}
	}()
	release()
}

func TestPinFails(t *testing.T) {
	src := newSource(1, 1<<20, 64<<10)
	s := openCache(t, Config{})
	f := openBlob(t, s, src)
	src.check(t, f, 0, 64<<10)
	src.spoil = off
	_, _, release, err := f.Pin(t.Context(), 0, 512<<10)
	wantKind(t, err, fault.Unavailable)
	release()
	s.fetch.pulls.Wait()
	if s.index.pinned != 0 {
		t.Errorf("%d pins are left", s.index.pinned)
	}
	src.spoil = nil
	src.check(t, f, 0, 1<<20)
}

func TestPinnerLeaves(t *testing.T) {
	src := newSource(1, 1<<20, 64<<10)
	gate := make(chan struct{})
	src.spoil = func(_ []byte, off, _ int64) error {
		if off == 0 {
			return nil
		}
		<-gate
		return nil
	}
	s := openCache(t, Config{})
	f := openBlob(t, s, src)
	src.check(t, f, 0, 1)
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, _, _, err := f.Pin(ctx, 0, 128<<10)
		done <- err
	}()
	testkit.Eventually(t, "the fetch began", func() bool { return src.calls.Load() == 2 })
	leave()
	wantKind(t, <-done, fault.Unavailable)
	close(gate)
	src.check(t, f, 0, 128<<10)
	testkit.Eventually(t, "all pins are released", func() bool {
		s.index.mu.Lock()
		defer s.index.mu.Unlock()
		return s.index.pinned == 0
	})
}

func TestCloseWaitsForPins(t *testing.T) {
	src := newSource(1, 1<<20, 64<<10)
	dir := t.TempDir()
	s := openCache(t, Config{Dir: dir})
	file, at, release, err := openBlob(t, s, src).Pin(t.Context(), 70_000, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(Config{Dir: dir, MaxBytes: 1 << 20})
	wantKind(t, err, fault.Unavailable)
	src.readPinned(t, file, at, 70_000, 10_000)
	release()
	openCache(t, Config{Dir: dir})
}
