package testkit

import (
	"encoding/binary"
	"math/rand/v2"
	"os"

	"aesthetic.computer/isofs/extent"
	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

const (
	mib    = 1 << 20
	sector = 512
)

// BaseImage returns the disk image of a small base, the same each time. It has a GPT, noise in the
// first two partitions, a slot of slotMiB MiB, and the backup GPT. The slot has only a superblock
// with the label FEDAC-PIECE. The image does not boot.
func BaseImage(slotMiB int) ([]byte, error) {
	const slot = 3 * mib
	data := make([]byte, slot+slotMiB*mib+20<<10)
	noise := rand.NewChaCha8([32]byte{1})
	_, _ = noise.Read(data[mib : slot+mib])                      // never fails
	binary.LittleEndian.PutUint16(data[slot+1024+0x38:], 0xef53) // s_magic
	copy(data[slot+1024+0x78:], "FEDAC-PIECE\x00")               // s_volume_name
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
	return data, table.Write(memory{data: data}, int64(len(data)))
}

// memory is an image that go-diskfs can write.
type memory struct {
	backend.Storage
	data []byte
}

func (m memory) ReadAt(p []byte, off int64) (int, error)  { return copy(p, m.data[off:]), nil }
func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m.data[off:], p), nil }
func (m memory) Writable() (backend.WritableFile, error)  { return m, nil }
func (m memory) Sys() (*os.File, error)                   { return nil, backend.ErrNotSuitable }

// Zeroes returns a source of n zero bytes.
func Zeroes(n int64) extent.Source {
	if n == 0 {
		return new(extent.Map)
	}
	m, err := extent.New(n, []extent.Extent{{Len: n}})
	if err != nil {
		panic(err) // n is negative
	}
	return m
}
