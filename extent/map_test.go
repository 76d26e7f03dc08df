package extent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"aesthetic.computer/isofs/fault"
)

// fileOf returns an open file with this content.
func fileOf(t testing.TB, content string) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func mustNew(t testing.TB, size int64, extents ...Extent) *Map {
	t.Helper()
	m, err := New(size, extents)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// composite is a small map with every kind of source in it, nested two deep,
// and the string that it must read as.
func composite(t testing.TB) (*Map, string) {
	inner := Concat(Bytes([]byte("ABCD")), Zeroes(3), Section(strings.NewReader("0123456789"), 2, 5))
	middle := Concat(Bytes([]byte("<")), Section(inner, 1, 9), Zeroes(0), Bytes([]byte(">")))
	m := mustNew(t, 34,
		Extent{Off: 0, Len: 4, Source: Bytes([]byte("xxhead")), SourceOff: 2},
		Extent{Off: 4, Len: 5},
		Extent{Off: 9, Len: 10, Source: middle, SourceOff: 1},
		Extent{Off: 19, Len: 4, Source: File(fileOf(t, "..file...."), 2, 4)},
		Extent{Off: 23, Len: 2, Source: Zeroes(5), SourceOff: 3},
		Extent{Off: 25, Len: 9, Source: Section(Section(strings.NewReader("a long tail"), 2, 9), 0, 9)},
	)
	return m, "head" + "\x00\x00\x00\x00\x00" + "BCD\x00\x00\x002345"[:9] + ">" + "file" + "\x00\x00" + "long tail"
}

func TestEveryRangeOfAComposite(t *testing.T) {
	m, want := composite(t)
	sources := map[string]Source{
		"map":             m,
		"section of map":  Section(Concat(Bytes([]byte("abc")), m, Zeroes(2)), 3, m.Size()),
		"concat of parts": Concat(Section(m, 0, 7), Section(m, 7, 6), Section(m, 13, m.Size()-13)),
	}
	for name, s := range sources {
		if s.Size() != int64(len(want)) {
			t.Fatalf("%s: Size() = %d, want %d", name, s.Size(), len(want))
		}
		for start := 0; start <= len(want)+1; start++ {
			for end := start; end <= len(want)+2; end++ {
				p := []byte(strings.Repeat("!", end-start))
				n, err := s.ReadAt(p, int64(start))
				wantErr := error(nil)
				if end > len(want) && len(p) > 0 {
					wantErr = io.EOF
				}
				from := min(start, len(want))
				if got := string(p[:n]); got != want[from:max(from, min(end, len(want)))] || err != wantErr {
					t.Errorf("%s: ReadAt [%d,%d) = %q, %v", name, start, end, got, err)
				}
				if rest := string(p[n:]); strings.Trim(rest, "!") != "" {
					t.Errorf("%s: ReadAt [%d,%d) wrote %q behind the %d bytes it returned", name, start, end, rest, n)
				}
			}
		}
	}
}

func TestReaderOverASectionReader(t *testing.T) {
	m, want := composite(t)
	for _, s := range []Source{m, Section(m, 0, m.Size()), Bytes([]byte(want))} {
		if err := iotest.TestReader(io.NewSectionReader(s, 0, s.Size()), []byte(want)); err != nil {
			t.Error(err)
		}
	}
}

func TestNegativeOffset(t *testing.T) {
	m, _ := composite(t)
	for _, s := range []Source{m, Bytes([]byte("a")), Zeroes(1), Section(strings.NewReader("a"), 0, 1), File(fileOf(t, "a"), 0, 1)} {
		for _, p := range [][]byte{nil, make([]byte, 1)} {
			if n, err := s.ReadAt(p, -1); n != 0 || !errors.Is(err, fault.Invalid) {
				t.Errorf("%T: ReadAt(%d bytes, -1) = %d, %v", s, len(p), n, err)
			}
		}
		if n, err := s.ReadAt(make([]byte, 1), math.MaxInt64); n != 0 || err != io.EOF {
			t.Errorf("%T: ReadAt at the largest offset = %d, %v", s, n, err)
		}
	}
}

func TestEmptyMap(t *testing.T) {
	for _, m := range []*Map{new(Map), Concat(), Concat(Zeroes(0), Bytes(nil)), mustNew(t, 0)} {
		if n, err := m.ReadAt(make([]byte, 1), 0); n != 0 || err != io.EOF || m.Size() != 0 {
			t.Errorf("ReadAt = %d, %v; Size = %d", n, err, m.Size())
		}
		if e := m.Extents(0, 10); e != nil {
			t.Errorf("Extents = %v", e)
		}
		if f, _, _, err := m.Pin(context.Background(), 0, 0); f != nil || err != nil {
			t.Errorf("Pin = %v, %v", f, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	ten := Bytes(make([]byte, 10))
	for name, c := range map[string]struct {
		size    int64
		extents []Extent
	}{
		"a negative size":                {-1, nil},
		"no extents for a size":          {1, nil},
		"a gap at the start":             {4, []Extent{{Off: 1, Len: 3}}},
		"a gap in the middle":            {4, []Extent{{Off: 0, Len: 1}, {Off: 2, Len: 2}}},
		"a gap at the end":               {4, []Extent{{Off: 0, Len: 3}}},
		"an overlap":                     {4, []Extent{{Off: 0, Len: 3}, {Off: 2, Len: 2}}},
		"descending extents":             {4, []Extent{{Off: 2, Len: 2}, {Off: 0, Len: 2}}},
		"an empty extent":                {4, []Extent{{Off: 0, Len: 0}, {Off: 0, Len: 4}}},
		"an empty extent in an empty":    {0, []Extent{{Off: 0, Len: 0}}},
		"a negative length":              {4, []Extent{{Off: 0, Len: 5}, {Off: 5, Len: -1}}},
		"an end beyond the map":          {4, []Extent{{Off: 0, Len: 5}}},
		"an extent behind the end":       {4, []Extent{{Off: 0, Len: 4}, {Off: 4, Len: 1}}},
		"an end that overflows":          {math.MaxInt64, []Extent{{Off: 0, Len: 1}, {Off: 1, Len: math.MaxInt64}}},
		"a negative offset":              {4, []Extent{{Off: -1, Len: 5}}},
		"a source that is too short":     {11, []Extent{{Off: 0, Len: 11, Source: ten}}},
		"an offset behind the source":    {4, []Extent{{Off: 0, Len: 4, Source: ten, SourceOff: 7}}},
		"a source offset that overflows": {4, []Extent{{Off: 0, Len: 4, Source: ten, SourceOff: math.MaxInt64}}},
		"a negative source offset":       {4, []Extent{{Off: 0, Len: 4, Source: ten, SourceOff: -1}}},
	} {
		if m, err := New(c.size, c.extents); m != nil || fault.Kind(err) != fault.Invalid {
			t.Errorf("New with %s = %v, %v", name, m, err)
		}
	}
}

func TestExtentsAreResolvedAndClipped(t *testing.T) {
	base, data := &flat{content: "0123456789"}, Bytes([]byte("abcdef"))
	volume := Concat(Zeroes(2), Section(data, 1, 4), Zeroes(3))
	m := mustNew(t, 22,
		Extent{Off: 0, Len: 8, Source: base, SourceOff: 1},
		Extent{Off: 8, Len: 1},
		Extent{Off: 9, Len: 9, Source: volume},
		Extent{Off: 18, Len: 1, SourceOff: 99},
		Extent{Off: 19, Len: 3, Source: Section(Section(base, 2, 5), 1, 4), SourceOff: 1},
	)
	all := []Extent{{0, 8, base, 1}, {8, 3, nil, 0}, {11, 4, data, 1}, {15, 4, nil, 0}, {19, 3, base, 4}}
	for _, c := range []struct {
		name   string
		off, n int64
		want   []Extent
	}{
		{"the whole", 0, 22, all},
		{"more than the whole", -5, math.MaxInt64, all},
		{"nothing", 5, 0, nil},
		{"less than nothing", 5, -1, nil},
		{"before the map", -5, 5, nil},
		{"far before the map", math.MinInt64, math.MaxInt64, nil},
		{"before the map and its first byte", -5, 6, []Extent{{0, 1, base, 1}}},
		{"behind the map", 22, 1, nil},
		{"far behind the map", math.MaxInt64, math.MaxInt64, nil},
		{"inside one", 3, 2, []Extent{{3, 2, base, 4}}},
		{"exactly one", 11, 4, all[2:3]},
		{"a border", 7, 2, []Extent{{7, 1, base, 8}, {8, 1, nil, 0}}},
		{"parts of three", 10, 6, []Extent{{10, 1, nil, 0}, {11, 4, data, 1}, {15, 1, nil, 0}}},
		{"the last byte", 21, 9, []Extent{{21, 1, base, 6}}},
	} {
		if got := m.Extents(c.off, c.n); !reflect.DeepEqual(got, c.want) {
			t.Errorf("extents of %s: %v, want %v", c.name, got, c.want)
		}
	}
	m.Extents(0, 22)[0].Source = nil
	if m.Extents(0, 1)[0].Source != base {
		t.Error("changing the result changed the map")
	}
}

func TestASectionBeyondItsSourceStaysAnError(t *testing.T) {
	for _, below := range []Source{Bytes([]byte("abc")), Concat(Bytes([]byte("abc"))), Zeroes(3)} {
		m := Concat(Section(below, 1, 5))
		if n, err := m.ReadAt(make([]byte, 5), 0); n != 2 || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%T: ReadAt = %d, %v", below, n, err)
		}
	}
}

func TestZeroesOverwriteTheBuffer(t *testing.T) {
	const size = 1 << 50 // too large to hold in memory
	m := Concat(Bytes([]byte("a")), Zeroes(size-2), Bytes([]byte("z")))
	p := []byte("dirty")
	if n, err := m.ReadAt(p, size/2); n != 5 || err != nil || string(p) != "\x00\x00\x00\x00\x00" {
		t.Errorf("ReadAt = %d, %v, %q", n, err, p)
	}
	if n, err := m.ReadAt(p, size-3); n != 3 || err != io.EOF || string(p[:3]) != "\x00\x00z" {
		t.Errorf("ReadAt = %d, %v, %q", n, err, p)
	}
}

func TestWrongUsePanics(t *testing.T) {
	for name, f := range map[string]func(){
		"Section before the start": func() { Section(strings.NewReader(""), -1, 1) },
		"Section of less than 0":   func() { Section(strings.NewReader(""), 0, -1) },
		"Section that overflows":   func() { Section(strings.NewReader(""), math.MaxInt64, 1) },
		"File of less than 0":      func() { File(nil, 0, -1) },
		"Zeroes of less than 0":    func() { Zeroes(-1) },
		"Concat that overflows":    func() { Concat(Zeroes(math.MaxInt64), Zeroes(1)) },
	} {
		func() {
			defer func() {
				if msg := fmt.Sprint(recover()); !strings.HasPrefix(msg, "extent.") {
					t.Errorf("%s: panic says %q", name, msg)
				}
			}()
			f()
		}()
	}
}
