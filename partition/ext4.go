package partition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"aesthetic.computer/isofs/fault"

	"github.com/diskfs/go-diskfs/filesystem/ext4"
)

// Fields of the ext4 superblock, relative to its start, and of a group
// descriptor (kernel documentation, filesystems/ext4).
const (
	ext4SuperblockAt   = 1024
	ext4SuperblockSize = 1024
	ext4BlocksLo       = 0x04
	ext4FirstBlock     = 0x14
	ext4LogBlock       = 0x18
	ext4GroupBlocks    = 0x20
	ext4Magic          = 0x38
	ext4MagicNum       = 0xEF53
	ext4Incompat       = 0x60
	ext4ROCompat       = 0x64
	ext4VolumeName     = 0x78
	ext4VolumeNameLen  = 16
	ext4DescSize       = 0xFE
	ext4BlocksHi       = 0x150
	ext4Incompat64     = 0x80
	ext4IncompatMetaBG = 0x10
	ext4ROBigalloc     = 0x200
	ext4BitmapHi       = 0x20
	ext4GroupFlags     = 0x12
	ext4BlockUninit    = 2
	ext4Block          = 4096 // the only block size that this package reads
	maxExt4Groups      = 1 << 16
)

// readSuperblock reads the superblock of the ext4 at part, or returns nil if
// there is no ext4.
func readSuperblock(r io.ReaderAt, part Span) ([]byte, error) {
	if part.Size < ext4SuperblockAt+ext4SuperblockSize {
		return nil, nil
	}
	sb := make([]byte, ext4SuperblockSize)
	if err := ReadFull(r, sb, part.Offset+ext4SuperblockAt); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint16(sb[ext4Magic:]) != ext4MagicNum {
		return nil, nil
	}
	return sb, nil
}

// ext4Label returns the label of the ext4 at part, or "" if there is no ext4.
func ext4Label(r io.ReaderAt, part Span) (string, error) {
	sb, err := readSuperblock(r, part)
	if sb == nil || err != nil {
		return "", err
	}
	label, _, _ := bytes.Cut(sb[ext4VolumeName:][:ext4VolumeNameLen], []byte{0})
	return string(label), nil
}

// An ext4Shape is the geometry of a volume, in blocks; descSize is in bytes.
type ext4Shape struct{ blocks, perGroup, groups, descSize int64 }

// readExt4Shape reads the geometry from a superblock. It refuses one that the
// rest of this file cannot read.
func readExt4Shape(sb []byte, part Span) (ext4Shape, error) {
	le := binary.LittleEndian
	incompat := le.Uint32(sb[ext4Incompat:])
	s := ext4Shape{blocks: int64(le.Uint32(sb[ext4BlocksLo:])), perGroup: int64(le.Uint32(sb[ext4GroupBlocks:])), descSize: 32}
	if le.Uint32(sb[ext4LogBlock:]) != 2 || le.Uint32(sb[ext4FirstBlock:]) != 0 ||
		incompat&ext4IncompatMetaBG != 0 || le.Uint32(sb[ext4ROCompat:])&ext4ROBigalloc != 0 || s.perGroup == 0 || s.perGroup > 8*ext4Block {
		return s, errors.New("no ext4 of 4 KiB blocks and of the common layout")
	}
	if incompat&ext4Incompat64 != 0 {
		s.blocks |= int64(le.Uint32(sb[ext4BlocksHi:])) << 32
		s.descSize = int64(le.Uint16(sb[ext4DescSize:]))
	}
	s.groups = (s.blocks + s.perGroup - 1) / s.perGroup
	if s.blocks < 1 || s.blocks > part.Size/ext4Block || s.groups > maxExt4Groups || s.descSize < 32 || s.descSize > 1024 {
		return s, errors.New("an ext4 that does not add up")
	}
	return s, nil
}

// freeOfExt4 returns the blocks of the ext4 at part that are free in its
// bitmaps. A group whose bitmap was never written counts as full.
func freeOfExt4(r io.ReaderAt, part Span) ([]Span, error) {
	sb, err := readSuperblock(r, part)
	if err != nil {
		return nil, err
	}
	if sb == nil {
		return nil, errors.New("no ext4")
	}
	s, err := readExt4Shape(sb, part)
	if err != nil {
		return nil, err
	}
	descriptors := make([]byte, s.groups*s.descSize)
	if err := ReadFull(r, descriptors, part.Offset+ext4Block); err != nil {
		return nil, err
	}
	var free []Span
	bitmap := make([]byte, ext4Block)
	for g := range s.groups {
		at, ok := s.bitmapOf(descriptors[g*s.descSize:][:s.descSize])
		if !ok {
			continue
		}
		if at < 1 || at >= s.blocks {
			return nil, errors.New("an ext4 with a bitmap outside of it")
		}
		if err := ReadFull(r, bitmap, part.Offset+at*ext4Block); err != nil {
			return nil, err
		}
		for i := range min(s.perGroup, s.blocks-g*s.perGroup) {
			if bitmap[i/8]>>(i%8)&1 == 0 {
				free = appendSpan(free, Span{part.Offset + (g*s.perGroup+i)*ext4Block, ext4Block})
			}
		}
	}
	return free, nil
}

// bitmapOf returns the block of a group's bitmap; ok is false if it was never
// written.
func (s ext4Shape) bitmapOf(descriptor []byte) (block int64, ok bool) {
	le := binary.LittleEndian
	block = int64(le.Uint32(descriptor))
	if s.descSize >= 64 {
		block |= int64(le.Uint32(descriptor[ext4BitmapHi:])) << 32
	}
	return block, le.Uint16(descriptor[ext4GroupFlags:])&ext4BlockUninit == 0
}

// maxVolumeFile bounds the result of ReadFile, in bytes.
const maxVolumeFile = 1 << 20

// ReadFile returns a small file of the ext4 in a partition of an image of size
// bytes. It returns fault.NotFound if there is no such file.
func (p Partition) ReadFile(r io.ReaderAt, size int64, name string) (data []byte, err error) {
	// go-diskfs panics at some damaged volumes.
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("read %s in partition %d: %v: %w", name, p.Number, v, fault.Corrupt)
		}
	}()
	volume, err := ext4.Read(&disk{r: r, size: size}, p.Size, p.Offset, SectorSize)
	if err != nil {
		return nil, fmt.Errorf("read the volume in partition %d: %w", p.Number, classify(err, fault.Corrupt))
	}
	entries, err := volume.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("list the volume in partition %d: %w", p.Number, classify(err, fault.Corrupt))
	}
	if !hasEntry(entries, name) {
		return nil, fmt.Errorf("partition %d has no %s: %w", p.Number, name, fault.NotFound)
	}
	f, err := volume.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open %s in partition %d: %w", name, p.Number, classify(err, fault.Corrupt))
	}
	defer f.Close()
	data, err = io.ReadAll(io.LimitReader(f, maxVolumeFile+1))
	if err == nil && len(data) > maxVolumeFile {
		err = errors.New("it is too large")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s in partition %d: %w", name, p.Number, classify(err, fault.Corrupt))
	}
	return data, nil
}

func hasEntry(entries []fs.DirEntry, name string) bool {
	for _, e := range entries {
		if e.Name() == name {
			return true
		}
	}
	return false
}
