package base

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
)

// zsyncmake runs zsyncmake on data followed by zeroes up to size. It returns
// the header and the sums.
func zsyncmake(t *testing.T, data []byte, size int64) (header string, sums []byte) {
	t.Helper()
	tool := testkit.NeedTool(t, "zsyncmake", "zsync")
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool, "-u", "http://h/f", "-f", "f", "-o", path+".zsync", path).CombinedOutput(); err != nil {
		t.Fatalf("zsyncmake: %v\n%s", err, out)
	}
	made, err := os.ReadFile(path + ".zsync")
	if err != nil {
		t.Fatal(err)
	}
	head, sums, _ := bytes.Cut(made, []byte("\n\n"))
	return string(head), sums
}

// Only the length of the file decides how many bytes zsyncmake uses.
func TestZsyncFormIsThatOfZsyncmake(t *testing.T) {
	for _, size := range []int64{mib, 3*mib + 512, 31 << 20, 61886464, 99_999_744, 100_000_256, 300 << 20} {
		f := ZsyncFormOf(size)
		header, sums := zsyncmake(t, nil, size)
		want := fmt.Sprintf("\nBlocksize: %d\nLength: %d\nHash-Lengths: %d,%d,%d\n", f.BlockSize, size, f.SeqMatches, f.RsumBytes, f.ChecksumBytes)
		if blocks := (size + f.BlockSize - 1) / f.BlockSize; !strings.Contains(header, want) || int64(len(sums)) != blocks*int64(f.SumBytes()) {
			t.Errorf("%d: got %q and %d bytes, zsyncmake %q", size, want, len(sums), header)
		}
	}
	// The result of a run of zsyncmake 0.6.2, which takes half a minute.
	if f := ZsyncFormOf(3_000_000_000); f != (ZsyncForm{4096, 2, 3, 5}) {
		t.Errorf("3 GB: %+v", f)
	}
}

func TestZsyncSumsAreThoseOfZsyncmake(t *testing.T) {
	d := newImage(t, standardSize, standard()...)
	clear(d.data[3*mib : 3*mib+5000])
	m := index(t, d)
	_, sums := zsyncmake(t, d.data, d.size)
	if !bytes.Equal(m.Zsync.Sums, sums[:len(m.Zsync.Sums)]) || len(m.Zsync.Sums) != 2048*6 {
		t.Errorf("the sums differ; there are %d bytes", len(m.Zsync.Sums))
	}
	// A short block at the end, and no bytes are cut off.
	data := make([]byte, 1<<20+512)
	_, _ = io.ReadFull(rand.NewChaCha8([32]byte{2}), data)
	form := ZsyncFormOf(int64(len(data)))
	var got []byte
	for off := int64(0); off < int64(len(data)); off += form.BlockSize {
		got = form.AppendSum(got, data[off:min(off+form.BlockSize, int64(len(data)))])
	}
	if _, want := zsyncmake(t, data, int64(len(data))); !bytes.Equal(got, want) {
		t.Error("the sums of a file with a short block differ")
	}
}

// A manifest leaves out sums that would make it too large.
func TestZsyncIsBounded(t *testing.T) {
	large := &Manifest{TotalSize: 1 << 35, PiecePartitionOffset: 1<<35 - 32*mib}
	if large.addZsync(); large.Zsync != nil {
		t.Error("32 GB have sums")
	}
	usual := &Manifest{TotalSize: 4 << 30, PiecePartitionOffset: 4<<30 - 32*mib}
	if usual.addZsync(); usual.Zsync == nil {
		t.Error("4 GB have no sums")
	}
	large.Zsync = &Zsync{BlockSize: 4096, RsumBytes: 3, ChecksumBytes: 6}
	if err := large.validateZsync(); err == nil || !strings.Contains(err.Error(), "at most 33554432 are allowed") {
		t.Errorf("got %v", err)
	}
}
