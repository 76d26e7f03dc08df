package cache

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"aesthetic.computer/isofs/fault"
)

// TestMain is, in a child process, a cache at work until the test kills it.
func TestMain(m *testing.M) {
	if dir := os.Getenv("CACHE_TEST_CHILD"); dir != "" {
		child(dir, os.Getenv("CACHE_TEST_EVICTS") != "")
	}
	os.Exit(m.Run())
}

const (
	childSize    = 1 << 20
	childBlock   = 16 * kib
	childReaders = 4
)

// child reads here and there, and prints a line when a fetch begins.
func child(dir string, evicts bool) {
	src := newSource(1, childSize, childBlock)
	src.spoil = func([]byte, int64, int64) error { _, err := os.Stdout.WriteString("\n"); return err }
	c := Config{Dir: dir, MaxBytes: 2 * childSize, Fetches: childReaders}
	if evicts {
		c.MaxBytes = childSize / 2
	}
	s, err := Open(c)
	if err != nil {
		panic(err)
	}
	f, err := s.Blob(src.blob, src)
	if err != nil {
		panic(err)
	}
	for range childReaders {
		go func() {
			for {
				f.ReadAt(make([]byte, 100), rand.Int64N(childSize/childBlock)*childBlock)
			}
		}()
	}
	select {}
}

// killed runs a child in dir until it began to fetch that many blocks, and
// kills it.
func killed(t *testing.T, dir string, evicts bool, fetches int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0]) // killed also if the test fails
	cmd.Env = append(os.Environ(), "CACHE_TEST_CHILD="+dir)
	if evicts {
		cmd.Env = append(cmd.Env, "CACHE_TEST_EVICTS=1")
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for range fetches {
		if _, err := lines.ReadString('\n'); err != nil {
			t.Errorf("the child ended: %v", err)
			break
		}
	}
	cmd.Process.Signal(syscall.SIGKILL)
	cmd.Wait()
}

// left reads every block. It returns how many were on disk, and how many of
// those were wrong. It checks that all reads are right.
func left(t *testing.T, dir string, src *source) (blocks int, wrong uint64) {
	t.Helper()
	s := openCache(t, Config{Dir: dir, MaxBytes: 1 << 30})
	defer s.Close()
	f := openBlob(t, s, src)
	p := make([]byte, src.blob.BlockSize)
	for off := int64(0); off < src.blob.Size; off += src.blob.BlockSize {
		n := min(src.blob.BlockSize, src.blob.Size-off)
		if _, err := f.ReadAt(p[:n], off); err != nil {
			wantKind(t, err, fault.Unavailable)
			continue
		}
		blocks++
		if !bytes.Equal(p[:n], src.data[off:][:n]) {
			t.Fatalf("wrong bytes at %d", off)
		}
	}
	return blocks, s.Stats().CorruptDisk
}

func TestRow15KilledWhileFilling(t *testing.T) {
	src := newSource(1, childSize, childBlock)
	src.spoil = off
	r := rand.New(rand.NewPCG(15, 1))
	for range 50 {
		dir, before := t.TempDir(), 0
		for range 4 {
			fetches := r.IntN(min(16, childSize/childBlock-before+1))
			killed(t, dir, false, fetches)
			has, _ := left(t, dir, src)
			// All are there but those that were under way.
			if has < before+fetches-childReaders {
				t.Errorf("%d blocks are left of %d and %d more", has, before, fetches)
			}
			before = has
		}
	}
}

func TestRow15KilledWhileEvicting(t *testing.T) {
	src := newSource(1, childSize, childBlock)
	src.spoil = off
	r := rand.New(rand.NewPCG(15, 2))
	dir := t.TempDir()
	killed(t, dir, true, childSize/childBlock) // it is full, and evicts from now on
	for range 49 {
		killed(t, dir, true, 1+r.IntN(30))
		if has, _ := left(t, dir, src); has < childSize/childBlock/2-2*childReaders-2 {
			t.Errorf("%d blocks are left", has)
		}
	}
}

// A change is one thing that a Cache did to a file: it wrote data or, without
// data, made a hole.
type change struct {
	off, n int64
	data   []byte
}

// changes returns, in order, what a cache that evicts does to the file of src.
func changes(t *testing.T, src *source, limit int64, reads int) (all []change) {
	t.Helper()
	s := openCache(t, Config{MaxBytes: limit, Fetches: 3})
	defer s.Close()
	var mu sync.Mutex
	note := func(c change) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, c)
	}
	s.disk.calls = calls{
		write: func(f *os.File, p []byte, off int64) error {
			note(change{off, int64(len(p)), bytes.Clone(p)})
			return writeAt(f, p, off)
		},
		punch: func(f *os.File, off, n int64) error {
			note(change{off: off, n: n})
			return punch(f, off, n)
		},
	}
	f := openBlob(t, s, src)
	r := rand.New(rand.NewPCG(16, 1))
	for range reads {
		from := r.Int64N(src.blob.Size)
		src.check(t, f, from, 1+r.Int64N(min(3*src.blob.BlockSize, src.blob.Size-from)))
	}
	s.fetch.pulls.Wait()
	return all
}

// versions returns what the page at off may be on a disk that got the changes:
// nil is a hole.
func versions(all []change, off int64) [][]byte {
	pages := [][]byte{nil}
	for _, c := range all {
		if c.off > off || off >= c.off+c.n {
			continue
		}
		page := make([]byte, pageSize)
		if c.data == nil {
			page = nil
		} else {
			copy(page, c.data[off-c.off:])
		}
		pages = append(pages, page)
	}
	return pages
}

// cutOff writes what a disk has after a power cut: pick says which of its
// versions a page has.
func cutOff(t *testing.T, path string, size int64, all []change, pick func(pages [][]byte) []byte) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for off := int64(0); off < size; off += pageSize {
		if page := pick(versions(all, off)); page != nil {
			if _, err := f.WriteAt(page[:min(pageSize, size-off)], off); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Power is cut after each of the changes that a cache makes. The disk then has
// all changes up to there, or any of them, in any order, page by page. Pages
// may be torn: one part is older than the other. Pages may be allocated and
// never written, and the file may be shorter. Reads are right, with the origin
// and without.
func TestRow16PowerCut(t *testing.T) {
	src := newSource(1, 20*16*kib+1234, 16*kib)
	good := func([]byte, int64, int64) error { return nil }
	all := changes(t, src, 8*16*kib, 24)
	r := rand.New(rand.NewPCG(16, 2))
	whole := func(pages [][]byte) []byte { return pages[len(pages)-1] }
	anyOf := func(pages [][]byte) []byte { return pages[r.IntN(len(pages))] }
	torn := func(pages [][]byte) []byte {
		page := bytes.Clone(anyOf(pages))
		if page == nil || r.IntN(8) > 0 {
			return page
		}
		if other := anyOf(pages); other != nil {
			copy(page[512*r.IntN(8):], other)
		} else {
			clear(page[512*r.IntN(8):])
		}
		return page
	}
	unwritten := func(pages [][]byte) []byte {
		if r.IntN(20) > 0 {
			return whole(pages)
		}
		garbage := make([]byte, pageSize)
		if r.IntN(2) == 0 {
			copy(garbage, src.data[r.IntN(len(src.data)-pageSize):])
		}
		return garbage
	}
	dir, kept, wrong := t.TempDir(), 0, uint64(0)
	path := filepath.Join(dir, name(src.blob.ID))
	for k := range len(all) + 1 {
		for how, pick := range []func([][]byte) []byte{whole, anyOf, torn, unwritten} {
			cutOff(t, path, src.blob.Size, all[:k], pick)
			if how > 0 && r.IntN(3) == 0 {
				os.Truncate(path, r.Int64N(src.blob.Size))
			}
			src.spoil = off
			blocks, bad := left(t, dir, src)
			kept, wrong = kept+blocks, wrong+bad
			src.spoil = good
			s := openCache(t, Config{Dir: dir})
			src.check(t, openBlob(t, s, src), 0, src.blob.Size)
			s.Close()
			if t.Failed() {
				t.Fatalf("after %d changes, in way %d", k, how)
			}
		}
	}
	if kept == 0 || wrong == 0 {
		t.Error("no block was left, or none was wrong: nothing was proved")
	}
	t.Logf("%d changes, %d blocks served without the origin, %d found wrong", len(all), kept, wrong)
}
