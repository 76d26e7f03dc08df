package extent

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
)

// memory is a Source of bytes in memory. It is a pointer type, so that
// Extent.Source can be compared.
type memory struct{ bytes []byte }

// Bytes returns a Source of p. The caller must not change p afterwards.
func Bytes(p []byte) Source { return &memory{p} }

func (m *memory) Size() int64 { return int64(len(m.bytes)) }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	p, end := clip(p, off, m.Size())
	if len(p) == 0 {
		return 0, end
	}
	return copy(p, m.bytes[off:]), end
}

// section is a run of bytes of a reader.
type section struct {
	r      io.ReaderAt
	off, n int64
}

var (
	_ ContextSource = (*section)(nil)
	_ Pinner        = (*section)(nil)
	_ Prefetcher    = (*section)(nil)
)

// newSection makes a Source of the n bytes of r from off on. Unlike
// io.NewSectionReader it has no position, and passes on ReadAtContext and Pin
// if r has them. It keeps the contract even if r breaks it: a short read
// without an error and an early EOF become io.ErrUnexpectedEOF. It panics if
// off or n is negative or their sum overflows. A range that r does not have
// fails when read.
func newSection(caller string, r io.ReaderAt, off, n int64) *section {
	if off < 0 || n < 0 || off > math.MaxInt64-n {
		panic(fmt.Sprintf("%s: %d bytes at %d", caller, n, off))
	}
	return &section{r, off, n}
}

func (s *section) Size() int64 { return s.n }

func (s *section) ReadAt(p []byte, off int64) (int, error) {
	return s.ReadAtContext(context.Background(), p, off)
}

func (s *section) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	p, end := clip(p, off, s.n)
	n, err := readFull(ctx, s.r, p, s.off+off)
	if err != nil {
		return n, fmt.Errorf("read %d bytes at %d: %w", len(p), s.off+off, err)
	}
	return n, end
}

func (s *section) Pin(ctx context.Context, off, n int64) (*os.File, int64, func(), error) {
	if err := within(off, n, s.n); err != nil {
		return nil, 0, nil, err
	}
	pinner, ok := s.r.(Pinner)
	if !ok || n == 0 {
		return nil, 0, nil, nil
	}
	f, at, release, err := pinner.Pin(ctx, s.off+off, n)
	if err != nil {
		return nil, 0, nil, fmt.Errorf("pin %d bytes at %d: %w", n, s.off+off, classify(err))
	}
	return f, at, release, nil
}

// Prefetch implements Prefetcher.
func (s *section) Prefetch(off, n int64) {
	if p, ok := s.r.(Prefetcher); ok && off >= 0 && off < s.n && n > 0 {
		p.Prefetch(s.off+off, min(n, s.n-off))
	}
}

// file is a section of an open file. Its type promises more than a section of
// an *os.File does: the bytes stay, and so can be pinned.
type file struct {
	section
	f *os.File
}

var _ Pinner = (*file)(nil)

// File returns the n bytes of f from off on, as a Source that can be pinned. f
// must stay open and its bytes unchanged. It panics if off or n is negative or
// their sum overflows. A range that f does not have fails when read.
func File(f *os.File, off, n int64) Source {
	return &file{*newSection("extent.File", f, off, n), f}
}

// Pin implements Pinner. It holds nothing: the bytes stay as long as f.
func (s *file) Pin(_ context.Context, off, n int64) (*os.File, int64, func(), error) {
	if err := within(off, n, s.n); err != nil {
		return nil, 0, nil, err
	}
	if n == 0 {
		return nil, 0, nil, nil
	}
	return s.f, s.off + off, func() {}, nil
}
