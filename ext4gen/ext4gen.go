// Package ext4gen makes an ext4 volume of a few files, as an extent map. The
// map has some 40 KiB of metadata in memory, the files' own sources by
// reference, and zeroes without a source. It takes tens of microseconds for
// files of any size.
//
// It is a pure function. Everything that varies is an input, so the same input
// gives the same bytes on every machine, in every process.
//
// A session mounts the volume read-only by its label. It has 4 KiB blocks, one
// block group, one extent per file, checksums on all metadata, and no journal.
// It is a sound file system: e2fsck has no complaint, and the kernel also
// mounts it writable.
//
// The package does not read or change volumes. It has no subdirectories, links,
// attributes, other owners than root, further block groups, or partition
// tables. Checksums cover only metadata: the sources must have the right bytes
// of the files. A volume's UUID is part of every checksum, so a program must
// not change it afterwards.
package ext4gen

import (
	"fmt"

	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/fault"
)

// LayoutVersion changes whenever Build would give other bytes for the same
// input. It is an input of a snapshot's id, so an image under one id does not
// change with a new version of the software. The golden digests in the tests
// are kept per LayoutVersion. When they fail after an intended change, raise it
// and add new ones.
const LayoutVersion = 1

// BlockSize is the size of a block in bytes. With 4 KiB, one group holds 128
// MiB, and one entry in the inode describes a file of any size in it.
const BlockSize = 4096

// A volume's least and greatest size in bytes. One block group can describe the
// greatest.
const (
	MinSize = 1 << 20
	MaxSize = maxBlocks * BlockSize
)

// A File is a regular file in the root directory of the volume: mode 0644,
// owned by root.
type File struct {
	// Name is UTF-8 of 1..255 bytes, without "/" and NUL, and not ".", ".." or
	// "lost+found".
	Name   string
	Source extent.Source
}

// Options are all the inputs of a volume beside its files.
type Options struct {
	Size     int64    // bytes, a multiple of BlockSize, MinSize..MaxSize
	Label    string   // at most 16 bytes of UTF-8 without NUL
	UUID     [16]byte // not all zero; also keys every checksum
	HashSeed [16]byte
	Time     int64 // Unix seconds, 1901..2446, stamped on the inodes; superblock times are 0
}

// A TooBigError says by how much the files exceed the volume. It wraps fault.Invalid.
type TooBigError struct{ Need, Have int64 } // bytes of file data, in whole blocks

func (e *TooBigError) Error() string {
	return fmt.Sprintf("the files need %d bytes, in whole blocks of %d, and the volume holds %d: leave something out", e.Need, BlockSize, e.Have)
}

// Unwrap returns fault.Invalid.
func (e *TooBigError) Unwrap() error { return fault.Invalid }

// Capacity returns how many bytes of file data (each file rounded up to
// BlockSize) fit a volume of size bytes. It is 0 if Build refuses that size.
func Capacity(size int64) int64 {
	if checkSize(size) != nil {
		return 0
	}
	return size - firstDataBlock*BlockSize
}

// Build lays out a volume. It is a pure function: the same input gives the same
// bytes. It reads no file: their bytes are extents of the result, which covers
// exactly o.Size. The order of the files is that of their inodes and their
// data. All names together must fit one directory block, which has room for 112
// names of 28 bytes. Errors wrap fault.Invalid; files that do not fit are a
// *TooBigError.
func Build(o Options, files ...File) (*extent.Map, error) {
	if err := check(o, files); err != nil {
		return nil, fmt.Errorf("lay out an ext4 volume: %w", err)
	}
	placed, err := place(o.Size, files)
	if err != nil {
		return nil, fmt.Errorf("lay out an ext4 volume: %w", err)
	}
	v := newVolume(o, placed)
	v.writeInodes()
	v.writeDirectories()
	v.writeBitmaps()
	v.writeDescriptor()
	v.writeSuperblock()
	return v.compose()
}
