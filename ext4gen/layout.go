package ext4gen

import (
	"fmt"
	"math"

	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/fault"
)

// The choices that every volume shares.
const (
	inodeCount = 512
	inodeSize  = 256
	extraIsize = 32 // as mke2fs: all fields of an inode up to its project
	descSize   = 64

	lostFound      = "lost+found"
	lostFoundInode = firstInode
	firstFileInode = lostFoundInode + 1
)

// Places on the volume, in blocks. The superblock is in block 0. The files
// follow one another from firstDataBlock on. lost+found has the four blocks
// that mke2fs gives it, so that e2fsck can use it without allocating.
const (
	descriptorBlock  = 1
	blockBitmapBlock = 2
	inodeBitmapBlock = 3
	inodeTableBlock  = 4
	inodeTableBlocks = inodeCount * inodeSize / BlockSize
	rootBlock        = inodeTableBlock + inodeTableBlocks
	lostFoundBlock   = rootBlock + 1
	lostFoundBlocks  = 4
	firstDataBlock   = lostFoundBlock + lostFoundBlocks

	inodesPerBlock = BlockSize / inodeSize
)

// A placedFile is a file with its place on the volume.
type placedFile struct {
	name   string
	source extent.Source
	size   int64  // bytes
	block  uint32 // the first of its data
	blocks uint32
}

// place gives each file its blocks, if all of them fit.
func place(size int64, files []File) ([]placedFile, error) {
	placed := make([]placedFile, len(files))
	var need int64
	for i, f := range files {
		n := f.Source.Size()
		if n < 0 {
			return nil, fmt.Errorf("file %q has a source of %d bytes: %w", f.Name, n, fault.Invalid)
		}
		// The conversions are exact whenever the result is used: if all files
		// fit.
		placed[i] = placedFile{f.Name, f.Source, n, firstDataBlock + uint32(need/BlockSize), uint32(blocksOf(n))}
		need = addSaturated(need, blocksOf(n)*BlockSize)
	}
	if have := Capacity(size); need > have {
		return nil, &TooBigError{Need: need, Have: have}
	}
	return placed, nil
}

// blocksOf returns how many blocks n bytes take. Their bytes never exceed an
// int64.
func blocksOf(n int64) int64 {
	return min(n/BlockSize+min(n%BlockSize, 1), math.MaxInt64/BlockSize)
}

func addSaturated(a, b int64) int64 {
	if b > math.MaxInt64-a {
		return math.MaxInt64
	}
	return a + b
}

// compose makes the map: the two runs of metadata, the files, and zeroes in all
// gaps between. Gaps are, for example, the unused rest of the inode table and
// of each file's last block.
func (v *volume) compose() (*extent.Map, error) {
	extents := make([]extent.Extent, 0, 2*(len(v.files)+2))
	var end int64
	add := func(off, n int64, s extent.Source) {
		if off > end {
			extents = append(extents, extent.Extent{Off: end, Len: off - end})
		}
		if n > 0 {
			extents = append(extents, extent.Extent{Off: off, Len: n, Source: s})
		}
		end = off + n
	}
	add(0, int64(len(v.head)), extent.Bytes(v.head))
	add(rootBlock*BlockSize, int64(len(v.dirs)), extent.Bytes(v.dirs))
	for _, f := range v.files {
		add(int64(f.block)*BlockSize, f.size, f.source)
	}
	add(v.Size, 0, nil)
	return extent.New(v.Size, extents)
}
