package cache

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// scattered leaves, in dir, the file of a base of which one block in every
// step is there, all zeroes and right.
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

// What a start costs: 32,768 blocks, those of a base of 8 GiB in blocks of
// 256 KiB, and as many runs of data as a file can have of them. The blocks here
// are of 4 KiB, so that the benchmark writes 128 MiB: the file system's map is
// asked by the run, whatever its length.
func BenchmarkStart(b *testing.B) {
	for name, step := range map[string]int{"all of it": 1, "every second block": 2} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			blob := scattered(b, dir, 32768, 4*kib, step)
			for b.Loop() {
				s := openStore(b, Config{Dir: dir, MaxBytes: 16 << 30})
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
