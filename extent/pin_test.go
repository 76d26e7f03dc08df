package extent

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"strings"
	"testing"

	"aesthetic.computer/isofs/fault"
)

// pinnable is a Pinner over a real file that counts its pins and releases.
type pinnable struct {
	file
	pins, releases int
	ctx            context.Context
	err            error
}

func (p *pinnable) Pin(ctx context.Context, off, n int64) (*os.File, int64, func(), error) {
	p.ctx = ctx
	if p.err != nil {
		return nil, 0, nil, p.err
	}
	f, at, _, err := p.file.Pin(ctx, off, n)
	p.pins++
	return f, at, func() { p.releases++ }, err
}

func TestEveryPinOfAComposite(t *testing.T) {
	f := fileOf(t, "0123456789")
	leaf := &pinnable{file: *File(f, 1, 8).(*file)}
	inner := Concat(Zeroes(2), Section(leaf, 1, 6), Bytes([]byte("ab")))
	m := Concat(Bytes([]byte("xy")), Section(inner, 1, 8), File(f, 0, 3), Section(f, 0, 2))
	// The leaf of each byte, as a letter; the lower-case ones cannot be pinned.
	const places = "aabFFFFFFcGGGdd"
	if m.Size() != int64(len(places)) {
		t.Fatalf("Size() = %d, want %d", m.Size(), len(places))
	}
	ctx := context.WithValue(context.Background(), t, "mine")
	for start := range len(places) {
		for end := start + 1; end <= len(places); end++ {
			part := places[start:end]
			one := strings.Trim(part, part[:1]) == "" && part[0] < 'a'
			got, at, release, err := m.Pin(ctx, int64(start), int64(end-start))
			if err != nil || (got != nil) != one || (release != nil) != one {
				t.Fatalf("Pin [%d,%d) = %v, %v, want a file: %v", start, end, got, err, one)
			}
			if !one {
				continue
			}
			want, pinned := make([]byte, len(part)), make([]byte, len(part))
			if _, err := m.ReadAt(want, int64(start)); err != nil {
				t.Fatal(err)
			}
			if _, err := got.ReadAt(pinned, at); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			if string(want) != string(pinned) {
				t.Errorf("pinned [%d,%d) is %q, reads as %q", start, end, pinned, want)
			}
			if part[0] == 'F' {
				if leaf.pins != 1 || leaf.releases != 0 {
					t.Fatalf("after Pin: %d pins, %d releases", leaf.pins, leaf.releases)
				}
				if leaf.ctx.Value(t) != "mine" {
					t.Error("the source got another context")
				}
			}
			release()
			if leaf.pins != leaf.releases {
				t.Fatalf("after release: %d pins, %d releases", leaf.pins, leaf.releases)
			}
			leaf.pins, leaf.releases = 0, 0
		}
	}
}

func TestPinOfASectionItself(t *testing.T) {
	f := fileOf(t, "0123456789")
	got, at, release, err := Section(File(f, 1, 9), 2, 7).(Pinner).Pin(context.Background(), 3, 4)
	if got != f || at != 6 || err != nil {
		t.Fatalf("Pin = %v at %d, %v", got, at, err)
	}
	release()
}

func TestPinOutsideTheSource(t *testing.T) {
	f := fileOf(t, "0123456789")
	for _, p := range []Pinner{
		Concat(File(f, 0, 10)),
		File(f, 0, 10).(Pinner),
		Section(File(f, 0, 10), 0, 10).(Pinner),
		Section(f, 0, 10).(Pinner),
	} {
		for _, r := range [][2]int64{{-1, 1}, {0, -1}, {0, 11}, {10, 1}, {11, 0}, {9, 2}, {1, math.MaxInt64}, {math.MaxInt64, 1}} {
			if f, _, release, err := p.Pin(context.Background(), r[0], r[1]); f != nil || release != nil || fault.Kind(err) != fault.Invalid {
				t.Errorf("%T: Pin(%d, %d) = %v, %v", p, r[0], r[1], f, err)
			}
		}
		if f, _, release, err := p.Pin(context.Background(), 5, 0); f != nil || release != nil || err != nil {
			t.Errorf("%T: Pin of nothing = %v, %v", p, f, err)
		}
	}
}

func TestPinErrors(t *testing.T) {
	leaf := &pinnable{file: *File(fileOf(t, "0123456789"), 0, 10).(*file)}
	for _, c := range []struct{ err, kind error }{
		{errDisk, fault.Unavailable},
		{&wrapped{fault.Corrupt}, fault.Corrupt},
		{context.Canceled, fault.Unavailable},
	} {
		leaf.err = c.err
		for _, s := range []Pinner{Concat(Zeroes(7), leaf), Section(Concat(Zeroes(7), leaf), 0, 17).(Pinner)} {
			f, _, release, err := s.Pin(context.Background(), 8, 3)
			if f != nil || release != nil || !errors.Is(err, c.err) || fault.Kind(err) != c.kind {
				t.Errorf("%T: Pin = %v, %v", s, f, err)
			}
			if !strings.Contains(err.Error(), "image bytes 8 to 10") {
				t.Errorf("no image range in %q", err)
			}
		}
	}
}
