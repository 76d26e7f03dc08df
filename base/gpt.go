package base

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"aesthetic.computer/isofs/fault"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

// A layout is what the partition table says of an image, in bytes.
type layout struct {
	slotOff, slotSize int64
	esp               []span // the EFI system partitions, in order
	parts             []span // those before the slot, in order
}

// A span is a run of bytes.
type span struct{ off, size int64 }

// end returns the offset of the first byte behind the span.
func (s span) end() int64 { return s.off + s.size }

// GPT header fields that are looked at before go-diskfs parses the rest, since
// it allocates by them (UEFI specification 2.10, section 5.3.2).
const (
	gptSignature   = "EFI PART"
	gptEntryCount  = 80
	gptEntrySize   = 84
	gptMaxEntries  = 4096
	gptHeaderBytes = 92
)

// Superblock fields of ext4, relative to the partition's start (kernel
// documentation, filesystems/ext4, "Super Block").
const (
	ext4Magic    = 1024 + 0x38
	ext4MagicNum = 0xEF53
	ext4Label    = 1024 + 0x78
	ext4LabelLen = 16
)

// readLayout finds the slot and the ESPs of an image of size bytes. It refuses
// what the image contract forbids, and any damage of either partition table:
// the tail, which holds the backup, goes into every image.
func readLayout(r io.ReaderAt, size int64) (*layout, error) {
	table, err := readGPT(r, size)
	if err != nil {
		return nil, err
	}
	parts, err := sortedPartitions(table, size)
	if err != nil {
		return nil, err
	}
	var l layout
	slot := -1
	for i, p := range parts {
		s := partitionSpan(p)
		if p.Type == gpt.EFISystemPartition {
			l.esp = append(l.esp, s)
		}
		label, err := ext4VolumeLabel(r, s)
		if err != nil {
			return nil, fmt.Errorf("read the label of partition %d: %w", p.Index, err)
		}
		if label != SlotLabel {
			continue
		}
		if slot >= 0 {
			return nil, fmt.Errorf("partitions %d and %d both have the ext4 label %s: %w", parts[slot].Index, p.Index, SlotLabel, fault.Invalid)
		}
		slot = i
	}
	if slot < 0 {
		return nil, fmt.Errorf("none of the %d partitions is an ext4 labelled %s: %w", len(parts), SlotLabel, fault.Invalid)
	}
	if slot != len(parts)-1 {
		return nil, fmt.Errorf("partition %d (%s) is not the last on the disk: partition %d lies behind it: %w",
			parts[slot].Index, SlotLabel, parts[len(parts)-1].Index, fault.Invalid)
	}
	s := partitionSpan(parts[slot])
	l.slotOff, l.slotSize = s.off, s.size
	for _, p := range parts[:slot] {
		l.parts = append(l.parts, partitionSpan(p))
	}
	return &l, checkSlot(s.off, s.size, size)
}

// checkSlot checks the slot's place in an image of size bytes.
func checkSlot(off, length, size int64) error {
	switch {
	case off <= 0 || off%SlotAlignment != 0:
		return fmt.Errorf("piecePartitionOffset %d is not a positive multiple of %d: %w", off, SlotAlignment, fault.Invalid)
	case length < MinSlotSize || length > MaxSlotSize:
		return fmt.Errorf("piecePartitionSize %d is not in %d..%d: %w", length, MinSlotSize, MaxSlotSize, fault.Invalid)
	case length%SlotAlignment != 0:
		return fmt.Errorf("piecePartitionSize %d is not a multiple of %d: %w", length, SlotAlignment, fault.Invalid)
	case off > size-length:
		return fmt.Errorf("the slot [%d, %d) ends behind totalSize %d: %w", off, off+length, size, fault.Corrupt)
	case size-off-length > MaxTailSize:
		return fmt.Errorf("%d bytes lie behind the slot, at most %d are allowed: %w", size-off-length, MaxTailSize, fault.Invalid)
	}
	return nil
}

// readGPT reads the primary table and demands that the backup says the same.
func readGPT(r io.ReaderAt, size int64) (*gpt.Table, error) {
	if size%sectorSize != 0 || size < 3*sectorSize {
		return nil, fmt.Errorf("an image of %d bytes is not made of %d-byte sectors: %w", size, sectorSize, fault.Invalid)
	}
	disk := &disk{r: r, size: size}
	if err := checkHeader(disk, sectorSize, "primary"); err != nil {
		return nil, noTable(disk, err)
	}
	table, err := gpt.Read(disk, sectorSize, sectorSize)
	if err != nil {
		return nil, fmt.Errorf("read the GPT: %w", classify(err, fault.Corrupt))
	}
	if table.RecoveredFromBackup {
		return nil, fmt.Errorf("the primary GPT is damaged (only the backup at the end is whole); repair it with sgdisk -e or write the image again: %w", fault.Corrupt)
	}
	if want := table.TotalSize(); want != uint64(size) {
		return nil, fmt.Errorf("the GPT is made for a disk of %d bytes, the image has %d (truncated, or padded): %w", want, size, fault.Corrupt)
	}
	if err := checkHeader(disk, size-sectorSize, "backup"); err != nil {
		return nil, err
	}
	if err := table.Verify(disk, uint64(size)); err != nil {
		return nil, fmt.Errorf("compare the primary with the backup GPT: %w", classify(err, fault.Corrupt))
	}
	// Without a primary go-diskfs reads the backup, entries and checksums
	// included.
	disk.hidePrimary = true
	backup, err := gpt.Read(disk, sectorSize, sectorSize)
	if err != nil {
		return nil, fmt.Errorf("read the backup GPT at the end of the image: %w", classify(err, fault.Corrupt))
	}
	if !table.Equal(backup) {
		return nil, fmt.Errorf("the primary and the backup GPT list different partitions: %w", fault.Corrupt)
	}
	return table, nil
}

// checkHeader looks at the sector at off for a GPT header of bearable size.
func checkHeader(d *disk, off int64, which string) error {
	h := make([]byte, gptHeaderBytes)
	if err := readFull(d, h, off); err != nil {
		return fmt.Errorf("read the %s GPT header: %w", which, err)
	}
	if string(h[:len(gptSignature)]) != gptSignature {
		return fmt.Errorf("no %s GPT header at offset %d: %w", which, off, fault.Corrupt)
	}
	count := binary.LittleEndian.Uint32(h[gptEntryCount:])
	entry := binary.LittleEndian.Uint32(h[gptEntrySize:])
	if count == 0 || count > gptMaxEntries || entry != gpt.PartitionEntrySize {
		return fmt.Errorf("the %s GPT header claims %d entries of %d bytes, wanted 1..%d of %d: %w",
			which, count, entry, gptMaxEntries, gpt.PartitionEntrySize, fault.Corrupt)
	}
	return nil
}

// noTable tells an image that never had a GPT from one whose GPT is damaged.
func noTable(d *disk, err error) error {
	if fault.Kind(err) == fault.Unavailable {
		return err
	}
	sig := make([]byte, len(gptSignature))
	if readFull(d, sig, d.size-sectorSize) == nil && string(sig) == gptSignature {
		return fmt.Errorf("the primary GPT is damaged (there is a backup at the end): %w", err)
	}
	if readFull(d, sig, 4096) == nil && string(sig) == gptSignature {
		return fmt.Errorf("the image is made for 4096-byte sectors, only %d are supported: %w", sectorSize, fault.Invalid)
	}
	if readFull(d, sig, sectorSize) == nil && string(sig) == gptSignature {
		return err
	}
	return fmt.Errorf("the image has no GPT (no %q at offset %d): %w", gptSignature, sectorSize, fault.Invalid)
}

// sortedPartitions returns the partitions by their place on the disk, checked
// to lie inside the usable area and not to overlap.
func sortedPartitions(t *gpt.Table, size int64) ([]*gpt.Partition, error) {
	parts := slices.Clone(t.Partitions)
	slices.SortFunc(parts, func(a, b *gpt.Partition) int { return cmp.Compare(a.Start, b.Start) })
	for i, p := range parts {
		if p.Start < 2 || p.End < p.Start || p.End > t.LastDataSector() || p.End >= uint64(size/sectorSize) {
			return nil, fmt.Errorf("partition %d claims sectors %d..%d of %d usable: %w", p.Index, p.Start, p.End, t.LastDataSector(), fault.Corrupt)
		}
		if i > 0 && p.Start <= parts[i-1].End {
			return nil, fmt.Errorf("partitions %d and %d overlap at sector %d: %w", parts[i-1].Index, p.Index, p.Start, fault.Corrupt)
		}
	}
	return parts, nil
}

// partitionSpan takes the entry's first and last LBA, never a size by custom.
func partitionSpan(p *gpt.Partition) span {
	return span{int64(p.Start) * sectorSize, int64(p.End-p.Start+1) * sectorSize}
}

// ext4VolumeLabel returns the label of the ext4 at s, or "" if there is none.
func ext4VolumeLabel(r io.ReaderAt, s span) (string, error) {
	if s.size < ext4Label+ext4LabelLen {
		return "", nil
	}
	sb := make([]byte, ext4Label+ext4LabelLen-1024)
	if err := readFull(r, sb, s.off+1024); err != nil {
		return "", err
	}
	if binary.LittleEndian.Uint16(sb[ext4Magic-1024:]) != ext4MagicNum {
		return "", nil
	}
	label, _, _ := bytes.Cut(sb[ext4Label-1024:], []byte{0})
	return string(label), nil
}

// A disk shows an io.ReaderAt to go-diskfs, which asks for a whole file but
// only reads at offsets and seeks to the end for the size.
type disk struct {
	r           io.ReaderAt
	size        int64
	hidePrimary bool // reads the GPT header in sector 1 as zeroes
}

var _ backend.Storage = (*disk)(nil)

var errReadOnly = errors.New("the image is only read at offsets")

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > d.size-int64(len(p)) {
		return 0, fmt.Errorf("read %d bytes at offset %d of an image of %d bytes: %w", len(p), off, d.size, fault.Corrupt)
	}
	if err := readFull(d.r, p, off); err != nil {
		return 0, err
	}
	if d.hidePrimary {
		clear(p[clamp(sectorSize-off, len(p)):clamp(2*sectorSize-off, len(p))])
	}
	return len(p), nil
}

// clamp limits an index to [0, n].
func clamp(i int64, n int) int { return int(max(0, min(i, int64(n)))) }

func (d *disk) Seek(off int64, whence int) (int64, error) {
	if whence != io.SeekEnd {
		return 0, errReadOnly
	}
	return d.size + off, nil
}

func (d *disk) Stat() (fs.FileInfo, error)              { return nil, errReadOnly }
func (d *disk) Read([]byte) (int, error)                { return 0, errReadOnly }
func (d *disk) Close() error                            { return nil }
func (d *disk) Sys() (*os.File, error)                  { return nil, backend.ErrNotSuitable }
func (d *disk) Writable() (backend.WritableFile, error) { return nil, backend.ErrIncorrectOpenMode }
func (d *disk) Path() string                            { return "" }
