package vfs

import (
	"math/rand/v2"
	"testing"
)

const mib = 1 << 20

// readAll notes reads of size bytes each over [from, to). It returns how often
// streams requested read-ahead, and up to where. A repeated request, or one
// behind the reader or too far before it, is an error.
func readAll(t *testing.T, s *streams, from, to, size int64) (calls int, end int64) {
	t.Helper()
	end = from
	for off := from; off < to; off += size {
		at, n := s.note(off, size)
		if n == 0 {
			continue
		}
		calls++
		if at < end || at < off+size || at+n > off+size+mostAhead || n < leastAdvice {
			t.Fatalf("a read at %d: %d bytes at %d, after all up to %d was asked for", off, n, at, end)
		}
		end = at + n
	}
	return calls, end
}

func TestStreamBegins(t *testing.T) {
	var elsewhere [][2]int64
	for i := range int64(mostStreams) {
		elsewhere = append(elsewhere, [2]int64{(i + 1) * 100 * mib, 4096})
	}
	for _, c := range []struct {
		name  string
		reads [][2]int64
		at    int64 // start of the read-ahead after the last read; 0: none
	}{
		{"at the file's first byte", [][2]int64{{0, 4096}}, 4096},
		{"not with one read elsewhere", [][2]int64{{mib, mib}}, 0},
		{"with the second", [][2]int64{{mib, 4096}, {mib + 4096, 4096}}, mib + 8192},
		{"also when it leaves some out", [][2]int64{{mib, 4096}, {2*mib + 4096, 4096}}, 2*mib + 8192},
		{"not when it leaves out more", [][2]int64{{mib, 4096}, {2*mib + 4097, 4096}}, 0},
		{"not with the same again", [][2]int64{{mib, 4096}, {mib, 4096}}, 0},
		{"nor with what is before", [][2]int64{{mib, 4096}, {mib - 4096, 4096}}, 0},
		{"with what overlaps", [][2]int64{{mib, mib}, {2*mib - repeated, mib}}, 3*mib - repeated},
		{"after other places", [][2]int64{{mib, 4096}, {9 * mib, 4096}, {mib + 4096, 4096}}, mib + 8192},
		{"not after too many", append(append([][2]int64{{mib, 4096}}, elsewhere...), [2]int64{mib + 4096, 4096}), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s streams
			var at, n int64
			for _, r := range c.reads {
				at, n = s.note(r[0], r[1])
			}
			if at != c.at || (n > 0) != (at > 0) {
				t.Errorf("%d bytes at %d were asked for, want some at %d", n, at, c.at)
			}
		})
	}
}

func TestStreamGrows(t *testing.T) {
	for _, size := range []int64{4096, 128 << 10, 1000_003, mib} {
		var s streams
		calls, end := readAll(t, &s, 0, 2*mib, size)
		if end > 5*mib {
			t.Errorf("reads of %d: %d bytes ahead of 2 MiB that were read", size, end-2*mib)
		}
		more, end := readAll(t, &s, (2*mib+size-1)/size*size, 64*mib, size)
		if calls += more; end < 64*mib+mostAhead-mostAdvice || calls > 64*4 {
			t.Errorf("reads of %d: after 64 MiB all up to %d was asked for, in %d calls", size, end, calls)
		}
	}
}

func TestStreamsSideBySide(t *testing.T) {
	var s streams
	for off := int64(0); off < 32*mib; off += mib {
		a, _ := s.note(off, mib)
		b, _ := s.note(500*mib+off, mib)
		if off > 8*mib && (a == 0 || b == 0) {
			t.Fatalf("at %d: one of two was lost", off)
		}
	}
}

// Threads that read for one client begin in almost the order of the file.
func TestStreamOutOfOrder(t *testing.T) {
	var s streams
	var asked int64
	for off := int64(0); off < 64*mib; off += 512 << 10 {
		for _, part := range []int64{128 << 10, 0, 384 << 10, 256 << 10} {
			if _, n := s.note(off+part, 128<<10); n > 0 {
				asked += n
			}
		}
	}
	if most := int64(64*mib + mostAhead); asked < most-2*mib || asked > most+mib {
		t.Errorf("%d MiB were asked for", asked/mib)
	}
}

func TestRandomReadsAreNoStream(t *testing.T) {
	var s streams
	r := rand.New(rand.NewPCG(1, 1))
	calls := 0
	for range 10_000 {
		if _, n := s.note(1+r.Int64N(3<<30), 1+r.Int64N(mib)); n > 0 {
			calls++
		}
	}
	if calls > 100 { // in a hundred reads one may begin where one of sixteen others ended
		t.Errorf("%d times something was read ahead", calls)
	}
}

func TestOpenFileIsReadAhead(t *testing.T) {
	eachProfile(t, func(t *testing.T, profile func(*Config)) {
		img := newImage(t, "notepat-os.iso", 1, bigBytes, bigTail)
		m := mountTree(t, newTree(img), profile)
		runOut(t, "dd", "if="+m.path("notepat-os.iso"), "bs=128k", "status=none")
		if n := img.advised.Load(); n < 3*mib || n > 2*bigBytes {
			t.Errorf("%d bytes were asked for, of a file of %d", n, bigBytes)
		}
		m.stop(t, img)
	})
}

func BenchmarkStreamNote(b *testing.B) {
	var s streams
	for i := int64(0); b.Loop(); i++ {
		s.note(i<<17, 1<<17)
	}
}
