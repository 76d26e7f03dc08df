package vfs

import "testing"

// sourced is a handle of an image with a slot from 100 to 200, in which the
// bundle is from 150 to 180.
type sourced struct{ Handle }

func (sourced) Sources(off, n int64) (base, volume, bundle int64) {
	within := func(from, to int64) int64 { return max(0, min(off+n, to)-max(off, from)) }
	bundle = within(150, 180)
	return n - within(100, 200), within(100, 200) - bundle, bundle
}

func TestCounts(t *testing.T) {
	var b bytesRead
	var h Handle = sourced{}
	b.add(h, 0, 100)
	b.add(h, 90, 70)
	b.add(h, 190, 60)
	if got, want := b.load(), (ReadBytes{Base: 160, Volume: 60, Bundle: 10}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if n := testing.AllocsPerRun(100, func() { b.add(h, 90, 70) }); n > 0 {
		t.Errorf("counting allocates %v times", n)
	}
}

func BenchmarkCount(b *testing.B) {
	var read bytesRead
	var h Handle = sourced{}
	for b.Loop() {
		read.add(h, 90, 70)
	}
}
