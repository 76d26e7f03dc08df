package cache

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

// scrubAll does a pass and returns how many bytes it read.
func scrubAll(s *Cache) (bytes int64) {
	p := s.disk.newPass()
	for n := p.step(); n > 0; n = p.step() {
		bytes += n
	}
	return bytes
}

// deface writes into the file of a base, past the Cache.
func deface(t *testing.T, s *Cache, src *source, off int64) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.dir, name(src.blob.ID)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{src.data[off] ^ 1}, off); err != nil {
		t.Fatal(err)
	}
}

func TestScrub(t *testing.T) {
	const size = 1<<20 + 777
	log := &record{}
	src, other := newSource(1, size, 64*kib), newSource(2, 300_001, 4*kib)
	s := openCache(t, Config{Log: log.logger()})
	f, g := openBlob(t, s, src), openBlob(t, s, other)
	if n := scrubAll(s); n != 0 {
		t.Errorf("%d bytes of an empty cache", n)
	}
	src.check(t, f, 0, size)
	other.check(t, g, 0, 100_000) // a part
	want := int64(size + 25*4*kib)
	if n := scrubAll(s); n != want || s.Stats().ScrubbedBytes != uint64(want) || s.Stats().ScrubWrong != 0 {
		t.Errorf("%d bytes, want %d; stats %+v", n, want, s.Stats())
	}
	deface(t, s, src, 200*kib)
	deface(t, s, src, size-1)
	deface(t, s, other, 17)
	src.calls.Store(0)
	other.calls.Store(0)
	scrubAll(s)
	if st := s.Stats(); st.ScrubWrong != 3 || log.count("wrong on disk") != 3 {
		t.Errorf("%d found wrong, and logged %d times", st.ScrubWrong, log.count("wrong on disk"))
	}
	if st := s.Stats(); st.DiskBytes > uint64(want) || st.CorruptDisk != 0 {
		t.Errorf("stats %+v", st)
	}
	src.check(t, f, 0, size)
	other.check(t, g, 0, 100_000)
	if src.calls.Load() != 2 || other.calls.Load() != 1 {
		t.Errorf("%d and %d fetches", src.calls.Load(), other.calls.Load())
	}
	scrubAll(s)
	if n := s.Stats().ScrubWrong; n != 3 {
		t.Errorf("%d found wrong after they were fetched again", n)
	}
	if s.index.pinned != 0 {
		t.Errorf("%d pins are left", s.index.pinned)
	}
}

// A wrong block that is pinned does not become a hole. It is compared before
// the next reader gets it.
func TestScrubOfPinnedBlock(t *testing.T) {
	src := newSource(1, 1<<20, 64*kib)
	s := openCache(t, Config{})
	f := openBlob(t, s, src)
	file, at, release, err := f.Pin(t.Context(), 64*kib, 64*kib)
	if err != nil || file == nil {
		t.Fatal(file, err)
	}
	deface(t, s, src, 64*kib+5)
	scrubAll(s)
	p := make([]byte, 64*kib)
	if _, err := file.ReadAt(p, at); err != nil || bytes.Equal(p[4096:], make([]byte, 60*kib)) {
		t.Error("a pinned block became a hole")
	}
	src.calls.Store(0)
	src.check(t, f, 64*kib, 64*kib) // compared, found wrong, written over
	if st := s.Stats(); st.CorruptDisk != 1 || src.calls.Load() != 1 {
		t.Errorf("%d fetches, stats %+v", src.calls.Load(), st)
	}
	src.readPinned(t, file, at, 64*kib, 64*kib)
	release()
	src.check(t, f, 0, 1<<20)
}

// The scrubber does not count as a use of the blocks.
func TestScrubIsNoUse(t *testing.T) {
	src := newSource(1, 1<<20, 64*kib)
	f := openBlob(t, openCache(t, Config{MaxBytes: 3 * 64 * kib}), src)
	for _, i := range []int64{0, 1, 2} {
		src.check(t, f, i*64*kib, 10)
	}
	p := f.supply.disk.newPass()
	p.step() // block 0
	src.check(t, f, 3*64*kib, 10)
	src.calls.Store(0)
	src.check(t, f, 64*kib, 3*64*kib)
	if n := src.calls.Load(); n != 0 {
		t.Errorf("%d fetches: not the oldest block made room", n)
	}
}

// The rate, the pause before a pass, and that readers come first, on the test's
// own clock.
func TestScrubLoop(t *testing.T) {
	dir := t.TempDir()
	src := newSource(1, 1<<20, 64*kib)
	s := openCache(t, Config{Dir: dir})
	src.check(t, openBlob(t, s, src), 0, 512*kib)
	s.Close()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s := openCache(t, Config{Dir: dir, ScrubRate: 64 * kib}) // a block a second
		f := openBlob(t, s, src)
		scrubbed := func(after time.Duration, blocks uint64) {
			t.Helper()
			time.Sleep(time.Until(began.Add(after - time.Millisecond)))
			synctest.Wait()
			if n := s.Stats().ScrubbedBytes / (64 * kib); n != blocks {
				t.Errorf("%d blocks scrubbed after %s, want %d", n, after, blocks)
			}
		}
		scrubbed(time.Hour, 0)
		scrubbed(time.Hour+4*time.Second, 4)
		gate := make(chan struct{})
		src.spoil = func([]byte, int64, int64) error { <-gate; return nil }
		go func() {
			if _, err := f.ReadAt(make([]byte, 10), 512*kib); err != nil {
				t.Error(err)
			}
		}()
		scrubbed(time.Hour+30*time.Minute, 4)
		close(gate)
		scrubbed(2*time.Hour, 9) // and the one that the reader waited for
		s.Close()
	})
}

// onLoop mounts an ext4 file system that is in a file. It returns its directory
// and that file, the disk that the test controls.
func onLoop(t *testing.T, size int64) (dir, backing string) {
	t.Helper()
	dir, backing = t.TempDir(), filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(backing, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(backing, size); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{
		{"mkfs.ext4", "-q", "-O", "^has_journal,^metadata_csum", "-E", "lazy_itable_init=0", backing},
		{"mount", "-o", "loop,errors=continue", backing, dir},
	} {
		if out, err := exec.CommandContext(t.Context(), c[0], c[1:]...).CombinedOutput(); err != nil {
			testkit.Lack(t, fmt.Sprintf("root, mkfs.ext4 and loop devices: %v: %v\n%s", c, err, out))
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir, backing
}

// The disk lost what the page cache still has: the scrubber notices it, readers
// do not.
func TestScrubReadsTheDisk(t *testing.T) {
	dir, backing := onLoop(t, 32<<20)
	src := newSource(1, 4<<20, 256*kib)
	s := openCache(t, Config{Dir: dir})
	f := openBlob(t, s, src)
	src.check(t, f, 0, 4<<20)
	scrubAll(s) // writes back what is dirty
	if n := s.Stats().ScrubWrong; n != 0 {
		t.Fatalf("%d found wrong", n)
	}
	disk, err := os.OpenFile(backing, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	all, err := io.ReadAll(disk)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(all, src.data[1<<20:][:4096])
	if at < 0 {
		t.Fatal("the block is not on the disk")
	}
	if _, err := disk.WriteAt([]byte("rot"), int64(at)); err != nil {
		t.Fatal(err)
	}
	src.check(t, f, 0, 4<<20) // from the page cache
	src.calls.Store(0)
	scrubAll(s)
	if n := s.Stats().ScrubWrong; n != 1 {
		t.Errorf("%d found wrong", n)
	}
	src.check(t, f, 0, 4<<20)
	if n := src.calls.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

// The disk answers EIO: unreadable blocks are fetched, the others are served.
func TestRow13DiskAnswersEIO(t *testing.T) {
	dir, backing := onLoop(t, 64<<20)
	src := newSource(1, 32<<20, 256*kib)
	s := openCache(t, Config{Dir: dir})
	f := openBlob(t, s, src)
	src.check(t, f, 0, 32<<20)
	file := f.current().file.Load()
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	drop := func() {
		if err := unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			t.Fatal(err)
		}
	}
	drop()
	if err := os.Truncate(backing, 24<<20); err != nil {
		t.Fatal(err)
	}
	lost, p := 0, make([]byte, 4096)
	for off := int64(0); off < 32<<20; off += 256 * kib {
		if _, err := file.ReadAt(p, off); err != nil {
			lost++
		}
	}
	if lost == 0 || lost == 128 {
		t.Fatalf("%d blocks cannot be read: nothing would be proved", lost)
	}
	drop()
	src.calls.Store(0)
	for off := int64(0); off < 32<<20; off += 256 * kib {
		src.check(t, f, off, 256*kib)
	}
	if n := src.calls.Load(); n < int64(lost) || n > int64(lost)+2 {
		t.Errorf("%d fetches for %d blocks that cannot be read", n, lost)
	}
	if st := s.Stats(); st.CorruptDisk < uint64(lost) {
		t.Errorf("stats %+v", st)
	}
	src.spoil = off
	served := 0
	for off := int64(0); off < 32<<20; off += 256 * kib {
		drop()
		p := make([]byte, 256*kib)
		if _, err := f.ReadAt(p, off); err != nil {
			wantKind(t, err, fault.Unavailable)
		} else if served++; !bytes.Equal(p, src.data[off:][:len(p)]) {
			t.Fatalf("wrong bytes at %d", off)
		}
	}
	if served < 128-lost-2 {
		t.Errorf("%d blocks served of %d that can be read", served, 128-lost)
	}
	src.spoil = nil
	src.check(t, f, 0, 32<<20)
}
