package cache

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
)

// scattered leaves, in dir, the file of a base with one block in every step,
// all zeroes and right.
func scattered(t testing.TB, dir string, blocks int, blockSize int64, step int) Blob {
	t.Helper()
	zeroes := make([]byte, blockSize)
	blob := Blob{ID: fmt.Sprintf("%064x", step), Size: int64(blocks) * blockSize, BlockSize: blockSize, Sums: make([][32]byte, blocks)}
	sum := sha256.Sum256(zeroes)
	f, err := os.Create(filepath.Join(dir, name(blob.ID)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(blob.Size); err != nil {
		t.Fatal(err)
	}
	for i := range blocks {
		blob.Sums[i] = sum
		if i%step == 0 {
			if _, err := f.WriteAt(zeroes, int64(i)*blockSize); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	return blob
}

// lookFor limits how many blocks later Caches look for at once.
func lookFor(t testing.TB, blocks int) {
	was := scanStep
	scanStep = blocks
	t.Cleanup(func() { scanStep = was })
}

// A reader finds what was not looked for yet, and in time.
func TestStartLooksForTheRestLater(t *testing.T) {
	const blocks = 600
	dir := t.TempDir()
	src := newSource(1, blocks*4*kib, 4*kib)
	s := openCache(t, Config{Dir: dir})
	src.check(t, openBlob(t, s, src), 0, blocks/2*4*kib)
	s.fetch.pulls.Wait()
	s.Close()
	lookFor(t, 7)
	for name, use := range map[string]func(s *Cache, f *File){
		"read": func(s *Cache, f *File) { src.check(t, f, 200*4*kib, 100*4*kib) },
		"pin": func(s *Cache, f *File) {
			file, at, release, err := f.Pin(t.Context(), 200*4*kib, 100*4*kib)
			if err != nil || file == nil {
				t.Fatal(file, err)
			}
			src.readPinned(t, file, at, 200*4*kib, 100*4*kib)
			release()
		},
		"prefetch": func(s *Cache, f *File) { f.Prefetch(0, blocks/2*4*kib); s.fetch.pulls.Wait() },
		"waited":   func(s *Cache, f *File) { testkit.Eventually(t, "all is known", f.current().disk.scanned.Load) },
		"closed":   func(s *Cache, f *File) { s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			s := openCache(t, Config{Dir: dir})
			if name != "waited" {
				s.stop() // no background work remains
			}
			f := openBlob(t, s, src)
			if used, want := s.Stats().DiskBytes, uint64(onDisk(t, dir)); used < want || used > want+50*kib {
				t.Errorf("%d bytes accounted at the start, %d on disk", used, want)
			}
			src.calls.Store(0)
			use(s, f)
			if n := src.calls.Load(); n != 0 {
				t.Errorf("%d fetches of what is there", n)
			}
		})
	}
	s = openCache(t, Config{Dir: dir, MaxBytes: 100 * 4 * kib}) // too much is there
	f := openBlob(t, s, src)
	if got := onDisk(t, dir); got > 100*4*kib {
		t.Errorf("%d bytes on disk, the limit is %d", got, 100*4*kib)
	}
	src.check(t, f, 0, blocks*4*kib)
	s.fetch.pulls.Wait()
	if s.disk.unscanned != 0 || !f.current().disk.scanned.Load() {
		t.Error("not all was looked for")
	}
}

// What a start costs: 32,768 blocks, as a base of 8 GiB has in blocks of 256
// KiB, and as many runs of data as a file can have of them. Here the blocks are
// of 4 KiB, so that the benchmark writes 128 MiB. The cost of the file system's
// map is per run, whatever its length.
func BenchmarkStart(b *testing.B) {
	for name, step := range map[string]int{"all of it": 1, "every second block": 2} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			blob := scattered(b, dir, 32768, 4*kib, step)
			for b.Loop() {
				s := openCache(b, Config{Dir: dir, MaxBytes: 16 << 30})
				if _, err := s.Blob(blob, nil); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				s.Close()
				b.StartTimer()
			}
		})
	}
}
