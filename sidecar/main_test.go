package sidecar_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/integration/testkit"
	"aesthetic.computer/isofs/sidecar"
)

const (
	mib      = 1 << 20
	tailSize = 1<<20 - 512 // a short last block, in every unit
)

// run runs a tool and returns its output.
func run(t *testing.T, tool, pkg string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.Command(testkit.NeedTool(t, tool, pkg), args...).CombinedOutput()
	return string(out), err
}

func mustRun(t *testing.T, tool, pkg string, args ...string) string {
	t.Helper()
	out, err := run(t, tool, pkg, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", tool, args, err, out)
	}
	return out
}

// untouchable stands for the bytes of a base. A read fails the test.
type untouchable struct {
	t    testing.TB
	size int64
}

func (u untouchable) Size() int64 { return u.size }
func (u untouchable) ReadAt(p []byte, off int64) (int, error) {
	u.t.Errorf("%d bytes of the base are read at %d, and nothing may be", len(p), off)
	return 0, errors.New("not to be read")
}

// noise is n bytes that do not repeat.
func noise(seed byte, n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

// manifestOf describes the bytes before the slot, and a tail. The whole MiBs in
// empty are free. There is no partition table, as the sidecars do not need it.
func manifestOf(t testing.TB, head []byte, slot, blockSize int64, empty ...base.BlockRun) *base.Manifest {
	t.Helper()
	m := &base.Manifest{
		Version: "2026-11-01", Flavor: "tiny", Arch: "amd64", CreatedAt: "2026-11-01T00:00:00Z",
		PiecePartitionOffset: int64(len(head)), PiecePartitionSize: slot, TotalSize: int64(len(head)) + slot + tailSize,
		BlockSize: blockSize, Tail: noise(9, tailSize), Empty: empty,
	}
	whole := append(append(bytes.Clone(head), make([]byte, slot)...), m.Tail...)
	m.SHA256 = sha256.Sum256(whole)
	for off := int64(0); off < m.TotalSize; off += blockSize {
		m.Blocks = append(m.Blocks, sha256.Sum256(whole[off:min(off+blockSize, m.TotalSize)]))
	}
	m.Midstates = midstatesOf(t, head)
	form := base.ZsyncFormOf(m.TotalSize)
	m.Zsync = &base.Zsync{BlockSize: form.BlockSize, RsumBytes: form.RsumBytes, ChecksumBytes: form.ChecksumBytes}
	for off := int64(0); off < int64(len(head)); off += form.BlockSize {
		m.Zsync.Sums = form.AppendSum(m.Zsync.Sums, head[off:off+form.BlockSize])
	}
	if err := m.Validate(); err != nil {
		t.Fatal(err)
	}
	return m
}

// imageOf puts a bundle onto a base that cannot be read.
func imageOf(t testing.TB, m *base.Manifest, bundle []byte) *image.Image {
	t.Helper()
	b := image.Base{Manifest: m, Bytes: untouchable{t, m.TotalSize}}
	img, err := image.Compose(b, image.Inputs{
		Piece: "notepat", Title: "Notepat", Bundle: sha256.Sum256(bundle), BundleSize: int64(len(bundle)), Time: 1_800_000_000,
	}, extent.Bytes(bundle))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// aboutOf describes the image of tests.
func aboutOf(sum base.Hash) sidecar.About {
	return sidecar.About{
		FileName: "notepat-os.iso", Path: "/s/0123456789abcdef0123456789abcdef/notepat-os.iso",
		Time: time.Unix(1_800_000_000, 0), SHA256: sum, Servers: []string{"http://127.0.0.1:1"},
	}
}

// A sample is an image in memory and as a file.
type sample struct {
	img   *image.Image
	bytes []byte
	path  string
	about sidecar.About
}

func newSample(t *testing.T) sample {
	t.Helper()
	head := noise(1, 5*mib)
	clear(head[2*mib : 4*mib]) // the second MiB of this is free
	m := manifestOf(t, head, 4*mib, 256<<10, base.BlockRun{First: 12, Count: 4})
	bundle := noise(2, 1_000_000)
	clear(bundle[300_000:700_000])
	s := sample{img: imageOf(t, m, bundle), path: filepath.Join(t.TempDir(), "notepat-os.iso")}
	slot := make([]byte, m.PiecePartitionSize)
	if _, err := s.img.Volume.ReadAt(slot, 0); err != nil {
		t.Fatal(err)
	}
	s.bytes = append(append(head, slot...), m.Tail...)
	s.about = aboutOf(sha256.Sum256(s.bytes))
	if err := os.WriteFile(s.path, s.bytes, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(s.path, s.about.Time, s.about.Time); err != nil {
		t.Fatal(err)
	}
	return s
}

// write puts a sidecar beside the image.
func (s sample) write(t *testing.T, suffix string, content []byte, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	path := s.path + "." + suffix
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// damaged returns the path of a copy of a file with another byte at off.
func damaged(t *testing.T, path string, off int64) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[off] ^= 1
	to := filepath.Join(t.TempDir(), filepath.Base(path))
	if err := os.WriteFile(to, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return to
}

func count(text []byte, what string) int { return strings.Count(string(text), what) }
