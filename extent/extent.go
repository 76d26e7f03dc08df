// Package extent ... (contract; to be implemented)
package extent

import (
	"context"
	"io"
	"os"
)

// A Source is a run of immutable bytes of known size. ReadAt keeps the whole
// contract of io.ReaderAt and is safe for concurrent use.
type Source interface {
	io.ReaderAt
	// Size returns the number of bytes; it never changes.
	Size() int64
}

// A ContextSource is a Source whose reads may wait (for a CDN, say) and can be
// given up. Optional: found by assertion.
type ContextSource interface {
	Source
	// ReadAtContext is ReadAt that returns early with an error wrapping
	// ctx.Err() when ctx ends.
	ReadAtContext(ctx context.Context, p []byte, off int64) (int, error)
}

// A Pinner is a Source that can say in which open file a range of it lies, so
// that the range can be spliced rather than copied. Optional: found by assertion.
type Pinner interface {
	Source
	// Pin makes [off, off+n) present and verified and holds it until release is
	// called (exactly once). The bytes are at offset at of f. A nil f with a nil
	// error means: not in one file now, use ReadAt. f must not be closed.
	Pin(ctx context.Context, off, n int64) (f *os.File, at int64, release func(), err error)
}

// An Extent is a run of bytes of an image with one source.
type Extent struct {
	// Off and Len are the run's place in the map, in bytes.
	Off, Len int64
	// Source holds the bytes, from SourceOff on; nil means zeroes.
	Source    Source
	SourceOff int64
}

// A Map is an immutable sequence of extents that covers [0, Size()) and is
// itself a Source, a ContextSource and a Pinner.
type Map struct{}

// New makes a map of size bytes of extents, which must be ascending, not
// overlap, lie within size and within their sources, and leave no gap.
// Empty extents are an error. Errors wrap fault.Invalid.
func New(size int64, extents []Extent) (*Map, error) { panic("contract") }

// Concat makes a map of the sources one after the other; empty ones are skipped.
func Concat(sources ...Source) *Map { panic("contract") }

// Bytes returns a Source of p, which the caller must not change afterwards.
func Bytes(p []byte) Source { panic("contract") }

// Zeroes returns a Source of n zero bytes.
func Zeroes(n int64) Source { panic("contract") }

// Section returns the n bytes of r from off on, as a Source. Unlike
// io.NewSectionReader it has no position, keeps the contract above a reader
// that breaks it (short read without error, EOF early: io.ErrUnexpectedEOF),
// and passes on ReadAtContext and Pin where r has them.
func Section(r io.ReaderAt, off, n int64) Source { panic("contract") }

// File returns the n bytes of f from off on, as a Source that can be pinned.
// f must stay open and its bytes unchanged.
func File(f *os.File, off, n int64) Source { panic("contract") }

// Size returns the map's length in bytes.
func (m *Map) Size() int64 { panic("contract") }

// ReadAt implements io.ReaderAt.
func (m *Map) ReadAt(p []byte, off int64) (int, error) { panic("contract") }

// ReadAtContext implements ContextSource.
func (m *Map) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	panic("contract")
}

// Pin implements Pinner: it succeeds if [off, off+n) lies in one extent whose
// source can pin it.
func (m *Map) Pin(ctx context.Context, off, n int64) (*os.File, int64, func(), error) {
	panic("contract")
}

// Extents returns the extents that make up [off, off+n), clipped to it, nested
// maps resolved to their leaves, neighbouring zeroes merged.
func (m *Map) Extents(off, n int64) []Extent { panic("contract") }
