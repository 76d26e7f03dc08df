package extent

import (
	"fmt"
	"io"
	"math"
)

// Concat makes a map of the sources one after the other, without empty ones. It
// panics if together they have more than math.MaxInt64 bytes.
func Concat(sources ...Source) *Map {
	m := new(Map)
	for _, s := range sources {
		n := s.Size()
		if n < 0 || n > math.MaxInt64-m.size {
			panic(fmt.Sprintf("extent.Concat: a source of %d bytes after %d bytes", n, m.size))
		}
		if n > 0 {
			m.leaves = appendLeaves(m.leaves, Extent{Off: m.size, Len: n, Source: s})
			m.size += n
		}
	}
	return m
}

// Zeroes returns a Source of n zero bytes. It panics if n is negative.
func Zeroes(n int64) Source {
	if n < 0 {
		panic(fmt.Sprintf("extent.Zeroes: %d bytes", n))
	}
	if n == 0 {
		return new(Map)
	}
	m, err := New(n, []Extent{{Len: n}})
	if err != nil {
		panic(err)
	}
	return m
}

// Section is newSection as a Source.
func Section(r io.ReaderAt, off, n int64) Source {
	return newSection("extent.Section", r, off, n)
}
