package image_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/image"
)

const (
	mib    = 1 << 20
	sector = 512
)

// memory is an image that go-diskfs can write.
type memory struct {
	backend.Storage
	extent.Source
	data []byte
}

func (m memory) ReadAt(p []byte, off int64) (int, error)  { return m.Source.ReadAt(p, off) }
func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m.data[off:], p), nil }
func (m memory) Writable() (backend.WritableFile, error)  { return m, nil }
func (m memory) Sys() (*os.File, error)                   { return nil, backend.ErrNotSuitable }

// baseBytes are a small base: GPT, noise for the first two partitions, a slot
// of slotMiB that says it is one, and the backup GPT.
func baseBytes(t testing.TB, slotMiB int) []byte {
	t.Helper()
	const slot = 3 * mib
	data := make([]byte, slot+slotMiB*mib+20<<10)
	noise := rand.NewChaCha8([32]byte{1})
	_, _ = noise.Read(data[mib : slot+mib])
	binary.LittleEndian.PutUint16(data[slot+1024+0x38:], 0xef53) // s_magic
	copy(data[slot+1024+0x78:], base.SlotLabel+"\x00")           // s_volume_name
	part := func(i int, start, end uint64, typ gpt.Type) *gpt.Partition {
		return &gpt.Partition{
			Index: i, Start: start / sector, End: end/sector - 1, Type: typ,
			GUID: "15050F00-0000-4000-8000-00000000000" + string(rune('0'+i)),
		}
	}
	table := &gpt.Table{GUID: "15050F00-0000-4000-8000-000000000000", ProtectiveMBR: true, Partitions: []*gpt.Partition{
		part(1, mib, 2*mib, gpt.EFISystemPartition),
		part(2, 2*mib, slot, gpt.LinuxFilesystem),
		part(3, slot, uint64(slot+slotMiB*mib), gpt.LinuxFilesystem),
	}}
	if err := table.Write(memory{Source: extent.Bytes(data), data: data}, int64(len(data))); err != nil {
		t.Fatal(err)
	}
	return data
}

// smallBase is a base with a slot of slotMiB.
func smallBase(t testing.TB, slotMiB int) image.Base {
	t.Helper()
	bytes := extent.Bytes(baseBytes(t, slotMiB))
	m, err := base.Index(t.Context(), bytes, bytes.Size(), base.IndexOptions{
		Version: "2026-11-01", Flavor: "tiny", Arch: "amd64", CreatedAt: "2026-11-01T00:00:00Z",
	})
	if err != nil {
		t.Fatal(err)
	}
	return image.Base{Manifest: m, Bytes: bytes}
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

// Of a base with a slot of 1 MiB and a bundle of page(100_000), at
// LayoutVersion 1.
const (
	goldenBase   = "eb960113f42c3682b6246c03f8b4385f2efd1021a3f101e8880f66a4606f6276"
	goldenID     = "07efeb9d825dab1955c233761d3d1f16"
	goldenSHA256 = "e513d7f774b5e33a8b7b4922c208c2be618bd00ebbf8ab17a01be5250d883263"
)

// zeroes is a source of n zero bytes.
func zeroes(n int64) extent.Source {
	if n == 0 {
		return new(extent.Map)
	}
	m, err := extent.New(n, []extent.Extent{{Len: n}})
	if err != nil {
		panic(err)
	}
	return m
}
