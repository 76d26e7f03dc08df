// Package partition reads disk images: their partition tables (GPT), the labels
// and free space of the file systems in the partitions, and the places of a few
// files.
//
// [List] requires an image as isofs makes it, with two tables that agree.
// [ReadTable] reads one table of any disk, such as a stick that another tool
// has changed. Package base finds the slot among the partitions. Package bake
// writes images; this package writes nothing.
package partition

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"aesthetic.computer/isofs/fault"

	"github.com/diskfs/go-diskfs/backend"
)

// SectorSize is the only sector size of images, in bytes.
const SectorSize = 512

// A Span is a run of bytes.
type Span struct{ Offset, Size int64 }

// End returns the offset of the first byte behind the span.
func (s Span) End() int64 { return s.Offset + s.Size }

// appendSpan appends s, or extends the last span if s begins where it ends.
func appendSpan(list []Span, s Span) []Span {
	if k := len(list) - 1; k >= 0 && list[k].End() == s.Offset {
		list[k].Size += s.Size
		return list
	}
	return append(list, s)
}

// Free returns the free space of the FAT32 and ext4 volumes in parts, which are
// in order. A volume of another kind, or one that contradicts itself, has none.
func Free(r io.ReaderAt, parts []Span) []Span {
	var free []Span
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

// ReadFull reads all of p at off, or fails: a short read, with or without
// io.EOF, is io.ErrUnexpectedEOF. An error without a kind becomes
// fault.Unavailable, and an early end fault.Corrupt.
func ReadFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) && (err == nil || errors.Is(err, io.EOF)) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read %d bytes at offset %d: the image ends after %d of them: %w: %w",
			len(p), off, max(n, 0), fault.Corrupt, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("read %d bytes at offset %d: %w", len(p), off, classify(err, fault.Unavailable))
}

// classify gives err a kind unless it has one.
func classify(err, kind error) error {
	if fault.Kind(err) != nil {
		return err
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// A disk shows an io.ReaderAt to go-diskfs. go-diskfs requires a whole file,
// but only reads at offsets and seeks to the end for the size.
type disk struct {
	r    io.ReaderAt
	size int64
}

var _ backend.Storage = (*disk)(nil)

var errReadOnly = errors.New("the image is only read at offsets")

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > d.size-int64(len(p)) {
		return 0, fmt.Errorf("read %d bytes at offset %d of an image of %d bytes: %w", len(p), off, d.size, fault.Corrupt)
	}
	if err := ReadFull(d.r, p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

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
