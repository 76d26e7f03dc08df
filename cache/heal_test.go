package cache

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// later moves the Cache's clock forward.
func later(s *Cache, by time.Duration) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	now := s.disk.now().Add(by)
	s.disk.now = func() time.Time { return now }
}

// refuse makes writes fail while the result is not nil.
func refuse(s *Cache) *atomic.Pointer[error] {
	var with atomic.Pointer[error]
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	s.disk.calls.write = func(f *os.File, p []byte, off int64) error {
		if err := with.Load(); err != nil {
			return *err
		}
		return writeAt(f, p, off)
	}
	return &with
}

func TestBrokenDiskIsLeftAlone(t *testing.T) {
	for _, broken := range []error{unix.EIO, unix.EROFS, unix.ENOSPC, unix.EDQUOT} {
		t.Run(broken.Error(), func(t *testing.T) {
			log := &record{}
			src := newSource(1, 1<<20, 64*kib)
			s := openCache(t, Config{Log: log.logger()})
			f := openBlob(t, s, src)
			with := refuse(s)
			later(s, 0)
			want := func(errors, uncached uint64, degraded bool) {
				t.Helper()
				if st := s.Stats(); st.WriteErrors != errors || st.Uncached != uncached || st.Degraded != degraded {
					t.Fatalf("%d write errors, %d blocks uncached, degraded %v; want %d, %d, %v", st.WriteErrors, st.Uncached, st.Degraded, errors, uncached, degraded)
				}
			}
			block := func(i int64) { t.Helper(); src.check(t, f, i*64*kib, 100) }
			with.Store(&broken)
			block(0)
			want(1, 1, true)
			with.Store(nil)
			block(0)
			want(1, 1, false)
			with.Store(&broken)
			for i := range int64(5) {
				block(1 + i)
			}
			want(4, 6, true) // three in a row, the others were not tried
			later(s, restTime-1)
			block(1)
			want(4, 7, true)
			later(s, 1)
			block(1)
			block(2)
			want(5, 9, true) // one was tried
			with.Store(nil)
			block(1)
			want(5, 10, true)
			later(s, restTime)
			for i := range int64(16) {
				block(i)
			}
			want(5, 10, false)
			calls := src.calls.Load()
			src.check(t, f, 0, 1<<20)
			if src.calls.Load() != calls {
				t.Error("blocks are not kept again")
			}
			if n := log.count("is left alone"); n != 1 {
				t.Errorf("logged %d times that the disk is left alone", n)
			}
		})
	}
}

func TestDirectoryDeletedWhileOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	log := &record{}
	src, late, other := newSource(1, 1<<20, 64*kib), newSource(2, 1<<20, 64*kib), newSource(3, 300_000, 4*kib)
	s := openCache(t, Config{Dir: dir, Log: log.logger()})
	f, g := openBlob(t, s, src), openBlob(t, s, other)
	src.check(t, f, 0, 512*kib)
	other.check(t, g, 0, 300_000)
	file, at, release, err := f.Pin(t.Context(), 64*kib, 128*kib)
	if err != nil || file == nil {
		t.Fatal(file, err)
	}
	old := g.current()
	idle := old.file.Load()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	l := openBlob(t, s, late) // there is no directory for its file
	for range 4 {
		src.check(t, f, 0, 1<<20)
		late.check(t, l, 0, 1<<20)
	}
	if !s.Stats().Degraded {
		t.Errorf("stats %+v", s.Stats())
	}

	s.disk.heal()
	if _, err := idle.Stat(); err == nil {
		t.Error("the deleted file of a base without pins is still open")
	}
	// A reader that still has the old base finds nothing in it.
	if s.index.pin(old, 0, 0) || s.index.recent.Contains(place{old, 0}) {
		t.Error("a block in a file that is closed is present")
	}
	if _, err := Open(Config{Dir: dir, MaxBytes: 1 << 20}); err == nil {
		t.Error("the new directory is not locked")
	}
	for _, b := range []struct {
		*source
		f *File
	}{{src, f}, {late, l}, {other, g}} {
		b.check(t, b.f, 0, b.f.Size())
		calls := b.calls.Load()
		b.check(t, b.f, 0, b.f.Size())
		if b.calls.Load() != calls {
			t.Error("blocks are not kept in the new directory")
		}
	}
	if st, want := s.Stats(), uint64(onDisk(t, dir)); st.Degraded || st.DiskBytes < want || st.DiskBytes > want+100*kib {
		t.Errorf("stats %+v, %d bytes are on disk", st, want)
	}
	src.readPinned(t, file, at, 64*kib, 128*kib)
	release()
	s.disk.heal() // nothing to do
	if n := log.count("made it again"); n != 1 {
		t.Errorf("logged %d times", n)
	}

	s.Close()
	src.spoil, late.spoil, other.spoil = off, off, off
	s = openCache(t, Config{Dir: dir})
	for _, b := range []*source{src, late, other} {
		b.check(t, openBlob(t, s, b), 0, b.blob.Size)
	}
}

// The directory cannot be made again: open files stay in use.
func TestDirectoryDeletedForGood(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "parent")
	log := &record{}
	src := newSource(1, 1<<20, 64*kib)
	s := openCache(t, Config{Dir: filepath.Join(parent, "cache"), Log: log.logger()})
	f := openBlob(t, s, src)
	src.check(t, f, 0, 512*kib)
	if err := os.RemoveAll(parent); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(parent, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.disk.heal()
		src.check(t, f, 0, 1<<20)
		if !s.Stats().Degraded {
			t.Error("does not count as degraded")
		}
	}
	if n := log.count("cannot be made again"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if err := os.Remove(parent); err != nil {
		t.Fatal(err)
	}
	s.disk.heal()
	src.check(t, f, 0, 1<<20)
	if s.Stats().Degraded || onDisk(t, s.dir) < 1<<20 {
		t.Errorf("stats %+v, on disk %d bytes", s.Stats(), onDisk(t, s.dir))
	}
}

// Only the file is deleted: that base behaves as if the directory was.
func TestFileDeletedWhileOpen(t *testing.T) {
	dir := t.TempDir()
	src, other := newSource(1, 1<<20, 64*kib), newSource(2, 1<<20, 64*kib)
	s := openCache(t, Config{Dir: dir})
	f, g := openBlob(t, s, src), openBlob(t, s, other)
	src.check(t, f, 0, 1<<20)
	other.check(t, g, 0, 1<<20)
	if err := os.Remove(filepath.Join(dir, name(src.blob.ID))); err != nil {
		t.Fatal(err)
	}
	s.disk.heal()
	if used := s.Stats().DiskBytes; used > 1<<20+100*kib {
		t.Errorf("%d bytes accounted", used)
	}
	other.spoil = off
	other.check(t, g, 0, 1<<20)
	src.check(t, f, 0, 1<<20)
	src.spoil = off
	src.check(t, f, 0, 1<<20)
	// Moving is not deleting.
	if err := os.Rename(dir, dir+"-moved"); err != nil {
		t.Fatal(err)
	}
	s.disk.heal()
	src.check(t, f, 0, 1<<20)
	if err := os.Rename(dir+"-moved", dir); err != nil {
		t.Fatal(err)
	}
}

// The directory is deleted again and again under readers.
func TestDeletedUnderReaders(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	m := &model{t: t, dir: dir, sources: []*source{newSource(1, 1<<20+777, 64*kib), newSource(2, 777_777, 4*kib)}}
	m.cache = openCache(t, Config{Dir: dir, MaxBytes: 1 << 20, Fetches: 3})
	for _, src := range m.sources {
		m.files = append(m.files, openBlob(t, m.cache, src))
	}
	var all sync.WaitGroup
	var deleted atomic.Int64
	for i := range uint64(4) {
		all.Go(func() {
			m.mix(i, 150)
			for deleted.Load() < 3 { // one processor may have run nothing else so far
				m.mix(i, 5)
				runtime.Gosched()
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for times := 0; ; times++ {
		select {
		case <-done:
			m.settled()
			return
		default:
		}
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				os.Remove(path)
			}
			return err
		})
		if times%2 == 0 && err == nil {
			os.RemoveAll(dir)
		}
		m.cache.disk.heal()
		deleted.Add(1)
		runtime.Gosched()
	}
}
