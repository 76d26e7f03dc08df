package extent

import (
	"context"
	"fmt"
	"testing"
)

// sixExtents has the form of an image: base, volume metadata, zeroes, volume
// metadata, bundle, base.
func sixExtents() *Map {
	base := Bytes(make([]byte, 16<<20))
	volume := Concat(Bytes(make([]byte, 20480)), Zeroes(31*4096), Bytes(make([]byte, 20480)), Bytes(make([]byte, 3<<20)))
	return Concat(Section(base, 0, 12<<20), volume, Section(base, 12<<20, 33*512))
}

func TestReadsDoNotAllocate(t *testing.T) {
	m := sixExtents()
	p := make([]byte, 4<<20)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for name, read := range map[string]func() (int, error){
		"ReadAt over six extents":        func() (int, error) { return m.ReadAt(p, 11<<20) },
		"ReadAtContext over six extents": func() (int, error) { return m.ReadAtContext(ctx, p, 11<<20) },
		"ReadAt of one block":            func() (int, error) { return m.ReadAt(p[:4096], 1<<20) },
		"ReadAt over the end":            func() (int, error) { return m.ReadAt(p, m.Size()-4096) },
	} {
		if n := testing.AllocsPerRun(100, func() { read() }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkReadAt(b *testing.B) {
	m := sixExtents()
	for _, size := range []int64{4 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			p := make([]byte, size)
			b.SetBytes(size)
			b.ReportAllocs()
			var off int64
			for b.Loop() {
				if _, err := m.ReadAt(p, off); err != nil {
					b.Fatal(err)
				}
				off = (off + size) % (m.Size() - size)
			}
		})
	}
}

func BenchmarkReadZeroes(b *testing.B) {
	m := Concat(Zeroes(1 << 40))
	p := make([]byte, 1<<20)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.ReadAt(p, 1<<30); err != nil {
			b.Fatal(err)
		}
	}
}
