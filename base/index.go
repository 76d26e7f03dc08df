package base

import (
	"context"
	"fmt"
	"io"

	"aesthetic.computer/isofs/partition"
)

// IndexOptions are the parts of a manifest that the image does not contain.
type IndexOptions struct {
	Version, Flavor, Fedora, Arch string
	CreatedAt                     string                  // RFC 3339, UTC
	BlockSize                     int64                   // bytes; 0: BlockSize
	Mirrors                       []string                // other addresses of the image
	Progress                      func(done, total int64) // may be nil
	// Omitted, if not nil, gets what the manifest leaves out, and why: a
	// fragmented initrd, an ESP that is not a FAT32.
	Omitted func(path, reason string)
}

// Index makes the manifest of a GPT image of size bytes. It reads the partition
// tables and the ESP's directories, and then the image once from start to end.
//
// The slot is the partition whose ext4 has the label FEDAC-PIECE, from the
// entry's first to its last LBA. An image that breaks the image contract is
// fault.Invalid, and so are options that make no valid manifest. A damaged or
// truncated image is fault.Corrupt. A reader's error keeps its kind, or is
// fault.Unavailable.
func Index(ctx context.Context, r io.ReaderAt, size int64, o IndexOptions) (*Manifest, error) {
	if o.BlockSize == 0 {
		o.BlockSize = BlockSize
	}
	if o.Omitted == nil {
		o.Omitted = func(string, string) {}
	}
	m := &Manifest{
		Version: o.Version, Flavor: o.Flavor, Fedora: o.Fedora, Arch: o.Arch, CreatedAt: o.CreatedAt,
		TotalSize: size, BlockSize: o.BlockSize, Mirrors: o.Mirrors,
	}
	// Before the long read, not after it.
	if err := m.validateNames(); err != nil {
		return nil, fmt.Errorf("index a base: %w", err)
	}
	if err := m.validateSizes(); err != nil {
		return nil, fmt.Errorf("index a base: %w", err)
	}
	if err := m.validateMirrors(); err != nil {
		return nil, fmt.Errorf("index a base: %w", err)
	}
	l, err := readLayout(r, size)
	if err != nil {
		return nil, fmt.Errorf("index a base: %w", err)
	}
	m.PiecePartitionOffset, m.PiecePartitionSize = l.slot.Offset, l.slot.Size
	for _, f := range partition.BootFiles(r, size, l.esps, o.Omitted) {
		m.BootFiles = append(m.BootFiles, BootFile{Name: f.Name, Path: f.Path, Offset: f.Offset, Length: f.Size})
	}
	m.addZsync()

	d, err := m.scan(o.Progress).run(ctx, r, size)
	if err != nil {
		return nil, fmt.Errorf("index a base: %w", err)
	}
	m.SHA256, m.Blocks, m.Midstates, m.Tail = d.whole, d.blocks, d.mid, d.tail
	if m.Zsync != nil {
		m.Zsync.Sums = d.zsync
	}
	m.Empty = m.findEmpty(partition.Free(r, l.parts))
	for i := range m.BootFiles {
		m.BootFiles[i].SHA256 = d.boot[i]
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("index a base: %w", err)
	}
	return m, nil
}

// scan returns the pass that computes all digests of the manifest.
func (m *Manifest) scan(progress func(done, total int64)) *scan {
	s := &scan{slotOff: m.PiecePartitionOffset, slotEnd: m.SlotEnd(), blockSize: m.BlockSize, progress: progress}
	for _, f := range m.BootFiles {
		s.boot = append(s.boot, partition.Span{Offset: f.Offset, Size: f.Length})
	}
	if m.Zsync != nil {
		form := ZsyncFormOf(m.TotalSize)
		s.zsync = &form
	}
	return s
}
