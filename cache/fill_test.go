package cache

import (
	"context"
	"errors"
	"sync"
	"testing"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

func TestFill(t *testing.T) {
	const size = 20<<20 + 777
	dir := t.TempDir()
	src := newSource(1, size, 64*kib)
	s := openCache(t, Config{Dir: dir})
	f := openBlob(t, s, src)
	if n := f.Missing(size + 5); n != size {
		t.Errorf("%d bytes are missing of nothing", n)
	}
	src.check(t, f, 5<<20, 3<<20)
	s.fetch.pulls.Wait()
	for n, want := range map[int64]int64{0: 0, 5 << 20: 5 << 20, 5<<20 + 1: 5 << 20, 8 << 20: 5 << 20, 8<<20 + 1: 5<<20 + 1} {
		if got := f.Missing(n); got != want {
			t.Errorf("%d of the first %d bytes are missing, want %d", got, n, want)
		}
	}
	var last int64
	progress := func(done, total int64) {
		if done <= last || total != size {
			t.Errorf("%d of %d after %d", done, total, last)
		}
		last = done
	}
	if err := f.Fill(t.Context(), progress); err != nil || last != size {
		t.Fatalf("%d bytes, error %v", last, err)
	}
	if st := s.Stats(); st.FetchedBytes != size || st.Evictions != 0 || st.Hits != 0 {
		t.Errorf("stats %+v", st)
	}
	s.fetch.pulls.Wait()
	if s.index.pinned != 0 {
		t.Errorf("%d pins are left", s.index.pinned)
	}
	s.Close()
	s = openCache(t, Config{Dir: dir})
	src.spoil = off
	f = openBlob(t, s, src)
	if n := f.Missing(size); n != 0 {
		t.Errorf("%d bytes are missing after a restart", n)
	}
	if err := f.Fill(t.Context(), nil); err != nil { // what is left is compared
		t.Fatal(err)
	}
	src.check(t, f, 0, size)
	if st := s.Stats(); st.Fetches != 0 || st.Misses != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestFillEvictsNothing(t *testing.T) {
	src, other := newSource(1, 32<<20, 64*kib), newSource(2, 4<<20, 64*kib)
	s := openCache(t, Config{MaxBytes: 21 << 20})
	f := openBlob(t, s, src)
	other.check(t, openBlob(t, s, other), 0, 4<<20)
	err := f.Fill(t.Context(), nil)
	wantKind(t, err, fault.Unavailable)
	if !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	s.fetch.pulls.Wait()
	if st := s.Stats(); st.Evictions != 0 || st.FetchedBytes != 20<<20 {
		t.Errorf("stats %+v", st)
	}
}

func TestFillFails(t *testing.T) {
	src := newSource(1, 4<<20, 64*kib)
	s := openCache(t, Config{})
	f := openBlob(t, s, src)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantKind(t, f.Fill(ctx, nil), fault.Unavailable)
	src.spoil = off
	if err := f.Fill(t.Context(), nil); !errors.Is(err, errOff) {
		t.Errorf("got %v", err)
	}
	s.fetch.pulls.Wait()
	src.spoil = func(p []byte, _, _ int64) error { clear(p); return nil }
	wantKind(t, f.Fill(t.Context(), nil), fault.Corrupt)
	s.fetch.pulls.Wait()
	src.spoil = nil
	s.disk.failing.Store(true)
	calls := src.calls.Load()
	wantKind(t, f.Fill(t.Context(), nil), fault.Unavailable)
	if src.calls.Load() != calls {
		t.Error("fetched what the disk does not take")
	}
	s.disk.failing.Store(false)
	s.Close()
	wantKind(t, f.Fill(t.Context(), nil), fault.Unavailable)
}

// While a reader waits Fill starts nothing. Blocks that wait to be filled come
// at once when a reader wants them.
func TestFillGivesWay(t *testing.T) {
	src := newSource(1, 16<<20, 256*kib)
	gate, began := make(chan struct{}), make(chan struct{}, 100)
	src.spoil = func([]byte, int64, int64) error { began <- struct{}{}; <-gate; return nil }
	s := openCache(t, Config{Fetches: 4})
	f := openBlob(t, s, src)
	filled := make(chan error)
	go func() { filled <- f.Fill(t.Context(), nil) }()
	<-began
	<-began // two at once, and six wait
	var reads sync.WaitGroup
	reads.Go(func() { src.check(t, f, 12<<20, 1) })
	<-began
	reads.Go(func() { src.check(t, f, 6<<20, 1) })
	<-began
	gate <- struct{}{}
	gate <- struct{}{}
	testkit.Eventually(t, "two fetches ended", func() bool { return s.Stats().Inflight <= 2 })
	src.mu.Lock()
	ranges := src.ranges
	src.mu.Unlock()
	if len(ranges) != 4 || ranges[2] != [2]int64{12 << 20, 256 * kib} || ranges[3] != [2]int64{6 << 20, 1 << 20} {
		t.Errorf("fetched %v", ranges)
	}
	close(gate)
	reads.Wait()
	if err := <-filled; err != nil {
		t.Fatal(err)
	}
	if n := s.Stats().FetchedBytes; n != 16<<20 {
		t.Errorf("%d bytes fetched", n)
	}
}
