package image_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/ext4gen"
	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/integration/testkit"
)

// inputs are those of a bundle of data.
func inputs(data []byte) image.Inputs {
	return image.Inputs{
		Piece: "notepat", Title: "Notepat", Bundle: sha256.Sum256(data), BundleSize: int64(len(data)), Time: 1793491200,
	}
}

func compose(t testing.TB, b image.Base, in image.Inputs, data []byte) *image.Image {
	t.Helper()
	img, err := image.Compose(b, in, extent.Bytes(data))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func all(t testing.TB, r extent.Source) []byte {
	t.Helper()
	data, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The same base and bundle give the same bytes in every version. After an
// intended change, raise LayoutVersion. Otherwise older snapshots would change
// during a client's download.
func TestGolden(t *testing.T) {
	b, data := smallBase(t, 1), page(100_000)
	in := inputs(data)
	if got, want := b.Manifest.SHA256.String(), goldenBase; got != want {
		t.Fatalf("the test's base is %s, not %s: the goldens below are for that one", got, want)
	}
	if got := image.ID(b.Manifest, in); got != goldenID || len(got) != image.IDLength {
		t.Errorf("id %s, want %s", got, goldenID)
	}
	sum, err := compose(t, b, in, data).SHA256()
	if err != nil || sum.String() != goldenSHA256 {
		t.Errorf("SHA-256 %s (%v), want %s", sum, err, goldenSHA256)
	}
}

func TestDigestFromMidstateIsThatOfTheFile(t *testing.T) {
	b := smallBase(t, 1)
	for _, n := range []int{0, 1, 4095, 4096, 4097, 500_000} {
		data := page(max(n, 40))[:n]
		img := compose(t, b, inputs(data), data)
		got, err := img.SHA256()
		if err != nil {
			t.Fatal(err)
		}
		if want := base.Hash(sha256.Sum256(all(t, img.Map))); got != want {
			t.Errorf("bundle of %d bytes: %s by midstate, %s by hashing all", n, got, want)
		}
	}
}

func TestImagesDifferInTheSlotOnly(t *testing.T) {
	b := smallBase(t, 1)
	one, two := page(9000), append(page(9000), "more"...)
	other := inputs(two)
	other.Piece, other.Time = "@jeffrey/tone", 1793491300
	x, y := all(t, compose(t, b, inputs(one), one).Map), all(t, compose(t, b, other, two).Map)
	from, to := b.Manifest.PiecePartitionOffset, b.Manifest.SlotEnd()
	original := all(t, b.Bytes)
	for _, data := range [][]byte{x, y} {
		if int64(len(data)) != b.Manifest.TotalSize || !bytes.Equal(data[:from], original[:from]) || !bytes.Equal(data[to:], original[to:]) {
			t.Errorf("an image of %d bytes differs from its base outside the slot", len(data))
		}
	}
	if bytes.Equal(x[from:to], y[from:to]) {
		t.Error("two pieces have the same slot")
	}
}

// Invariant 4: a new image reads nothing of the base, and composing it reads
// nothing of the bundle.
func TestNothingOfTheBaseIsRead(t *testing.T) {
	b, data := smallBase(t, 1), page(100_000)
	b.Bytes = untouchable{t, b.Bytes.Size()}
	img := compose(t, b, inputs(data), data)
	if _, err := img.SHA256(); err != nil {
		t.Error(err)
	}
	if _, err := image.Compose(b, inputs(data), untouchable{t, int64(len(data))}); err != nil {
		t.Error(err)
	}
}

// The bytes behind the slot are those of the digest, even if the origin has
// others.
func TestTheTailIsTheManifests(t *testing.T) {
	b, data := smallBase(t, 1), page(100)
	b.Bytes = untouchable{t, b.Bytes.Size()}
	tail := make([]byte, len(b.Manifest.Tail))
	if _, err := compose(t, b, inputs(data), data).Map.ReadAt(tail, b.Manifest.SlotEnd()); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if !bytes.Equal(tail, b.Manifest.Tail) {
		t.Error("the bytes behind the slot are not the manifest's")
	}
}

func TestEveryInputChangesTheID(t *testing.T) {
	m := smallBase(t, 1).Manifest
	in := inputs(page(100))
	seen := map[string]string{image.ID(m, in): "nothing"}
	check := func(what string, m base.Manifest, in image.Inputs) {
		id := image.ID(&m, in)
		if before, ok := seen[id]; ok {
			t.Errorf("the id with another %s is that with another %s", what, before)
		}
		seen[id] = what
	}
	for what, change := range map[string]func(*base.Manifest, *image.Inputs){
		"base":        func(m *base.Manifest, _ *image.Inputs) { m.SHA256[31]++ },
		"version":     func(m *base.Manifest, _ *image.Inputs) { m.Version = "2026-11-02" },
		"flavor":      func(m *base.Manifest, _ *image.Inputs) { m.Flavor = "debian" },
		"arch":        func(m *base.Manifest, _ *image.Inputs) { m.Arch = "arm64" },
		"piece":       func(_ *base.Manifest, in *image.Inputs) { in.Piece = "notepatN" },
		"title":       func(_ *base.Manifest, in *image.Inputs) { in.Title = "" },
		"bundle":      func(_ *base.Manifest, in *image.Inputs) { in.Bundle[0]++ },
		"bundle size": func(_ *base.Manifest, in *image.Inputs) { in.BundleSize++ },
		"time":        func(_ *base.Manifest, in *image.Inputs) { in.Time++ },
		"density":     func(_ *base.Manifest, in *image.Inputs) { in.Density = 4 },
	} {
		m, in := *m, in
		change(&m, &in)
		check(what, m, in)
	}
	in.Piece, in.Title = "notepatN", "otepat"
	check("border between piece and title", *m, in)
}

func TestEveryInputChangesTheBytes(t *testing.T) {
	b, data := smallBase(t, 1), page(5000)
	in := inputs(data)
	before, err := compose(t, b, in, data).SHA256()
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*image.Inputs){
		"piece":   func(in *image.Inputs) { in.Piece = "other" },
		"title":   func(in *image.Inputs) { in.Title = "Other" },
		"time":    func(in *image.Inputs) { in.Time++ },
		"density": func(in *image.Inputs) { in.Density = 4 },
	} {
		in := in
		change(&in)
		if after, err := compose(t, b, in, data).SHA256(); err != nil || after == before {
			t.Errorf("another %s gives the same bytes (%v)", what, err)
		}
	}
}

func TestTheBorderOfTheSlot(t *testing.T) {
	b := smallBase(t, 1)
	room := image.MaxBundle(b.Manifest)
	in := inputs(nil)
	in.BundleSize = room
	img, err := image.Compose(b, in, testkit.Zeroes(room))
	if err != nil {
		t.Fatalf("a bundle of MaxBundle, %d bytes: %v", room, err)
	}
	if got, want := img.Map.Size(), b.Manifest.TotalSize; got != want {
		t.Errorf("the image has %d bytes, want %d", got, want)
	}
	wantClean(t, img.Volume)
	in.BundleSize++
	_, err = image.Compose(b, in, untouchable{t, in.BundleSize})
	big, ok := errors.AsType[*ext4gen.TooBigError](err)
	if !ok || !errors.Is(err, fault.Invalid) {
		t.Fatalf("one byte more: %v", err)
	}
	if big.Need-big.Have != ext4gen.BlockSize {
		t.Errorf("one byte more exceeds the volume by %d bytes, not by a block", big.Need-big.Have)
	}
}

func TestRefused(t *testing.T) {
	b, data := smallBase(t, 1), page(100)
	for what, c := range map[string]struct {
		change func(*image.Inputs)
		kind   error
	}{
		"a bundle of another size":    {func(in *image.Inputs) { in.BundleSize++ }, fault.Corrupt},
		"a time that ext4 has not":    {func(in *image.Inputs) { in.Time = 1 << 40 }, fault.Invalid},
		"a title too long for a page": {func(in *image.Inputs) { in.Title = strings.Repeat("x", 4096) }, fault.Invalid},
	} {
		in := inputs(data)
		c.change(&in)
		if _, err := image.Compose(b, in, extent.Bytes(data)); !errors.Is(err, c.kind) {
			t.Errorf("%s: %v, want %v", what, err, c.kind)
		}
	}
}

func TestWhatTheSlotHolds(t *testing.T) {
	b, data := smallBase(t, 2), page(1_000_000)
	in := inputs(data)
	in.Title = `<b>"Notepat" & friends</b> ✂`
	img := compose(t, b, in, data)
	volume := save(t, img.Volume)
	wantClean(t, img.Volume)
	if got := debugfs(t, volume, "cat /piece.html"); !bytes.Equal(got, data) {
		t.Errorf("piece.html has %d bytes, which are not those of the bundle", len(got))
	}
	var got map[string]any
	if err := json.Unmarshal(debugfs(t, volume, "cat /piece.json"), &got); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	for key, want := range map[string]any{
		"piece": "notepat", "title": in.Title, "snapshot": image.ID(b.Manifest, in),
		"time": "2026-11-01T00:00:00Z", "bundleSha256": hex.EncodeToString(sum[:]), "bundleSize": 1e6,
		"baseSha256": b.Manifest.SHA256.String(), "baseVersion": "2026-11-01", "baseFlavor": "tiny", "arch": "amd64",
		"layout": float64(image.LayoutVersion),
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
		delete(got, key)
	}
	if len(got) > 0 {
		t.Errorf("piece.json also has %v", got)
	}
	if label := string(debugfs(t, volume, "stats -h")); !strings.Contains(label, image.VolumeLabel) {
		t.Errorf("the volume is not labelled %s:\n%.300s", image.VolumeLabel, label)
	}
}

func save(t testing.TB, volume extent.Source) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "volume")
	if err := os.WriteFile(path, all(t, volume), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantClean wants no complaint from e2fsck, even with status 0.
func wantClean(t testing.TB, volume extent.Source) {
	t.Helper()
	cmd := exec.Command(testkit.NeedTool(t, "e2fsck", "e2fsprogs"), "-f", "-n", save(t, volume))
	cmd.Env = append(os.Environ(), "E2FSCK_TIME=1")
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		usual := strings.HasPrefix(line, "e2fsck ") || strings.HasPrefix(line, "Pass ") || strings.Contains(line, "non-contiguous")
		if err != nil || !usual {
			t.Fatalf("e2fsck (%v):\n%s", err, out)
		}
	}
}

// debugfs returns the output of a request.
func debugfs(t testing.TB, volume, request string) []byte {
	t.Helper()
	out, err := exec.Command(testkit.NeedTool(t, "debugfs", "e2fsprogs"), "-R", request, volume).Output()
	if err != nil {
		t.Fatalf("debugfs %s: %v", request, err)
	}
	return out
}

// A new image costs memory for metadata, not for its bundle or base.
func TestComposeAllocatesLittle(t *testing.T) {
	b := smallBase(t, 20)
	in := inputs(nil)
	in.BundleSize = 5e6
	source := untouchable{t, in.BundleSize}
	b.Bytes = untouchable{t, b.Bytes.Size()}
	r := testing.Benchmark(func(tb *testing.B) {
		for tb.Loop() {
			if _, err := image.Compose(b, in, source); err != nil {
				tb.Fatal(err)
			}
		}
	})
	if got := r.AllocedBytesPerOp(); got <= 0 || got > mib {
		t.Errorf("Compose allocated %d bytes, more than 1 MiB", got)
	}
}

func BenchmarkNewImage(b *testing.B) {
	on, data := smallBase(b, 20), page(3e6)
	in := inputs(data)
	b.Run("compose", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			compose(b, on, in, data)
		}
	})
	b.Run("digest", func(b *testing.B) {
		img := compose(b, on, in, data)
		b.SetBytes(img.Volume.Size())
		b.ReportAllocs()
		for b.Loop() {
			if _, err := img.SHA256(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
