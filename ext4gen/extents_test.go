package ext4gen

import (
	"bytes"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"

	"aesthetic.computer/isofs/extent"
)

// wantSound checks the map of a volume. It must be ascending, without gaps, and
// of the right size. Each file's data must be in it, whole and once, between
// zeroes and a little metadata.
func wantSound(t *testing.T, o Options, files []File, m *extent.Map) {
	t.Helper()
	var end, metadata int64
	next := 0
	for _, e := range m.Extents(0, m.Size()) {
		if e.Off != end || e.Len <= 0 {
			t.Fatalf("extent %+v follows the offset %d", e, end)
		}
		end += e.Len
		for next < len(files) && files[next].Source.Size() == 0 {
			next++
		}
		switch {
		case e.Source == nil:
		case e.Off < firstDataBlock*BlockSize:
			metadata += e.Len
		case next == len(files):
			t.Fatalf("extent %+v comes after the last file", e)
		default:
			if e.Off%BlockSize != 0 || e.SourceOff != 0 || e.Len != files[next].Source.Size() {
				t.Fatalf("extent %+v is not the whole of %q", e, files[next].Name)
			}
			next++
		}
	}
	if m.Size() != o.Size || end != o.Size {
		t.Fatalf("the map has %d bytes, its extents end at %d, want %d", m.Size(), end, o.Size)
	}
	if limit := int64(64 << 10); len(files) < 64 && metadata > limit {
		t.Fatalf("%d bytes of metadata, more than %d", metadata, limit)
	}
}

func TestExtentsOfAVolume(t *testing.T) {
	files := pieceFiles()
	m := mustBuild(t, slot(), files...)
	wantSound(t, slot(), files, m)
	type run struct {
		off, n int64
		file   int // index, or -1 for metadata, -2 for zeroes
	}
	want := []run{
		{0, 5 * BlockSize, -1}, // superblock to the first block of inodes
		{5 * BlockSize, 31 * BlockSize, -2},
		{36 * BlockSize, 5 * BlockSize, -1}, // directories
		{41 * BlockSize, 3_000_001, 0},
		{41*BlockSize + 3_000_001, 733*BlockSize - 3_000_001, -2},
		{774 * BlockSize, 412, 1},
		{774*BlockSize + 412, BlockSize - 412, -2},
		{775 * BlockSize, 2 * BlockSize, 2},
		{777 * BlockSize, 70_000, 4},
		{777*BlockSize + 70_000, slotSize - 777*BlockSize - 70_000, -2},
	}
	got := m.Extents(0, m.Size())
	if len(got) != len(want) {
		t.Fatalf("%d extents, want %d: %+v", len(got), len(want), got)
	}
	for i, e := range got {
		w := want[i]
		ok := e.Off == w.off && e.Len == w.n && (e.Source == nil) == (w.file == -2)
		if w.file >= 0 {
			ok = ok && e.Source == files[w.file].Source && e.SourceOff == 0
		}
		if !ok {
			t.Errorf("extent %d is %+v, want %+v", i, e, w)
		}
	}
}

func TestMapReadsAsTheFlatImage(t *testing.T) {
	m := mustBuild(t, slot(), pieceFiles()...)
	flat, err := os.ReadFile(save(t, m))
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(6, 6))
	for range 2000 {
		off := r.IntN(len(flat))
		p := make([]byte, r.IntN(min(len(flat)-off, 100_000))+1)
		if n, err := m.ReadAt(p, int64(off)); n != len(p) || err != nil || !bytes.Equal(p, flat[off:off+n]) {
			t.Fatalf("other bytes: %d at %d, %v", len(p), off, err)
		}
	}
}

func TestBuildAllocatesLittle(t *testing.T) {
	for _, files := range [][]File{pieceFiles()[:1], pieceFiles()[:4]} {
		const runs = 200
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			mustBuild(t, slot(), files...)
		}
		runtime.ReadMemStats(&after)
		if n := (after.TotalAlloc - before.TotalAlloc) / runs; n >= 64<<10 {
			t.Errorf("%d bytes allocated for a volume of %d files", n, len(files))
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	for name, files := range map[string][]File{"1-file": pieceFiles()[:1], "4-files": pieceFiles()[:4], "336-files": append(named(335, 3), hollow("twelve bytes", 1))} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mustBuild(b, slot(), files...)
			}
		})
	}
}
