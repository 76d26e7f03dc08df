package base

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"aesthetic.computer/isofs/partition"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

const (
	mib       = 1 << 20
	ext4Magic = 1024 + 0x38 // in a partition
)

// memDisk is an image in memory that go-diskfs can write.
type memDisk struct {
	backend.File // nil: go-diskfs must call none of these
	data         []byte
	size         int64 // the size that it reports; a test may change it
}

func newMemDisk(size int64) *memDisk { return &memDisk{data: make([]byte, size), size: size} }

func (d *memDisk) ReadAt(p []byte, off int64) (int, error) {
	if n := copy(p, d.data[min(off, int64(len(d.data))):]); n < len(p) {
		return n, io.EOF
	}
	return len(p), nil
}
func (d *memDisk) Seek(off int64, _ int) (int64, error)     { return d.size + off, nil }
func (d *memDisk) Path() string                             { return "" }
func (d *memDisk) WriteAt(p []byte, off int64) (int, error) { return copy(d.data[off:], p), nil }
func (d *memDisk) Sys() (*os.File, error)                   { return nil, backend.ErrNotSuitable }
func (d *memDisk) Writable() (backend.WritableFile, error)  { return d, nil }

// part is a partition of a test image, in MiB unless sectors are given.
type part struct {
	start, size uint64 // sectors
	label       string // "": not an ext4
	typ         gpt.Type
}

// standard is the layout of a small base: an ESP, FEDAC-LIVE and the slot.
func standard() []part {
	return []part{
		{start: 2048, size: 4096, typ: gpt.EFISystemPartition},
		{start: 6144, size: 2048, label: "FEDAC-LIVE"},
		{start: 8192, size: 2048, label: SlotLabel},
	}
}

// standardSize leaves 20 KiB behind the slot, 16.5 of them the backup GPT, and
// makes a short last block.
const standardSize = 5*mib + 20<<10

// newImage makes an image of size bytes with a GPT of parts, and noise in the
// first MiBs.
func newImage(t testing.TB, size int64, parts ...part) *memDisk {
	t.Helper()
	d := newMemDisk(size)
	noise := rand.NewChaCha8([32]byte{1})
	_, _ = noise.Read(d.data[mib:min(size, 6*mib)])
	table := &gpt.Table{GUID: "15050F00-0000-4000-8000-000000000000", ProtectiveMBR: true}
	for i, p := range parts {
		typ := p.typ
		if typ == "" {
			typ = gpt.LinuxFilesystem
		}
		table.Partitions = append(table.Partitions, &gpt.Partition{
			Index: i + 1, Start: p.start, End: p.start + p.size - 1, Type: typ,
			GUID: "15050F00-0000-4000-8000-00000000000" + string(rune('1'+i)),
		})
		if p.label != "" {
			sb := d.data[p.start*partition.SectorSize:][:2048]
			clear(sb[1024:])
			binary.LittleEndian.PutUint16(sb[ext4Magic:], 0xEF53)
			copy(sb[1024+0x78:], p.label)
		}
	}
	clear(d.data[size-33*partition.SectorSize:])
	if err := table.Write(d, size); err != nil {
		t.Fatal(err)
	}
	return d
}

// addFAT fills the ESP of a standard image with an empty FAT32.
func addFAT(t testing.TB, d *memDisk) *fat32.FileSystem {
	t.Helper()
	clear(d.data[mib : 3*mib])
	fs, err := fat32.Create(d, 2*mib, mib, partition.SectorSize, "BOOT", true)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"boot", "loader"} {
		if err := fs.Mkdir(dir); err != nil {
			t.Fatal(err)
		}
	}
	return fs
}

// addFile appends content to a file of the FAT, and makes the file if
// necessary.
func addFile(t testing.TB, fs *fat32.FileSystem, path string, content []byte) {
	t.Helper()
	f, err := fs.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND)
	if err == nil {
		_, err = f.Write(content)
	}
	if err != nil {
		t.Fatalf("write %s: %v", path, err)
	}
}

// testOptions are options that Index accepts.
func testOptions() IndexOptions {
	return IndexOptions{Version: "2026-11-01", Flavor: "tiny", Arch: "amd64", CreatedAt: "2026-11-01T00:00:00Z"}
}

// index makes the manifest of d.
func index(t testing.TB, d *memDisk) *Manifest {
	t.Helper()
	m, err := Index(t.Context(), d, d.size, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	return m
}
