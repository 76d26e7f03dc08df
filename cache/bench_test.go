package cache

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// The read path of blocks that are present.
func BenchmarkPresent(b *testing.B) {
	src := newSource(1, 64<<20, 256*kib)
	f := openBlob(b, openCache(b, Config{Dir: b.TempDir()}), src)
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

// Blocks are fetched, compared and kept in a full cache. The origin costs a
// copy.
func BenchmarkMissing(b *testing.B) {
	src := newSource(1, 64<<20, 256*kib)
	f := openBlob(b, openCache(b, Config{Dir: b.TempDir(), MaxBytes: 16 << 20}), src)
	p := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	for i := int64(0); b.Loop(); i++ {
		if _, err := f.ReadAt(p, i<<20%(64<<20)); err != nil {
			b.Fatal(err)
		}
		src.ranges = src.ranges[:0]
	}
}

// A distant source answers after a delay, and with so many bytes a second on
// each connection.
type distant struct {
	*source
	latency time.Duration
	rate    int64
}

func (d distant) FetchStream(ctx context.Context, p []byte, off int64, got func(n int)) error {
	begin := time.Now().Add(d.latency)
	copy(p, d.data[off:])
	for n := 0; n < len(p); {
		n = min(n+128*kib, len(p))
		time.Sleep(time.Until(begin.Add(time.Duration(n) * time.Second / time.Duration(d.rate))))
		got(n)
	}
	return nil
}

func (d distant) Fetch(ctx context.Context, p []byte, off int64) error {
	return d.FetchStream(ctx, p, off, func(int) {})
}

// One reader of a base that is not in the cache, 20 ms and 25 MB/s away: how
// much of the allowed connections it uses.
func BenchmarkCold(b *testing.B) {
	const size, read = 64 << 20, 1 << 20
	src := newSource(1, size, 256*kib)
	for _, fetches := range []int{4, 8, 16} {
		for _, window := range []int64{0, 16 << 20} {
			b.Run(fmt.Sprintf("%d connections/%d MiB ahead", fetches, window>>20), func(b *testing.B) {
				b.SetBytes(size)
				p := make([]byte, read)
				for b.Loop() {
					s := openCache(b, Config{Dir: b.TempDir(), Fetches: fetches})
					f, err := s.Blob(src.blob, distant{src, 20 * time.Millisecond, 25e6})
					if err != nil {
						b.Fatal(err)
					}
					asked := int64(0)
					for off := int64(0); off < size; off += read {
						end := off + read
						if _, err := f.ReadAt(p, off); err != nil {
							b.Fatal(err)
						}
						to := min(size, end+min(2*end, window))
						f.Prefetch(max(asked, end), to-max(asked, end))
						asked = to
					}
					s.Close()
				}
			})
		}
	}
}
