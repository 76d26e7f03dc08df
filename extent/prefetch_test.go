package extent

import (
	"fmt"
	"slices"
	"testing"
)

// advised is a Source that remembers the hints that it got.
type advised struct {
	Source
	got []string
}

func (a *advised) Prefetch(off, n int64) { a.got = append(a.got, fmt.Sprintf("%d+%d", off, n)) }

func TestPrefetchReachesTheSources(t *testing.T) {
	for _, row := range []struct {
		off, n      int64
		first, last []string
	}{
		{0, 30, []string{"3+7"}, []string{"2+8"}},
		{-5, 1 << 40, []string{"3+7"}, []string{"2+8"}},
		{6, 1, []string{"9+1"}, nil},
		{7, 4, nil, nil},
		{19, 3, nil, []string{"2+2"}},
		{28, 5, nil, nil},
		{28, 0, nil, nil},
		{2, 0, nil, nil},
		{2, -1, nil, nil},
	} {
		first, last := &advised{Source: Zeroes(10)}, &advised{Source: Zeroes(20)}
		m := Concat(Section(first, 3, 7), Zeroes(13), Section(last, 2, 8))
		m.Prefetch(row.off, row.n)
		if !slices.Equal(first.got, row.first) || !slices.Equal(last.got, row.last) {
			t.Errorf("Prefetch(%d, %d): the sources were advised of %v and %v, want %v and %v",
				row.off, row.n, first.got, last.got, row.first, row.last)
		}
	}
}
