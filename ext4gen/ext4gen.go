// Package ext4gen ... (contract; to be implemented)
package ext4gen

import "aesthetic.computer/isofs/extent"

// LayoutVersion changes whenever Build would give other bytes for the same input.
const LayoutVersion = 1

// BlockSize is the size of a block in bytes.
const BlockSize = 4096

// A File is a regular file in the root directory of the volume.
type File struct {
	Name   string // 1..255 bytes, no "/" or NUL, not ".", "..", "lost+found"
	Source extent.Source
}

// Options are all the inputs of a volume beside its files.
type Options struct {
	Size     int64    // bytes, a multiple of BlockSize, 1 MiB..128 MiB
	Label    string   // at most 16 bytes
	UUID     [16]byte // also keys every checksum
	HashSeed [16]byte
	Time     int64 // Unix seconds, stamped on the inodes; superblock times are 0
}

// A TooBigError says by how much the files exceed the volume. It wraps fault.Invalid.
type TooBigError struct{ Need, Have int64 } // bytes of file data, in whole blocks

func (e *TooBigError) Error() string { panic("contract") }
func (e *TooBigError) Unwrap() error { panic("contract") }

// Capacity returns how many bytes of file data (each file rounded up to
// BlockSize) fit a volume of size bytes.
func Capacity(size int64) int64 { panic("contract") }

// Build lays out a volume. It is a pure function: the same input gives the
// same bytes. It reads no file: their bytes are extents of the result.
func Build(o Options, files ...File) (*extent.Map, error) { panic("contract") }
