package bake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/extent"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// Places on the disk, in bytes.
const (
	sectorSize     = 512
	partitionAlign = 1 << 20
	espStart       = partitionAlign
	// gptTail is the room behind the slot: 33 sectors of backup GPT, filled up
	// to whole blocks of 4 KiB.
	gptTail = 5 * 4096
)

// An identity is different for each flavor. The GUIDs and the number of the
// ESP's FAT contain it. It is a constant of the flavor and not of a bake, as a
// machine boots only one of our sticks.
type identity uint16

// guid returns the GUID of the disk for 0, and of partition n.
func (id identity) guid(n int) string {
	return fmt.Sprintf("15050F00-%04X-4000-8000-%012d", uint16(id), n)
}

// fatID is the volume id of the ESP. GRUB finds it by this.
func (id identity) fatID() uint32 { return 0x15050f5a + uint32(id) }

// A partition is a partition of the image, with its contents.
type partition struct {
	name     string
	typ      gpt.Type
	contents io.ReaderAt
	size     int64
	file     string // has the contents if not ""
}

func espPartition(file string) partition {
	return partition{name: "EFI", typ: gpt.EFISystemPartition, file: file}
}

func livePartition(file string) partition {
	return partition{name: "LIVE", typ: gpt.LinuxFilesystem, file: file}
}

func slotPartition(volume *extent.Map) partition {
	return partition{name: "PIECE", typ: gpt.LinuxFilesystem, contents: volume, size: volume.Size()}
}

// writeImage writes the partitions one behind the other, each at a whole MiB,
// and the GPT around them, to a sparse file. It returns the open file.
func writeImage(path string, id identity, parts []partition) (f *os.File, err error) {
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	table := &gpt.Table{GUID: id.guid(0), ProtectiveMBR: true}
	at := int64(espStart)
	for i, p := range parts {
		size, err := p.writeTo(f, at)
		if err != nil {
			return nil, fmt.Errorf("partition %s: %w", p.name, err)
		}
		table.Partitions = append(table.Partitions, &gpt.Partition{
			Index: i + 1, Name: p.name, GUID: id.guid(i + 1), Type: p.typ,
			Start: uint64(at / sectorSize), End: uint64((at+size)/sectorSize - 1),
		})
		at += size
		if i < len(parts)-1 {
			at = roundUp(at, partitionAlign)
		}
	}
	total := at + gptTail
	if err := f.Truncate(total); err != nil {
		return nil, err
	}
	if err := table.Write(f, total); err != nil {
		return nil, err
	}
	return f, nil
}

// writeTo writes the contents to w at off and returns their size.
func (p partition) writeTo(w io.WriterAt, off int64) (int64, error) {
	if p.file == "" {
		return p.size, copySparse(w, off, p.contents, p.size)
	}
	f, err := os.Open(p.file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), copySparse(w, off, f, info.Size())
}

// copySparse copies n bytes of r to w at off, without blocks of zeroes. w must
// be zero there.
func copySparse(w io.WriterAt, off int64, r io.ReaderAt, n int64) error {
	buf, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); at < n; at += int64(len(buf)) {
		p := buf[:min(int64(len(buf)), n-at)]
		if got, err := r.ReadAt(p, at); got < len(p) {
			return fmt.Errorf("read %d bytes at %d: %w", len(p), at, errors.Join(err, io.ErrUnexpectedEOF))
		}
		if string(p) == string(zero[:len(p)]) {
			continue
		}
		if _, err := w.WriteAt(p, off+at); err != nil {
			return err
		}
	}
	return nil
}

// An edition is the part of a manifest about the base's source.
type edition struct {
	flavor string
	fedora string // the release; "" for other flavors
}

// index makes the manifest of the finished image.
func (j *job) index(ctx context.Context, image *os.File, e edition) (*base.Manifest, error) {
	info, err := image.Stat()
	if err != nil {
		return nil, err
	}
	return base.Index(ctx, image, info.Size(), base.IndexOptions{
		Version: j.Version, Flavor: e.flavor, Fedora: e.fedora, Arch: j.Arch,
		CreatedAt: j.time().Format(time.RFC3339),
		Progress:  func(done, total int64) { j.Progress(stageIndex, done, total) },
		Omitted: func(path, reason string) {
			j.Log.Warn("a boot file is not in the manifest", "path", path, "reason", reason)
		},
	})
}

// assemble writes the image, makes its manifest, and publishes both.
func (j *job) assemble(ctx context.Context, out *output, disk *hybrid, e edition) (m *base.Manifest, unchanged bool, err error) {
	j.Progress(stageImage, 0, 1)
	image, err := disk.write(ctx, j.run, j.scratch, out.temp(ImageName))
	if err != nil {
		return nil, false, err
	}
	defer image.Close()
	j.Progress(stageImage, 1, 1)
	if m, err = j.index(ctx, image, e); err != nil {
		return nil, false, err
	}
	if unchanged, err = out.publish(m); err != nil {
		return nil, false, err
	}
	j.Log.Info("baked", "flavor", e.flavor, "version", j.Version, "size", m.TotalSize, "sha256", m.SHA256.String(), "unchanged", unchanged)
	return m, unchanged, nil
}
