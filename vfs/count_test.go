package vfs

import "testing"

// sourced is a handle of an image with a slot from 100 to 200, in which the
// bundle is from 150 to 180.
type sourced struct{}

func (sourced) Sources(off, n int64) (base, volume, bundle int64) {
	within := func(from, to int64) int64 { return max(0, min(off+n, to)-max(off, from)) }
	bundle = within(150, 180)
	return n - within(100, 200), within(100, 200) - bundle, bundle
}

func TestCounts(t *testing.T) {
	var b bytesRead
	b.add(nil, 0, 10)
	b.add(sourced{}, 0, 100)
	b.add(sourced{}, 90, 70)
	b.add(sourced{}, 190, 60)
	if got, want := b.load(), (ReadBytes{Base: 160, Volume: 60, Bundle: 10}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if n := testing.AllocsPerRun(100, func() { b.add(sourced{}, 90, 70) }); n > 0 {
		t.Errorf("counting allocates %v times", n)
	}
}

func BenchmarkCount(b *testing.B) {
	var read bytesRead
	for b.Loop() {
		read.add(sourced{}, 90, 70)
	}
}
