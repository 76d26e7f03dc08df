package extent

import (
	"bytes"
	"io"
	"testing"

	"aesthetic.computer/isofs/fault"
)

// FuzzNew builds maps of random extents. A model that paints byte by byte says
// whether New must accept them, and which bytes they must read as.
func FuzzNew(f *testing.F) {
	f.Add(int8(6), []byte{0, 3, 0, 1, 3, 3, 0, 0})                // memory, zeroes
	f.Add(int8(8), []byte{0, 4, 1, 2, 4, 4, 2, 3})                // a nested map, a section
	f.Add(int8(4), []byte{0, 3, 0, 1, 2, 2, 0, 1})                // an overlap
	f.Add(int8(9), []byte{0, 2, 9, 2, 2, 2, 11, 3, 4, 5, 200, 0}) // beyond the source
	memory := []byte("0123456789abcdef")
	nested := Concat(Bytes([]byte("ABC")), Zeroes(2), Section(Bytes(memory), 4, 6), Zeroes(1), Bytes([]byte("XYZ!")))
	section := Section(nested, 2, 12)
	sources := []Source{nil, Bytes(memory), nested, section, Zeroes(10)}
	content := make([][]byte, len(sources))
	for i, s := range sources[1:] {
		content[i+1] = make([]byte, s.Size())
		if _, err := s.ReadAt(content[i+1], 0); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, size int8, spec []byte) {
		var extents []Extent
		painted := []byte{}
		ok := true
		for ; len(spec) >= 4; spec = spec[4:] {
			k := int(spec[3]) % len(sources)
			e := Extent{int64(int8(spec[0])), int64(int8(spec[1])), sources[k], int64(int8(spec[2]))}
			extents = append(extents, e)
			ok = ok && e.Len > 0 && e.Off == int64(len(painted))
			for i := e.SourceOff; ok && i < e.SourceOff+e.Len; i++ {
				if sources[k] == nil {
					painted = append(painted, 0)
				} else if ok = i >= 0 && i < int64(len(content[k])); ok {
					painted = append(painted, content[k][i])
				}
			}
		}
		ok = ok && int(size) == len(painted)

		m, err := New(int64(size), extents)
		if (err == nil) != ok || err != nil && fault.Kind(err) != fault.Invalid {
			t.Fatalf("New(%d, %v): %v, the model accepts: %v", size, extents, err, ok)
		}
		if err != nil {
			return
		}
		compare(t, m, painted)
		rebuilt, err := New(m.Size(), m.Extents(0, m.Size()))
		if err != nil {
			t.Fatalf("extents of a map are no map: %v", err)
		}
		compare(t, rebuilt, painted)
	})
}

// compare reads every prefix, every suffix and every byte of m.
func compare(t *testing.T, m *Map, want []byte) {
	t.Helper()
	for i := range want {
		for _, r := range [][2]int{{0, i + 1}, {i, len(want)}, {i, i + 1}} {
			p := make([]byte, r[1]-r[0]+1)[:r[1]-r[0]]
			if n, err := m.ReadAt(p, int64(r[0])); n != len(p) || err != nil || !bytes.Equal(p, want[r[0]:r[1]]) {
				t.Fatalf("bytes [%d,%d) read as %q, %v, want %q", r[0], r[1], p[:n], err, want[r[0]:r[1]])
			}
		}
	}
	if n, err := m.ReadAt(make([]byte, 1), int64(len(want))); n != 0 || err != io.EOF {
		t.Fatalf("read at the end = %d, %v", n, err)
	}
}
