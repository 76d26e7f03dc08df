package cache

import (
	"fmt"
	"testing"
)

// The read path of blocks that are present.
func BenchmarkPresent(b *testing.B) {
	src := newSource(1, 64<<20, 256*kib)
	f := openBlob(b, openStore(b, Config{Dir: b.TempDir()}), src)
	src.check(b, f, 0, 64<<20)
	for _, n := range []int64{4 * kib, 1 << 20} {
		b.Run(fmt.Sprintf("ReadAt/%dKiB", n/kib), func(b *testing.B) {
			b.SetBytes(n)
			b.ReportAllocs()
			p := make([]byte, n)
			for i := 0; b.Loop(); i++ {
				if _, err := f.ReadAt(p, int64(i)*n%(63<<20)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("Pin/%dKiB", n/kib), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				file, _, release, err := f.Pin(b.Context(), int64(i)*n%(63<<20), n)
				if file == nil || err != nil {
					b.Fatal(err)
				}
				release()
			}
		})
	}
	b.Run("Pin/1024KiB/parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for i := int64(0); pb.Next(); i++ {
				_, _, release, err := f.Pin(b.Context(), i<<20%(63<<20), 1<<20)
				if err != nil {
					b.Fatal(err)
				}
				release()
			}
		})
	})
}

// Blocks that are fetched, compared and kept in a cache that is full: the
// origin costs a copy.
func BenchmarkMissing(b *testing.B) {
	src := newSource(1, 64<<20, 256*kib)
	f := openBlob(b, openStore(b, Config{Dir: b.TempDir(), MaxBytes: 16 << 20}), src)
	p := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	for i := int64(0); b.Loop(); i++ {
		if _, err := f.ReadAt(p, i<<20%(64<<20)); err != nil {
			b.Fatal(err)
		}
		src.ranges = src.ranges[:0]
	}
}
