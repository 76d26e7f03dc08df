// Package extent is the extent map: an immutable, random-access view of bytes
// in several places. The places are a base image behind a cache, memory, files,
// or none at all for zeroes. An image, a volume and a part of either are all
// maps, so maps compose.
//
// A map is made once and never changes, so reading it takes no lock, and an
// ordinary read allocates nothing. Every reader of this package keeps the whole
// contract of io.ReaderAt, even above readers that break it.
//
// The package has no positions (no io.Reader, no io.Seeker: use an
// io.SectionReader). The sources do all writing, caching, prefetching, retrying
// and verifying.
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
// cancelled. Optional: found by assertion.
type ContextSource interface {
	Source
	// ReadAtContext is ReadAt that returns early with an error wrapping
	// ctx.Err() when ctx ends.
	ReadAtContext(ctx context.Context, p []byte, off int64) (int, error)
}

// A Pinner is a Source that can name the open file of a range, so that the
// range can be spliced instead of copied. Optional: found by assertion.
type Pinner interface {
	Source
	// Pin makes [off, off+n) present and verified, and holds it until the
	// caller calls release exactly once. The bytes are at offset at of f. A nil
	// f with a nil error means: not in one file now, use ReadAt; release is
	// then nil too. The caller must not close f. A range that is not within the
	// source is an error wrapping fault.Invalid.
	Pin(ctx context.Context, off, n int64) (f *os.File, at int64, release func(), err error)
}

// A Prefetcher is a Source that accepts hints about the next reads. Optional:
// found by assertion.
type Prefetcher interface {
	Source
	// Prefetch says that [off, off+n) will probably be read next. It returns at
	// once, reports no failure, and may do nothing. Bytes outside the source
	// are ignored.
	Prefetch(off, n int64)
}

// An Extent is a run of bytes of an image with one source.
type Extent struct {
	// Off and Len are the run's place in the map, in bytes.
	Off, Len int64
	// Source holds the bytes, from SourceOff on; nil means zeroes, and then
	// SourceOff means nothing.
	Source    Source
	SourceOff int64
}

// end returns the offset behind the extent's last byte.
func (e *Extent) end() int64 { return e.Off + e.Len }
