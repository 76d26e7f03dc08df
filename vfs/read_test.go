package vfs

import (
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/hanwen/go-fuse/v2/splice"
)

const (
	bigBytes = 6<<20 + 4321 // several largest reads, and not a whole number of pages
	bigTail  = 2<<20 + 99   // not in the file; the border is askew
)

func TestReadWhole(t *testing.T) {
	want := make([]byte, bigBytes)
	fill(want, 1, 0)
	eachProfile(t, func(t *testing.T, profile func(*Config)) {
		img := newImage(t, "notepat-os.iso", 1, bigBytes, bigTail)
		m := mountTree(t, newTree(img), profile)
		path := m.path("notepat-os.iso")
		for _, command := range [][]string{
			{"cat", path},
			{"dd", "if=" + path, "bs=1M", "status=none"},
			{"dd", "if=" + path, "bs=1040384", "status=none"}, // SpliceSize by default
			{"dd", "if=" + path, "bs=1000003", "status=none"},
			{"dd", "if=" + path, "bs=10007", "status=none"},
			{"dd", "if=" + path, "bs=1M", "iflag=direct", "status=none"},
			{"dd", "if=" + path, "bs=16k", "iflag=direct", "status=none"},
		} {
			out := runOut(t, command[0], command[1:]...)
			if out != string(want) {
				t.Errorf("%q: %d bytes of %d, or wrong ones", command, len(out), bigBytes)
			}
		}
		runChild(t, "sendfile", path, 1, bigBytes)
		if !strings.Contains(m.log.String(), "mounted") || strings.Contains(m.log.String(), "go-fuse") {
			t.Errorf("log: %s", m.log)
		}
		if img.pins.Load() == 0 || img.copied.Load() == 0 {
			t.Errorf("%d pins, %d copies: both ways were to be taken", img.pins.Load(), img.copied.Load())
		}
		m.stop(t, img)
	})
}

func TestReadMapped(t *testing.T) {
	img := newImage(t, "notepat-os.iso", 1, bigBytes, bigTail)
	m := mountTree(t, newTree(img), withProfile(PageCache))
	runChild(t, "mmap", m.path("notepat-os.iso"), 1, bigBytes)
	m.stop(t, img)
}

func TestReadAtRandom(t *testing.T) {
	eachProfile(t, func(t *testing.T, profile func(*Config)) {
		img := newImage(t, "notepat-os.iso", 1, bigBytes, bigTail)
		m := mountTree(t, newTree(img), profile)
		var all sync.WaitGroup
		for range 16 {
			cmd := child(t, "pread", m.path("notepat-os.iso"), 1, bigBytes, img.pinned, 100)
			all.Go(func() {
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("reader: %v: %s", err, out)
				}
			})
		}
		all.Wait()
		m.stop(t, img)
	})
}

func TestReadAtEnd(t *testing.T) {
	eachProfile(t, func(t *testing.T, profile func(*Config)) {
		for _, size := range []int64{0, 1, 4096, 100_001} {
			img := newImage(t, "notepat-os.iso", 1, size, 0)
			m := mountTree(t, newTree(img), profile)
			for _, skip := range []int64{0, size - 1, size, size + 1, size + 1<<20} {
				if skip < 0 {
					continue
				}
				out := runOut(t, "dd", "if="+m.path("notepat-os.iso"), "bs=1M", "iflag=skip_bytes",
					fmt.Sprint("skip=", skip), "status=none")
				if int64(len(out)) != max(0, size-skip) {
					t.Errorf("size %d: %d bytes from %d on", size, len(out), skip)
				}
				if err := differs([]byte(out), 1, skip); err != nil {
					t.Error(err)
				}
			}
			m.stop(t, img)
		}
	})
}

// When the cache file is shorter than promised, the read fails; it is not shorter.
// go-fuse by itself would make it so, which is why splicer exists.
func TestReadOfTornFile(t *testing.T) {
	eachProfile(t, func(t *testing.T, profile func(*Config)) {
		img := newImage(t, "notepat-os.iso", 1, bigBytes, 0)
		if err := img.file.Truncate(shift + 1<<20 + 300_000); err != nil {
			t.Fatal(err)
		}
		m := mountTree(t, newTree(img), profile)
		path := m.path("notepat-os.iso")
		for _, size := range []int{1 << 20, 1 << 19, 100_000, 1000} {
			cmd := program(t, "dd", "if="+path, fmt.Sprint("bs=", size), "status=none")
			var says strings.Builder
			cmd.Stderr = &says
			out, err := cmd.Output()
			if err == nil || !strings.Contains(says.String(), "Input/output error") || len(out) < 1<<20-size {
				t.Errorf("reads of %d: %v, %d bytes: %s", size, err, len(out), says.String())
			}
			if err := differs(out, 1, 0); err != nil {
				t.Error(err)
			}
			// The page cache gives the pages that it has; a direct read is all or
			// nothing.
			if m.server.core.flags&fuse.FOPEN_DIRECT_IO != 0 && len(out)%size != 0 {
				t.Errorf("reads of %d: a short one: %d bytes came", size, len(out))
			}
		}
		if log := m.log.String(); !strings.Contains(log, "cannot read an image") || !strings.Contains(log, img.id) {
			t.Errorf("log: %s", log)
		}
		m.stop(t, img)
	})
}

// Bytes is go-fuse's way out when splicing fails: the same bytes, or an error.
func TestSplicedBytes(t *testing.T) {
	img := newImage(t, "notepat-os.iso", 1, 1<<20, 0)
	const n = 200_000
	released, failed := 0, 0
	load := func() *spliced {
		r := newSplicer(slog.New(slog.DiscardHandler)).load(img.file, shift, n, func() { released++ })
		if r == nil {
			t.Fatal("not spliced")
		}
		r.fail = func(error) { failed++ }
		return r
	}
	used := splice.Used()
	r := load()
	r.pair.Read(make([]byte, 100)) // half empty
	buf, status := r.Bytes(make([]byte, 1<<20))
	if status != fuse.OK || len(buf) != n || differs(buf, 1, 0) != nil {
		t.Errorf("%v, %d bytes", status, len(buf))
	}
	r.Done()
	r = load()
	if err := img.file.Truncate(shift + n - 1); err != nil {
		t.Fatal(err)
	}
	if buf, status := r.Bytes(make([]byte, 1<<20)); status != fuse.EIO || len(buf) != 0 || failed != 1 {
		t.Errorf("of a torn file: %v, %d bytes, %d failures told", status, len(buf), failed)
	}
	r.Done()
	if released != 2 || splice.Used() != used {
		t.Errorf("%d of 2 released, %d pipes left", released, splice.Used()-used)
	}
	if newSplicer(slog.New(slog.DiscardHandler)).load(img.file, shift, n, func() { released++ }) != nil || released != 2 || splice.Used() != used {
		t.Errorf("a torn file was spliced, or released, or a pipe is left")
	}
}

// The answers that are spliced at a time are bounded, for an unprivileged user has few
// pipes.
func TestSplicesAtOnce(t *testing.T) {
	img := newImage(t, "notepat-os.iso", 1, 1<<20, 0)
	s := newSplicer(slog.New(slog.DiscardHandler))
	var held []*spliced
	for range splicesAtOnce {
		held = append(held, s.load(img.file, shift, 70_000, func() {}))
	}
	if s.load(img.file, shift, 70_000, func() {}) != nil {
		t.Error("one too many")
	}
	for _, r := range held {
		r.Done()
	}
	if r := s.load(img.file, shift, 70_000, func() {}); r == nil {
		t.Error("none any more")
	} else {
		r.Done()
	}
}

// What fits goes through go-fuse's pipe in one piece, at any place on a page: that
// pipe asks for header, bytes and a page, rounded up by the kernel.
func TestSpliceFits(t *testing.T) {
	s := newSplicer(slog.New(slog.DiscardHandler))
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(2 << 20); err != nil {
		t.Fatal(err)
	}
	fitting, refused := 0, 0
	for _, pages := range []int{1, 2, 13, 14, 15, 16, 29, 30, 31, 61, 62, 63, 125, 126, 127, 253, 254, 255, 256} {
		for _, odd := range []int{-1, 0, 1, 2} {
			for _, at := range []int64{0, 1, 2, 4095} {
				n := pages*4096 + odd
				if !s.fits(at, n) {
					refused++
					continue
				}
				fitting++
				if err := spliceLikeGoFuse(file, at, n); err != nil {
					t.Errorf("%d pages%+d at %d: %v", pages, odd, at, err)
				}
			}
		}
	}
	if fitting < 100 || refused == 0 {
		t.Errorf("%d fit, %d do not", fitting, refused)
	}
	if n := SpliceSize(); !s.fits(0, n) || n < maxRead && s.fits(0, n+s.page) || bits.OnesCount(preferredRead) != 1 || preferredRead > n {
		t.Errorf("SpliceSize is %d", n)
	}
}

func spliceLikeGoFuse(file *os.File, at int64, n int) error {
	splice.ClearSplicePool() // pipes that were large before
	pair, err := splice.Get()
	if err != nil {
		return err
	}
	defer splice.Done(pair)
	if err := pair.Grow(answerHeader + n + os.Getpagesize()); err != nil {
		return err
	}
	if _, err := pair.Writev([][]byte{make([]byte, answerHeader)}); err != nil {
		return err
	}
	got, err := pair.LoadFromAt(file.Fd(), n, at)
	if err != nil || got != n {
		return fmt.Errorf("got %d of %d: %w", got, n, err)
	}
	return nil
}
