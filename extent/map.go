package extent

import (
	"context"
	"fmt"
	"os"
	"sort"

	"aesthetic.computer/isofs/fault"
)

// A Map is an immutable sequence of extents that covers [0, Size()). It is a
// Source, a ContextSource and a Pinner. The zero Map is empty.
type Map struct {
	size int64
	// leaves are the extents with nested maps and sections resolved. So a read
	// costs one search however deep an image is composed, and an error names a
	// range of the outermost map.
	leaves []Extent
}

var (
	_ ContextSource = (*Map)(nil)
	_ Pinner        = (*Map)(nil)
	_ Prefetcher    = (*Map)(nil)
)

// New makes a map of size bytes from extents. They must be ascending, not
// overlap, be within size and within their sources, and leave no gap. Empty
// extents are an error. Errors wrap fault.Invalid.
func New(size int64, extents []Extent) (*Map, error) {
	if size < 0 {
		return nil, fmt.Errorf("make extent map: size %d is negative: %w", size, fault.Invalid)
	}
	m := &Map{size: size, leaves: make([]Extent, 0, len(extents))}
	var covered int64
	for i := range extents {
		e := &extents[i]
		if err := check(e, covered, size); err != nil {
			return nil, fmt.Errorf("make extent map of %d bytes: extent %d (%d bytes at %d): %w", size, i, e.Len, e.Off, err)
		}
		m.leaves = appendLeaves(m.leaves, *e)
		covered = e.end()
	}
	if covered != size {
		return nil, fmt.Errorf("make extent map of %d bytes: the extents end at %d: %w", size, covered, fault.Invalid)
	}
	return m, nil
}

// check reports whether e may follow extents that cover [0, covered) in a map
// of size bytes. It adds no two numbers, so that nothing can overflow.
func check(e *Extent, covered, size int64) error {
	switch {
	case e.Len <= 0:
		return fmt.Errorf("it is empty: %w", fault.Invalid)
	case e.Off < covered:
		return fmt.Errorf("it overlaps the one before, which ends at %d: %w", covered, fault.Invalid)
	case e.Off > covered:
		return fmt.Errorf("it leaves a gap from %d: %w", covered, fault.Invalid)
	case e.Len > size-covered:
		return fmt.Errorf("it ends beyond the map: %w", fault.Invalid)
	case e.Source == nil:
		return nil
	case e.SourceOff < 0 || e.SourceOff > e.Source.Size()-e.Len:
		return fmt.Errorf("it needs bytes from %d on of a source of %d bytes: %w", e.SourceOff, e.Source.Size(), fault.Invalid)
	}
	return nil
}

// appendLeaves appends the leaves of e: the leaves of a nested map, or the
// Source under a section. It merges zeroes with zeroes just before them.
func appendLeaves(leaves []Extent, e Extent) []Extent {
	switch s := e.Source.(type) {
	case nil:
		if k := len(leaves) - 1; k >= 0 && leaves[k].Source == nil {
			leaves[k].Len += e.Len
			return leaves
		}
		return append(leaves, Extent{Off: e.Off, Len: e.Len})
	case *Map:
		for _, inner := range s.Extents(e.SourceOff, e.Len) {
			inner.Off += e.Off - e.SourceOff
			leaves = appendLeaves(leaves, inner)
		}
		return leaves
	case *section:
		// A section that reaches beyond its reader stays: it returns an error
		// where the reader would return io.EOF.
		if below, ok := s.r.(Source); ok && s.off <= below.Size()-s.n {
			e.Source, e.SourceOff = below, s.off+e.SourceOff
			return appendLeaves(leaves, e)
		}
	}
	return append(leaves, e)
}

// Size returns the map's length in bytes.
func (m *Map) Size() int64 { return m.size }

// ReadAt implements io.ReaderAt.
func (m *Map) ReadAt(p []byte, off int64) (int, error) {
	return m.ReadAtContext(context.Background(), p, off)
}

// ReadAtContext implements ContextSource. It passes ctx to the sources that
// accept one, and checks it before it reads each of the others. It wraps a
// source's error with the range of this map that could not be read. The error
// keeps the source's kind, or is fault.Unavailable.
func (m *Map) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	p, end := clip(p, off, m.size)
	n := 0
	for i := m.find(off); n < len(p); i++ {
		e := &m.leaves[i]
		at := off + int64(n)
		part := p[n:min(int64(len(p)), e.end()-off)]
		k, err := readLeaf(ctx, e, part, at-e.Off)
		n += k
		if err != nil {
			return n, fmt.Errorf("read image bytes %d to %d: %w", at, at+int64(len(part))-1, err)
		}
	}
	return n, end
}

// readLeaf fills p with the bytes of e from skip on.
func readLeaf(ctx context.Context, e *Extent, p []byte, skip int64) (int, error) {
	if e.Source != nil {
		return readFull(ctx, e.Source, p, e.SourceOff+skip)
	}
	if err := ended(ctx); err != nil {
		return 0, err
	}
	clear(p)
	return len(p), nil
}

// find returns the index of the leaf with byte off, or len(m.leaves) if off is
// beyond the end.
func (m *Map) find(off int64) int {
	return sort.Search(len(m.leaves), func(i int) bool { return m.leaves[i].end() > off })
}

// Pin implements Pinner. It succeeds if [off, off+n) is in one resolved extent
// whose source can pin it.
func (m *Map) Pin(ctx context.Context, off, n int64) (*os.File, int64, func(), error) {
	if err := within(off, n, m.size); err != nil {
		return nil, 0, nil, err
	}
	i := m.find(off)
	if n == 0 || off+n > m.leaves[i].end() {
		return nil, 0, nil, nil
	}
	e := &m.leaves[i]
	pinner, ok := e.Source.(Pinner)
	if !ok {
		return nil, 0, nil, nil
	}
	f, at, release, err := pinner.Pin(ctx, e.SourceOff+off-e.Off, n)
	if err != nil {
		return nil, 0, nil, fmt.Errorf("pin image bytes %d to %d: %w", off, off+n-1, classify(err))
	}
	return f, at, release, nil
}

// Prefetch implements Prefetcher: it passes the hint to the sources that accept
// one.
func (m *Map) Prefetch(off, n int64) {
	off, end := max(off, 0), off+min(n, m.size-off)
	for i := m.find(off); n > 0 && i < len(m.leaves) && m.leaves[i].Off < end; i++ {
		e := &m.leaves[i]
		if p, ok := e.Source.(Prefetcher); ok {
			from := max(off, e.Off)
			p.Prefetch(e.SourceOff+from-e.Off, min(end, e.end())-from)
		}
	}
}

// Extents returns the extents of [off, off+n), clipped to it. Nested maps and
// sections are resolved to their leaves. Neighbouring zeroes are merged, and
// their Source is nil. The part outside the map is left out. The offsets are
// those of this map. The slice belongs to the caller.
func (m *Map) Extents(off, n int64) []Extent {
	if n <= 0 {
		return nil
	}
	if off < 0 {
		off, n = 0, n+off
	}
	end := off + min(n, m.size-off)
	var part []Extent
	for i := m.find(off); i < len(m.leaves) && m.leaves[i].Off < end; i++ {
		e := m.leaves[i]
		skip := max(off-e.Off, 0)
		e.Len = min(e.end(), end) - e.Off - skip
		e.Off += skip
		if e.Source != nil {
			e.SourceOff += skip
		}
		part = append(part, e)
	}
	return part
}
