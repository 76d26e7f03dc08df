package cache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

const kib = 1 << 10

// onDisk returns the bytes that the files of a directory take, as the kernel
// counts.
func onDisk(t testing.TB, dir string) (sum int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(dir, e.Name()), &st) == nil {
			sum += st.Blocks * 512
		}
	}
	return sum
}

// taken returns what the files of a Cache take, as the kernel counts.
func taken(t testing.TB, s *Cache) (sum int64) {
	t.Helper()
	if s.disk.root != nil {
		return onDisk(t, s.dir)
	}
	for _, b := range s.index.all() {
		var st unix.Stat_t
		if f := b.file.Load(); f != nil && unix.Fstat(int(f.Fd()), &st) == nil {
			sum += st.Blocks * 512
		}
	}
	return sum
}

// inBoth runs a test with files on disk and in memory.
func inBoth(t *testing.T, test func(t *testing.T, c Config)) {
	t.Run("on disk", func(t *testing.T) { test(t, Config{Dir: t.TempDir()}) })
	t.Run("in memory", func(t *testing.T) { test(t, Config{Memory: true}) })
}

func TestLimit(t *testing.T) { inBoth(t, testLimit) }

func testLimit(t *testing.T, c Config) {
	for _, blocks := range []int64{1, 2, 3, 5, 8, 20} {
		t.Run(fmt.Sprint(blocks), func(t *testing.T) {
			limit := blocks * 64 * kib
			c.MaxBytes, c.Fetches = limit, 2
			s := openCache(t, c)
			defer s.Close()
			var files []*File
			sources := []*source{newSource(1, 1<<20+1, 64*kib), newSource(2, 2<<20, 32*kib)}
			for _, src := range sources {
				files = append(files, openBlob(t, s, src))
			}
			r := rand.New(rand.NewPCG(uint64(blocks), 1))
			for range 300 {
				k := r.IntN(2)
				size := files[k].Size()
				from := r.Int64N(size)
				sources[k].check(t, files[k], from, 1+r.Int64N(min(300*kib, size-from)))
				if got := taken(t, s); got > limit {
					t.Fatalf("%d bytes on disk, the limit is %d", got, limit)
				}
				if got := s.Stats().DiskBytes; got > uint64(limit) {
					t.Fatalf("%d bytes accounted, the limit is %d", got, limit)
				}
			}
			s.fetch.pulls.Wait()
			if got := taken(t, s); got < limit/2 {
				t.Errorf("%d bytes on disk of %d allowed: the cache is hardly used", got, limit)
			}
			if s.Stats().Evictions == 0 {
				t.Error("nothing was evicted")
			}
		})
	}
}

// After a write-back, the metadata of a file of many runs is within the limit
// too.
func TestLimitWithManyRuns(t *testing.T) {
	const limit = 4000 * kib
	dir := t.TempDir()
	src := newSource(1, 8<<20, 4*kib)
	s := openCache(t, Config{Dir: dir, MaxBytes: limit})
	f := openBlob(t, s, src)
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(2048) {
		if i%2 == 0 {
			src.check(t, f, int64(i)*4*kib, 1)
		}
	}
	s.fetch.pulls.Wait()
	if err := f.current().file.Load().Sync(); err != nil {
		t.Fatal(err)
	}
	if got := onDisk(t, dir); got > limit {
		t.Errorf("%d bytes on disk, the limit is %d", got, limit)
	}
}

func TestLeastRecentlyUsedGoes(t *testing.T) { inBoth(t, testLeastRecentlyUsedGoes) }

func testLeastRecentlyUsedGoes(t *testing.T, c Config) {
	src := newSource(1, 1<<20, 64*kib)
	c.MaxBytes = 3 * 64 * kib
	f := openBlob(t, openCache(t, c), src)
	read := func(blocks ...int64) {
		for _, i := range blocks {
			src.check(t, f, i*64*kib, 10)
		}
	}
	read(0, 1, 2, 0, 3) // block 1 is evicted
	if n := src.calls.Load(); n != 4 {
		t.Fatalf("%d fetches", n)
	}
	read(0, 2, 3)
	if n := src.calls.Load(); n != 4 {
		t.Errorf("%d fetches: the block that went was not the least recently used", n)
	}
	read(1)
	if n := src.calls.Load(); n != 5 {
		t.Errorf("%d fetches", n)
	}
}

func TestPinnedBlocksStay(t *testing.T) { inBoth(t, testPinnedBlocksStay) }

func testPinnedBlocksStay(t *testing.T, c Config) {
	log := &record{}
	src := newSource(1, 2<<20, 64*kib)
	c.MaxBytes, c.Log = 2*64*kib, log.logger()
	s := openCache(t, c)
	f := openBlob(t, s, src)
	file, at, release, err := f.Pin(t.Context(), 0, 128*kib)
	if err != nil || file == nil {
		t.Fatalf("file %v, error %v", file, err)
	}
	for range 2 {
		src.check(t, f, 0, 2<<20) // progress without a place
	}
	src.readPinned(t, file, at, 0, 128*kib)
	if got, _, _, err := f.Pin(t.Context(), 1<<20, 64*kib); got != nil || err != nil {
		t.Errorf("pinned without a place: %v, %v", got, err)
	}
	if st := s.Stats(); st.Evictions != 0 || st.Uncached == 0 || st.WriteErrors != 0 {
		t.Errorf("stats %+v", st)
	}
	if n := log.count("cannot keep blocks"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	release()
	src.check(t, f, 1<<20, 128*kib)
	if file, _, release, err := f.Pin(t.Context(), 1<<20, 64*kib); file == nil || err != nil {
		t.Errorf("cannot pin after the release: %v", err)
	} else {
		release()
	}
}

func TestPinMoreThanThereIs(t *testing.T) {
	src := newSource(1, 2<<20, 64*kib)
	s := openCache(t, Config{MaxBytes: 256 * kib})
	f := openBlob(t, s, src)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for _, n := range []int64{2 << 20, 256*kib + 1, 256 * kib, 200 * kib, 64 * kib} {
				off := int64(i) * 10_000 % ((2 << 20) - n + 1)
				file, at, release, err := f.Pin(t.Context(), off, n)
				if err != nil {
					t.Error(err)
					return
				}
				if file != nil {
					src.readPinned(t, file, at, off, n)
				}
				release()
				src.check(t, f, off, n)
			}
		})
	}
	all.Wait()
	s.fetch.pulls.Wait()
	if s.index.pinned != 0 {
		t.Errorf("%d pins are left", s.index.pinned)
	}
}

func TestSecondCacheIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := openCache(t, Config{Dir: dir})
	_, err := Open(Config{Dir: dir, MaxBytes: 1})
	wantKind(t, err, fault.Unavailable)
	if !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "another isofs is using it") {
		t.Errorf("the message is: %v", err)
	}
	s.Close()
	openCache(t, Config{Dir: dir})
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	src := newSource(1, 1<<20+5000, 64*kib)
	s := openCache(t, Config{Dir: dir})
	src.check(t, openBlob(t, s, src), 0, 1<<20+5000)
	s.Close()

	src.spoil = off // the origin is not needed
	s = openCache(t, Config{Dir: dir})
	if got, want := s.Stats().DiskBytes, uint64(onDisk(t, dir)); got != want {
		t.Errorf("%d bytes accounted before a base is open, %d on disk", got, want)
	}
	f := openBlob(t, s, src)
	if got, want := s.Stats().DiskBytes, uint64(onDisk(t, dir)); got < want {
		t.Errorf("%d bytes accounted, %d on disk", got, want)
	}
	src.check(t, f, 0, 1<<20+5000)
	file, at, release, err := f.Pin(t.Context(), 60*kib, 500*kib)
	if err != nil || file == nil {
		t.Fatal(file, err)
	}
	src.readPinned(t, file, at, 60*kib, 500*kib)
	release()
	if st := s.Stats(); st.CorruptDisk != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestReopenWithASmallerLimit(t *testing.T) {
	dir := t.TempDir()
	src, old := newSource(1, 1<<20, 64*kib), newSource(2, 1<<20, 64*kib)
	s := openCache(t, Config{Dir: dir})
	old.check(t, openBlob(t, s, old), 0, 1<<20)
	src.check(t, openBlob(t, s, src), 0, 1<<20)
	s.Close()

	const limit = 512 * kib
	s = openCache(t, Config{Dir: dir, MaxBytes: limit})
	f := openBlob(t, s, src)
	if got := onDisk(t, dir); got > limit {
		t.Errorf("%d bytes on disk, the limit is %d", got, limit)
	}
	if _, err := os.Stat(filepath.Join(dir, name(old.blob.ID))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of the base that is not open: %v", err)
	}
	src.check(t, f, 0, 1<<20)
	old.check(t, openBlob(t, s, old), 0, 1<<20)
}

func TestFilesOfOthersAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	src := newSource(1, 1<<20, 64*kib)
	if err := os.Mkdir(filepath.Join(dir, name(src.blob.ID)), 0o700); err != nil {
		t.Fatal(err)
	}
	log := &record{}
	f := openBlob(t, openCache(t, Config{Dir: dir, MaxBytes: 64 * kib, Log: log.logger()}), src)
	src.check(t, f, 0, 1<<20)
	if b, err := os.ReadFile(path); string(b) != "mine" {
		t.Errorf("%q, %v", b, err)
	}
	if log.count("not a regular file") == 0 {
		t.Error("the log has nothing of the directory in the file's place")
	}
}

// A Cache finds all that happened to a file between two processes, block by
// block.
func TestDamageOnDisk(t *testing.T) {
	const bs, size = 64 * kib, 16*64*kib + 777
	write := func(f *os.File, off int64, p []byte) error { _, err := f.WriteAt(p, off); return err }
	for _, c := range []struct {
		name    string
		damage  func(f *os.File, data []byte) error
		corrupt uint64 // blocks that are there and wrong
		fetches int64
	}{
		{"none", func(f *os.File, _ []byte) error { return nil }, 0, 0},
		{"a flipped bit", func(f *os.File, data []byte) error { return write(f, 3*bs+5, []byte{data[3*bs+5] ^ 4}) }, 1, 1},
		{"swapped blocks", func(f *os.File, data []byte) error {
			return errors.Join(write(f, bs, data[2*bs:3*bs]), write(f, 2*bs, data[bs:2*bs]))
		}, 2, 2},
		{"a zeroed page", func(f *os.File, _ []byte) error { return write(f, 7*bs+8192, make([]byte, 4096)) }, 1, 1},
		{"a page lost", func(f *os.File, _ []byte) error { return punch(f, 7*bs+8192, 4096) }, 0, 1},
		{"a block lost", func(f *os.File, _ []byte) error { return punch(f, 7*bs, bs) }, 0, 1},
		{"truncated at a block", func(f *os.File, _ []byte) error { return f.Truncate(10 * bs) }, 0, 7},
		{"truncated in a page", func(f *os.File, _ []byte) error { return f.Truncate(10*bs - 100) }, 1, 8},
		{"truncated in the last", func(f *os.File, _ []byte) error { return f.Truncate(size - 1) }, 1, 1},
		{"truncated to nothing", func(f *os.File, _ []byte) error { return f.Truncate(0) }, 0, 17},
		{"longer", func(f *os.File, _ []byte) error { return write(f, size, make([]byte, 100_000)) }, 0, 0},
		{"all of zeroes", func(f *os.File, _ []byte) error { return write(f, 0, make([]byte, size)) }, 17, 17},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			src := newSource(1, size, bs)
			s := openCache(t, Config{Dir: dir})
			src.check(t, openBlob(t, s, src), 0, size)
			s.Close()
			file, err := os.OpenFile(filepath.Join(dir, name(src.blob.ID)), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(c.damage(file, src.data), file.Close()); err != nil {
				t.Fatal(err)
			}

			s = openCache(t, Config{Dir: dir})
			f := openBlob(t, s, src)
			src.calls.Store(0)
			for off := int64(0); off < size; off += bs {
				src.check(t, f, off, min(bs, size-off))
			}
			if n := src.calls.Load(); n != c.fetches {
				t.Errorf("%d fetches, want %d", n, c.fetches)
			}
			if n := s.Stats().CorruptDisk; n != c.corrupt {
				t.Errorf("%d blocks found wrong, want %d", n, c.corrupt)
			}
			s.Close()
			src.spoil = off // healed for good
			src.check(t, openBlob(t, openCache(t, Config{Dir: dir}), src), 0, size)
		})
	}
}

func TestDamageWithTheOriginOff(t *testing.T) {
	dir := t.TempDir()
	src := newSource(1, 1<<20, 64*kib)
	s := openCache(t, Config{Dir: dir})
	src.check(t, openBlob(t, s, src), 0, 1<<20)
	s.Close()
	file, err := os.OpenFile(filepath.Join(dir, name(src.blob.ID)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	file.WriteAt([]byte("damage"), 100)
	file.Close()
	src.spoil = off
	s = openCache(t, Config{Dir: dir})
	f := openBlob(t, s, src)
	for range 3 {
		_, err := f.ReadAt(make([]byte, 10), 0)
		wantKind(t, err, fault.Unavailable)
	}
	if n := s.Stats().CorruptDisk; n != 1 {
		t.Errorf("found wrong %d times, though removed at the first", n)
	}
	src.check(t, f, 64*kib, 1<<20-64*kib)
}

// The file is truncated under a running cache: a read that fails is fetched.
func TestFileTruncatedWhileOpen(t *testing.T) {
	dir := t.TempDir()
	src := newSource(1, 1<<20, 64*kib)
	s := openCache(t, Config{Dir: dir})
	f := openBlob(t, s, src)
	src.check(t, f, 0, 1<<20)
	if err := os.Truncate(filepath.Join(dir, name(src.blob.ID)), 100); err != nil {
		t.Fatal(err)
	}
	src.check(t, f, 64*kib, 900*kib)
	if s.Stats().CorruptDisk == 0 {
		t.Error("nothing was found wrong")
	}
	file, at, release, err := f.Pin(t.Context(), 512*kib, 64*kib)
	if err != nil {
		t.Fatal(err)
	}
	src.readPinned(t, file, at, 512*kib, 64*kib)
	release()
}

// onTmpfs mounts a small file system for the test.
func onTmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("isofs-test", dir, "tmpfs", 0, "size="+size); err != nil {
		testkit.Lack(t, fmt.Sprintf("root, to mount a tmpfs: %v", err))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// The cache fills a disk that is smaller than the limit.
func TestDiskSmallerThanTheLimit(t *testing.T) {
	dir := onTmpfs(t, "1m")
	src := newSource(1, 4<<20, 64*kib)
	s := openCache(t, Config{Dir: dir})
	f := openBlob(t, s, src)
	for off := int64(0); off < 4<<20; off += 256 * kib {
		src.check(t, f, off, 256*kib)
		calls := src.calls.Load()
		src.check(t, f, off, 256*kib)
		if src.calls.Load() != calls {
			t.Fatalf("what was read last is not kept: %+v", s.Stats())
		}
	}
	if st := s.Stats(); st.Uncached != 0 || st.Evictions == 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestDiskFull(t *testing.T) {
	dir := onTmpfs(t, "1m")
	log := &record{}
	src := newSource(1, 4<<20, 64*kib)
	s := openCache(t, Config{Dir: dir, Log: log.logger()})
	f := openBlob(t, s, src)
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	full, _ := io.Copy(filler, bytes.NewReader(make([]byte, 2<<20))) // until the disk is full
	filler.Truncate(full - 20*kib)                                   // for a part of a block
	src.check(t, f, 0, 4<<20)
	src.check(t, f, 0, 1<<20)
	st := s.Stats()
	if st.WriteErrors != maxFailures || st.Uncached != 80 || st.DiskBytes > 100*kib || !st.Degraded {
		t.Errorf("stats %+v", st)
	}
	if n := log.count("cannot keep blocks"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if left := onDisk(t, dir) - (full - 20*kib); left != 0 {
		t.Errorf("%d bytes are left of blocks that did not fit", left)
	}
	calls := src.calls.Load()
	if file, _, _, err := f.Pin(t.Context(), 0, 1000); file != nil || err != nil || src.calls.Load() != calls {
		t.Errorf("pin on a full disk: %v, %v, %d fetches", file, err, src.calls.Load()-calls)
	}

	filler.Truncate(0)
	later(s, restTime)
	for off := int64(0); off < 4<<20; off += 64 * kib {
		src.check(t, f, off, 1)
	}
	src.check(t, f, 0, 64*kib)
	if file, _, release, err := f.Pin(t.Context(), 0, 1000); file == nil || err != nil {
		t.Errorf("pin after there is room again: %v", err)
	} else {
		release()
	}
	if n := log.count("keeping blocks again"); n != 1 {
		t.Errorf("logged %d times that it works again", n)
	}
	if s.Stats().Degraded {
		t.Error("it still counts as degraded")
	}
}

func TestDiskReadOnly(t *testing.T) {
	dir := onTmpfs(t, "8m")
	remount := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("isofs-test", dir, "tmpfs", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	src := newSource(1, 1<<20, 64*kib)
	s := openCache(t, Config{Dir: dir})
	src.check(t, openBlob(t, s, src), 0, 256*kib)
	s.Close()

	remount(unix.MS_RDONLY)
	log := &record{}
	s = openCache(t, Config{Dir: dir, Log: log.logger()})
	f := openBlob(t, s, src)
	for range 2 {
		src.check(t, f, 0, 1<<20)
	}
	if st := s.Stats(); st.WriteErrors != maxFailures || st.Uncached != 32 || !st.Degraded {
		t.Errorf("stats %+v", st)
	}
	remount(0)
	later(s, restTime)
	src.check(t, f, 0, 1<<20)
	calls := src.calls.Load()
	src.check(t, f, 0, 1<<20)
	if src.calls.Load() != calls {
		t.Error("blocks are not kept after the disk can be written to again")
	}
}
