package sidecar

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/image"
)

// bmapBlock is the unit of a bmap.
const bmapBlock = 4096

// bmapRange is roughly the length of a range's line, to reserve memory.
const bmapRange = 130

// Bmap returns the block map of an image, version 2.0 with SHA-256. bmaptool
// verifies by it what it writes, and skips what is empty: the base's empty
// blocks (base.Manifest.EmptyBlocks) and the slot behind its last file.
// fault.NotFound unless HasBlocks.
//
// Each of the manifest's blocks is a separate range, with its hash from there.
func Bmap(img *image.Image) ([]byte, error) {
	m := img.Manifest
	if !HasBlocks(m) {
		return nil, noBlocks(m)
	}
	b := bmap{ranges: make([]byte, 0, len(m.Blocks)*bmapRange)}
	empty := m.EmptyBlocks()
	for i := range int(m.PiecePartitionOffset / m.BlockSize) {
		if !empty[i] {
			b.add(int64(i)*m.BlockSize, m.BlockSize, m.Blocks[i])
		}
	}
	used := m.PiecePartitionOffset + usedBytes(img.Volume)
	off := m.PiecePartitionOffset
	sums := newSummer(m.BlockSize)
	err := own(img, m.BlockSize, func(p []byte) {
		// A block may contain parts of the files, of the free space, and of the
		// tail.
		end := off + int64(len(p))
		if to := min(used, end); to > off {
			b.add(off, to-off, sums.sum(p[:to-off]))
		}
		if from := max(off, m.SlotEnd()); from < end {
			b.add(from, end-from, sums.sum(p[from-off:]))
		}
		off = end
	})
	if err != nil {
		return nil, err
	}
	return b.file(m.TotalSize), nil
}

// usedBytes is the length of a volume that must be written: up to its last byte
// that is not zero by construction. Behind that, ext4gen has only free space.
// The zeroes before it belong to tables.
func usedBytes(volume *extent.Map) int64 {
	extents := volume.Extents(0, volume.Size())
	for i := len(extents) - 1; i >= 0; i-- {
		if e := extents[i]; e.Source != nil {
			return (e.Off + e.Len + bmapBlock - 1) / bmapBlock * bmapBlock
		}
	}
	return 0
}

// A bmap is a block map under construction.
type bmap struct {
	ranges []byte
	mapped int64 // blocks
}

// add adds a range of n bytes, which begins with a block.
func (b *bmap) add(off, n int64, sum base.Hash) {
	first, count := off/bmapBlock, (n+bmapBlock-1)/bmapBlock
	b.mapped += count
	b.ranges = append(b.ranges, `    <Range chksum="`...)
	b.ranges, _ = sum.AppendText(b.ranges)
	b.ranges = append(b.ranges, `"> `...)
	b.ranges = strconv.AppendInt(b.ranges, first, 10)
	if count > 1 {
		b.ranges = append(b.ranges, '-')
		b.ranges = strconv.AppendInt(b.ranges, first+count-1, 10)
	}
	b.ranges = append(b.ranges, " </Range>\n"...)
}

// file returns the bmap of an image of size bytes.
func (b *bmap) file(size int64) []byte {
	// The file has its own checksum, computed while zeroes are in its place.
	unset := []byte(strings.Repeat("0", 2*sha256.Size))
	out := make([]byte, 0, 1024+len(b.ranges))
	out = fmt.Appendf(out, `<?xml version="1.0" ?>
<bmap version="2.0">
  <ImageSize> %d </ImageSize>
  <BlockSize> %d </BlockSize>
  <BlocksCount> %d </BlocksCount>
  <MappedBlocksCount> %d </MappedBlocksCount>
  <ChecksumType> sha256 </ChecksumType>
  <BmapFileChecksum> %s </BmapFileChecksum>
  <BlockMap>
`, size, bmapBlock, (size+bmapBlock-1)/bmapBlock, b.mapped, unset)
	at := bytes.Index(out, unset)
	out = append(out, b.ranges...)
	out = append(out, "  </BlockMap>\n</bmap>\n"...)
	sum := sha256.Sum256(out)
	hex.Encode(out[at:], sum[:])
	return out
}
