package base

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"aesthetic.computer/isofs/fault"
)

// A BlockRun is some of a manifest's blocks, in a row.
type BlockRun struct {
	First int `json:"first"`
	Count int `json:"count"`
}

// maxEmptyRuns bounds the list; each run takes two blocks at least, itself and
// the gap before the next one.
const maxEmptyRuns = maxBlocks / 2

// EmptyBlocks says of each block whether nobody would miss it: it is of zeroes,
// and lies in the free space of a file system. A block of zeroes that is part
// of a file or of a table is not empty: on a stick with other bytes there, the
// file would be another.
func (m *Manifest) EmptyBlocks() []bool {
	empty := make([]bool, len(m.Blocks))
	for _, run := range m.Empty {
		for i := range run.Count {
			empty[run.First+i] = true
		}
	}
	return empty
}

func (m *Manifest) validateEmpty() error {
	if len(m.Empty) > maxEmptyRuns {
		return fmt.Errorf("empty has %d runs, at most %d are allowed: %w", len(m.Empty), maxEmptyRuns, fault.Invalid)
	}
	zero := m.zeroBlock()
	next := 0
	for i, run := range m.Empty {
		if run.First < 0 || run.Count < 1 {
			return fmt.Errorf("empty: run %d is of %d blocks from block %d on: %w", i, run.Count, run.First, fault.Invalid)
		}
		if run.First < next || i > 0 && run.First == next {
			return fmt.Errorf("empty: run %d begins at block %d, where the one before has not ended with a gap: %w", i, run.First, fault.Corrupt)
		}
		// Without a sum that could overflow.
		if whole := int(m.PiecePartitionOffset / m.BlockSize); run.First >= whole || run.Count > whole-run.First {
			return fmt.Errorf("empty: run %d, %d blocks from %d on, does not lie before the slot, which has %d before it: %w", i, run.Count, run.First, whole, fault.Corrupt)
		}
		next = run.First + run.Count
		for block := run.First; block < next; block++ {
			if m.Blocks[block] != zero {
				return fmt.Errorf("empty: block %d is in run %d, but is not of zeroes: %w", block, i, fault.Corrupt)
			}
		}
	}
	return nil
}

// zeroBlock is the hash of a whole block of zeroes.
func (m *Manifest) zeroBlock() Hash { return sha256.Sum256(make([]byte, m.BlockSize)) }

// findEmpty returns the whole blocks before the slot that are of zeroes and lie
// in free, whose spans are in order.
func (m *Manifest) findEmpty(free []span) []BlockRun {
	var runs []BlockRun
	zero := m.zeroBlock()
	next := 0
	for _, s := range free {
		first := int((s.off + m.BlockSize - 1) / m.BlockSize)
		for i := max(first, next); int64(i+1)*m.BlockSize <= min(s.end(), m.PiecePartitionOffset); i++ {
			if m.Blocks[i] != zero {
				continue
			}
			if k := len(runs) - 1; k >= 0 && runs[k].First+runs[k].Count == i {
				runs[k].Count++
			} else {
				runs = append(runs, BlockRun{First: i, Count: 1})
			}
			next = i + 1
		}
	}
	return runs
}

// verifyEmpty compares the list with the free space that the image has.
func (m *Manifest) verifyEmpty(free []span, diff *VerifyError) {
	found := (&Manifest{
		Blocks: m.Blocks, BlockSize: m.BlockSize, PiecePartitionOffset: m.PiecePartitionOffset, Empty: m.findEmpty(free),
	}).EmptyBlocks()
	for i, claimed := range m.EmptyBlocks() {
		if claimed && !found[i] {
			diff.add("empty: block %d does not lie in the free space of a file system", i)
		}
	}
}

// freeSpans returns the free space of the file systems in parts, which are in
// order: what the FAT and the ext4s among them say of themselves. One that is
// unknown, or does not add up, has none.
func freeSpans(r io.ReaderAt, parts []span) []span {
	var free []span
	for _, s := range parts {
		found, err := freeOfExt4(r, s)
		if err != nil {
			found, err = freeOfFAT(r, s)
		}
		if err == nil {
			free = append(free, found...)
		}
	}
	return free
}

// appendSpan appends s, joined to the span that ends where it begins.
func appendSpan(list []span, s span) []span {
	if k := len(list) - 1; k >= 0 && list[k].end() == s.off {
		list[k].size += s.size
		return list
	}
	return append(list, s)
}

// Fields of a FAT32 boot sector beside those of bootfile.go.
const fatSectorsPerCluster = 13

// freeOfFAT returns the clusters of the FAT32 at part that no file has.
func freeOfFAT(r io.ReaderAt, part span) ([]span, error) {
	h := make([]byte, fatHeaderBytes)
	if err := readFull(r, h, part.off); err != nil {
		return nil, err
	}
	g, err := readFATShape(h, part)
	cluster := int64(h[fatSectorsPerCluster]) * sectorSize
	if err != nil || bits.OnesCount8(h[fatSectorsPerCluster]) != 1 {
		return nil, errors.Join(err, errors.New("no FAT32"))
	}
	fat := make([]byte, g.bytes)
	if err := readFull(r, fat, part.off+g.reserved); err != nil {
		return nil, err
	}
	var free []span
	data := part.off + g.reserved + 2*g.bytes
	for c := int64(2); c < g.bytes/4 && data+(c-1)*cluster <= part.end(); c++ {
		// The upper four bits are reserved.
		if binary.LittleEndian.Uint32(fat[4*c:])&0x0FFFFFFF == 0 {
			free = appendSpan(free, span{data + (c-2)*cluster, cluster})
		}
	}
	return free, nil
}

// Fields of the ext4 superblock, relative to its start, and of a group
// descriptor (kernel documentation, filesystems/ext4).
const (
	ext4SuperblockAt   = 1024
	ext4BlocksLo       = 0x04
	ext4FirstBlock     = 0x14
	ext4LogBlock       = 0x18
	ext4GroupBlocks    = 0x20
	ext4MagicAt        = 0x38
	ext4Incompat       = 0x60
	ext4ROCompat       = 0x64
	ext4DescSize       = 0xFE
	ext4BlocksHi       = 0x150
	ext4Incompat64     = 0x80
	ext4IncompatMetaBG = 0x10
	ext4ROBigalloc     = 0x200
	ext4BitmapHi       = 0x20
	ext4GroupFlags     = 0x12
	ext4BlockUninit    = 2
	maxExt4Groups      = 1 << 16
)

// freeOfExt4 returns the blocks of the ext4 at part that its bitmaps say are
// free. A group whose bitmap was never written counts as full.
func freeOfExt4(r io.ReaderAt, part span) ([]span, error) {
	sb := make([]byte, 1024)
	if err := readFull(r, sb, part.off+ext4SuperblockAt); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	incompat := le.Uint32(sb[ext4Incompat:])
	logBlock, perGroup := le.Uint32(sb[ext4LogBlock:]), int64(le.Uint32(sb[ext4GroupBlocks:]))
	if le.Uint16(sb[ext4MagicAt:]) != ext4MagicNum || logBlock != 2 || le.Uint32(sb[ext4FirstBlock:]) != 0 ||
		incompat&ext4IncompatMetaBG != 0 || le.Uint32(sb[ext4ROCompat:])&ext4ROBigalloc != 0 || perGroup == 0 || perGroup > 8*4096 {
		return nil, errors.New("no ext4 of 4 KiB blocks and of the common layout")
	}
	const block = 4096
	count, descSize := int64(le.Uint32(sb[ext4BlocksLo:])), int64(32)
	if incompat&ext4Incompat64 != 0 {
		count |= int64(le.Uint32(sb[ext4BlocksHi:])) << 32
		descSize = int64(le.Uint16(sb[ext4DescSize:]))
	}
	groups := (count + perGroup - 1) / perGroup
	if count < 1 || count > part.size/block || groups > maxExt4Groups || descSize < 32 || descSize > 1024 {
		return nil, errors.New("an ext4 that does not add up")
	}
	descriptors := make([]byte, groups*descSize)
	if err := readFull(r, descriptors, part.off+block); err != nil {
		return nil, err
	}
	var free []span
	bitmap := make([]byte, block)
	for g := range groups {
		d := descriptors[g*descSize:][:descSize]
		if le.Uint16(d[ext4GroupFlags:])&ext4BlockUninit != 0 {
			continue
		}
		at := int64(le.Uint32(d))
		if descSize >= 64 {
			at |= int64(le.Uint32(d[ext4BitmapHi:])) << 32
		}
		if at < 1 || at >= count {
			return nil, errors.New("an ext4 with a bitmap outside of it")
		}
		if err := readFull(r, bitmap, part.off+at*block); err != nil {
			return nil, err
		}
		for i := range min(perGroup, count-g*perGroup) {
			if bitmap[i/8]>>(i%8)&1 == 0 {
				free = appendSpan(free, span{part.off + (g*perGroup+i)*block, block})
			}
		}
	}
	return free, nil
}

// zeroes are compared with.
var zeroes [maxBlockSize]byte

// allZero reports whether p, of at most maxBlockSize bytes, has zeroes only.
func allZero(p []byte) bool { return bytes.Equal(p, zeroes[:len(p)]) }
