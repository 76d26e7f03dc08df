package vfs

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
)

// fill fills p with what the file number seed has at off. Child processes call
// it too, so that they can compare without a second file.
func fill(p []byte, seed uint64, off int64) {
	var word [8]byte
	for i := 0; i < len(p); {
		at := off + int64(i)
		x := (seed<<40 + uint64(at/8)) * 0x9e3779b97f4a7c15
		x = (x ^ x>>29) * 0xbf58476d1ce4e5b9
		if at%8 == 0 && len(p)-i >= 8 {
			binary.LittleEndian.PutUint64(p[i:], x^x>>32)
			i += 8
			continue
		}
		binary.LittleEndian.PutUint64(word[:], x^x>>32)
		i += copy(p[i:], word[at%8:])
	}
}

// A fakeImage holds a pattern, whose first pinned bytes lie in a file.
type fakeImage struct {
	id, name string
	at       time.Time
	size     int64
	seed     uint64
	file     *os.File
	pinned   int64
	mu       sync.Mutex // guards sidecars
	sidecars map[string]string
	slot     *fakeImage // beside it
	// before is called before each read and pin, if not nil.
	before     func(ctx context.Context, off, n int64) error
	unpinnable bool // what is in the file, too

	parted         atomic.Bool // not whole
	retired        atomic.Bool // Open fails
	opened, closed atomic.Int64
	pins, released atomic.Int64
	copied         atomic.Int64 // reads, not pins
	advised        atomic.Int64 // bytes
}

const shift = 4097 // of the pinned bytes in their file: askew on purpose

// newImage makes an image of size bytes; all but the last tail are in a file.
func newImage(t testing.TB, name string, seed uint64, size, tail int64) *fakeImage {
	img := &fakeImage{
		id: fmt.Sprintf("%032x", seed), name: name, size: size, seed: seed, pinned: size - tail,
		at:       time.Unix(1_700_000_000+int64(seed), 0),
		sidecars: map[string]string{"sha256": fmt.Sprintf("%064x  %s\n", seed, name)},
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "blocks"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	chunk := make([]byte, 1<<20)
	for off := int64(0); off < img.pinned; off += int64(len(chunk)) {
		n := min(int64(len(chunk)), img.pinned-off)
		fill(chunk[:n], seed, off)
		if _, err := f.WriteAt(chunk[:n], off+shift); err != nil {
			t.Fatal(err)
		}
	}
	img.file = f
	return img
}

func (f *fakeImage) ID() string       { return f.id }
func (f *fakeImage) FileName() string { return f.name }
func (f *fakeImage) Time() time.Time  { return f.at }
func (f *fakeImage) Size() int64      { return f.size }

func (f *fakeImage) Whole() bool { return !f.parted.Load() }

func (f *fakeImage) Slot() SnapshotFile {
	if f.slot == nil {
		return nil
	}
	return f.slot
}

func (f *fakeImage) Suffixes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Keys(f.sidecars))
}

// Listed are all but zsync, which stands for a costly sidecar.
func (f *fakeImage) Listed() []string {
	return slices.DeleteFunc(f.Suffixes(), func(suffix string) bool { return suffix == "zsync" })
}

func (f *fakeImage) setSidecars(all map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sidecars = all
}

func (f *fakeImage) Sidecar(suffix string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if text, ok := f.sidecars[suffix]; ok {
		return []byte(text), nil
	}
	return nil, fmt.Errorf("sidecar %s: %w", suffix, fault.NotFound)
}

func (f *fakeImage) Open() (Handle, error) {
	if f.retired.Load() {
		return nil, fmt.Errorf("snapshot %s: %w", f.id, fault.NotFound)
	}
	f.opened.Add(1)
	return fakeHandle{f}, nil
}

type fakeHandle struct{ img *fakeImage }

func (h fakeHandle) Size() int64  { return h.img.size }
func (h fakeHandle) Close() error { h.img.closed.Add(1); return nil }

func (h fakeHandle) ReadAt(p []byte, off int64) (int, error) {
	return h.ReadAtContext(context.Background(), p, off)
}

func (h fakeHandle) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	h.img.copied.Add(1)
	if h.img.before != nil {
		if err := h.img.before(ctx, off, int64(len(p))); err != nil {
			return 0, err
		}
	}
	if off+int64(len(p)) <= h.img.pinned {
		return h.img.file.ReadAt(p, off+shift)
	}
	n := min(int64(len(p)), h.img.size-off)
	fill(p[:n], h.img.seed, off)
	if off+n == h.img.size {
		return int(n), io.EOF // as io.ReaderAt allows
	}
	return int(n), nil
}

// Sources counts all bytes as the base's.
func (h fakeHandle) Sources(_, n int64) (base, volume, bundle int64) { return n, 0, 0 }

func (h fakeHandle) Prefetch(off, n int64) { h.img.advised.Add(n) }

func (h fakeHandle) Pin(ctx context.Context, off, n int64) (*os.File, int64, func(), error) {
	if h.img.before != nil {
		if err := h.img.before(ctx, off, n); err != nil {
			return nil, 0, nil, err
		}
	}
	if off+n > h.img.pinned || h.img.unpinnable {
		return nil, 0, nil, nil
	}
	h.img.pins.Add(1)
	return h.img.file, off + shift, func() { h.img.released.Add(1) }, nil
}

// A fakeTree holds images by name and id.
type fakeTree struct {
	mu      sync.Mutex
	current map[string]*fakeImage
	byID    map[string]*fakeImage
	asked   map[string]int // calls of Current by name
	// wait is called by Current, if not nil, without the lock.
	wait func(ctx context.Context, name string) error
}

func newTree(images ...*fakeImage) *fakeTree {
	t := &fakeTree{current: map[string]*fakeImage{}, byID: map[string]*fakeImage{}, asked: map[string]int{}}
	for _, img := range images {
		t.put(img)
	}
	return t
}

// put makes img the current snapshot of its name.
func (t *fakeTree) put(img *fakeImage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current[img.name], t.byID[img.id] = img, img
}

func (t *fakeTree) retire(img *fakeImage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byID, img.id)
	img.retired.Store(true)
}

func (t *fakeTree) FileNames() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.current))
}

func (t *fakeTree) IDs() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.byID))
}

func (t *fakeTree) Current(ctx context.Context, name string) (SnapshotFile, error) {
	t.mu.Lock()
	t.asked[name]++
	img := t.current[name]
	t.mu.Unlock()
	if t.wait != nil {
		if err := t.wait(ctx, name); err != nil {
			return nil, err
		}
	}
	if img == nil {
		return nil, fmt.Errorf("piece of %s: %w", name, fault.NotFound)
	}
	return img, nil
}

func (t *fakeTree) ByID(id string) (SnapshotFile, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if img := t.byID[id]; img != nil {
		return img, nil
	}
	return nil, fmt.Errorf("snapshot %s: %w", id, fault.NotFound)
}

func (t *fakeTree) timesAsked(name string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.asked[name]
}
