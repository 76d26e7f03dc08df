package image_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/integration/testkit"
)

const (
	mib    = 1 << 20
	sector = 512
)

// newBase is a base with a slot of slotMiB.
func newBase(ctx context.Context, slotMiB int) (image.Base, error) {
	data, err := testkit.BaseImage(slotMiB)
	if err != nil {
		return image.Base{}, err
	}
	bytes := extent.Bytes(data)
	m, err := base.Index(ctx, bytes, bytes.Size(), base.IndexOptions{
		Version: "2026-11-01", Flavor: "tiny", Arch: "amd64", CreatedAt: "2026-11-01T00:00:00Z",
	})
	return image.Base{Manifest: m, Bytes: bytes}, err
}

// smallBase is newBase, for tests.
func smallBase(t testing.TB, slotMiB int) image.Base {
	t.Helper()
	b, err := newBase(t.Context(), slotMiB)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// page is a bundle of n bytes that do not repeat.
func page(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(data)
	copy(data, "<!doctype html><title>Notepat</title>")
	return data
}

// untouchable is a source that fails the test when it is read.
type untouchable struct {
	t    testing.TB
	size int64
}

func (u untouchable) Size() int64 { return u.size }
func (u untouchable) ReadAt(p []byte, off int64) (int, error) {
	u.t.Errorf("read of %d bytes at %d, where nothing may be read", len(p), off)
	return 0, errors.New("not to be read")
}

// From a base with a slot of 1 MiB and a bundle of page(100_000), at
// LayoutVersion 1.
const (
	goldenBase   = "eb960113f42c3682b6246c03f8b4385f2efd1021a3f101e8880f66a4606f6276"
	goldenID     = "07efeb9d825dab1955c233761d3d1f16"
	goldenSHA256 = "e513d7f774b5e33a8b7b4922c208c2be618bd00ebbf8ab17a01be5250d883263"
)
