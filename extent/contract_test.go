package extent

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"aesthetic.computer/isofs/fault"
)

// flat is a well-behaved Source of a string. The nasty leaves embed it and
// override one method.
type flat struct{ content string }

func (f *flat) Size() int64 { return int64(len(f.content)) }

func (f *flat) ReadAt(p []byte, off int64) (int, error) {
	return strings.NewReader(f.content).ReadAt(p, off)
}

// nasty is a Source whose ReadAt goes through twist.
type nasty struct {
	flat
	twist func(f *flat, p []byte, off int64) (int, error)
}

func (s *nasty) ReadAt(p []byte, off int64) (int, error) { return s.twist(&s.flat, p, off) }

var errDisk = errors.New("disk on fire")

func TestNastyLeaves(t *testing.T) {
	for _, c := range []struct {
		name  string
		twist func(f *flat, p []byte, off int64) (int, error)
		n     int   // of the 8 bytes of the leaf, how many count as read
		is    error // nil: the read succeeds
		kind  error
	}{
		{"a full read that comes with EOF", func(f *flat, p []byte, off int64) (int, error) {
			n, _ := f.ReadAt(p, off)
			return n, io.EOF
		}, 8, nil, nil},
		{"a full read that comes with a wrapped EOF", func(f *flat, p []byte, off int64) (int, error) {
			n, _ := f.ReadAt(p, off)
			return n, &wrapped{io.EOF}
		}, 8, nil, nil},
		{"EOF early", func(f *flat, p []byte, off int64) (int, error) {
			n, _ := f.ReadAt(p[:len(p)/2], off)
			return n, io.EOF
		}, 4, io.ErrUnexpectedEOF, fault.Corrupt},
		{"wrapped EOF early", func(f *flat, p []byte, off int64) (int, error) {
			return 0, &wrapped{io.EOF}
		}, 0, io.ErrUnexpectedEOF, fault.Corrupt},
		{"one byte at a time", func(f *flat, p []byte, off int64) (int, error) {
			return f.ReadAt(p[:1], off)
		}, 1, io.ErrUnexpectedEOF, fault.Corrupt},
		{"nothing and no error", func(f *flat, p []byte, off int64) (int, error) {
			return 0, nil
		}, 0, io.ErrUnexpectedEOF, fault.Corrupt},
		{"more than was asked for", func(f *flat, p []byte, off int64) (int, error) {
			return len(p) + 1, nil
		}, 0, fault.Corrupt, fault.Corrupt},
		{"less than nothing", func(f *flat, p []byte, off int64) (int, error) {
			return -1, io.EOF
		}, 0, fault.Corrupt, fault.Corrupt},
		{"an error in the middle", func(f *flat, p []byte, off int64) (int, error) {
			n, _ := f.ReadAt(p[:3], off)
			return n, errDisk
		}, 3, errDisk, fault.Unavailable},
		{"an error with a full read", func(f *flat, p []byte, off int64) (int, error) {
			n, _ := f.ReadAt(p, off)
			return n, errDisk
		}, 8, errDisk, fault.Unavailable},
		{"an error that has its kind already", func(f *flat, p []byte, off int64) (int, error) {
			return 0, &wrapped{fault.NotFound}
		}, 0, fault.NotFound, fault.NotFound},
	} {
		leaf := &nasty{flat{"abcdefgh"}, c.twist}
		sources := map[string]Source{
			"extent":            mustNew(t, 12, Extent{0, 2, Bytes([]byte("<<")), 0}, Extent{2, 8, leaf, 0}, Extent{10, 2, Bytes([]byte(">>")), 0}),
			"section":           Concat(Bytes([]byte("<<")), Section(leaf, 0, 8), Bytes([]byte(">>"))),
			"section of reader": Concat(Bytes([]byte("<<")), Section(struct{ io.ReaderAt }{leaf}, 0, 8), Bytes([]byte(">>"))),
			"section itself":    Section(Concat(Bytes([]byte("<<")), leaf, Bytes([]byte(">>"))), 0, 12),
		}
		for name, s := range sources {
			p := make([]byte, 12)
			n, err := s.ReadAt(p, 0)
			if c.is == nil {
				if n != 12 || err != nil || string(p) != "<<abcdefgh>>" {
					t.Errorf("%s as %s: %d, %v, %q", c.name, name, n, err, p)
				}
				continue
			}
			if n != 2+c.n || !errors.Is(err, c.is) || fault.Kind(err) != c.kind || errors.Is(err, io.EOF) {
				t.Errorf("%s as %s: %d, %v", c.name, name, n, err)
			}
			if string(p[:n]) != "<<abcdefgh>>"[:n] {
				t.Errorf("%s as %s: counted bytes are %q", c.name, name, p[:n])
			}
			if err != nil && !strings.Contains(err.Error(), "image bytes 2 to 9") {
				t.Errorf("%s as %s: no image range in %q", c.name, name, err)
			}
		}
	}
}

type wrapped struct{ err error }

func (w *wrapped) Error() string { return "wrapped: " + w.err.Error() }
func (w *wrapped) Unwrap() error { return w.err }

func TestEveryErrorIsOfOneKind(t *testing.T) {
	truncated := fileOf(t, "abc")
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	live := context.Background()
	for _, c := range []struct {
		ctx  context.Context
		s    Source
		want error
	}{
		{live, File(truncated, 1, 5), fault.Corrupt},
		{live, Section(truncated, 1, 5), fault.Corrupt},
		{live, &nasty{flat{"ab"}, func(*flat, []byte, int64) (int, error) { return 0, errDisk }}, fault.Unavailable},
		{ended, Zeroes(5), fault.Unavailable},
	} {
		_, err := Concat(c.s).ReadAtContext(c.ctx, make([]byte, c.s.Size()), 0)
		kinds := 0
		for _, k := range []error{fault.NotFound, fault.Corrupt, fault.Unavailable, fault.Invalid} {
			if errors.Is(err, k) {
				kinds++
			}
		}
		if kinds != 1 || !errors.Is(err, c.want) {
			t.Errorf("%v is of %d kinds, want %v alone", err, kinds, c.want)
		}
	}
}

// waiting is a ContextSource that remembers its context, and can end it.
type waiting struct {
	flat
	got    context.Context
	cancel func()
}

func (w *waiting) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	w.got = ctx
	if w.cancel != nil {
		w.cancel()
		return 0, ctx.Err()
	}
	return w.ReadAt(p, off)
}

func TestContextReachesTheSources(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), key{}, "mine"))
	defer cancel()
	w := &waiting{flat: flat{"abcdef"}}
	m := Concat(Bytes([]byte("<")), Section(Concat(Section(struct{ *waiting }{w}, 1, 4)), 0, 4), Bytes([]byte(">")))
	p := make([]byte, 6)
	if n, err := m.ReadAtContext(ctx, p, 0); n != 6 || err != nil || string(p) != "<bcde>" {
		t.Fatalf("ReadAtContext = %d, %v, %q", n, err, p)
	}
	if w.got == nil || w.got.Value(key{}) != "mine" {
		t.Error("the source got another context")
	}

	w.cancel = cancel
	if n, err := m.ReadAtContext(ctx, p, 0); n != 1 || !errors.Is(err, context.Canceled) || fault.Kind(err) != fault.Unavailable {
		t.Errorf("ended while reading: %d, %v", n, err)
	}
	if n, err := m.ReadAt(p[:1], 5); n != 1 || err != nil {
		t.Errorf("ReadAt without a context: %d, %v", n, err)
	}
}

func TestContextIsAskedBeforeEachOtherSource(t *testing.T) {
	for name, s := range map[string]Source{"bytes": Bytes([]byte("xx")), "zeroes": Zeroes(2), "section": Section(strings.NewReader("xx"), 0, 2), "file": File(fileOf(t, "xx"), 0, 2)} {
		ctx, cancel := context.WithCancel(context.Background())
		ending := &nasty{flat{"ab"}, func(f *flat, p []byte, off int64) (int, error) {
			cancel()
			return f.ReadAt(p, off)
		}}
		m := Concat(ending, s)
		p := []byte("!!!!")
		n, err := m.ReadAtContext(ctx, p, 0)
		if n != 2 || string(p) != "ab!!" || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %d, %v, %q", name, n, err, p)
		}
	}
}

// TestConcurrentReads is for the race detector; it also compares.
func TestConcurrentReads(t *testing.T) {
	m, want := composite(t)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(g)))
			for range 2000 {
				off := r.IntN(len(want))
				p := make([]byte, r.IntN(len(want)-off+1))
				if n, err := m.ReadAt(p, int64(off)); n != len(p) || err != nil || string(p) != want[off:off+n] {
					t.Errorf("ReadAt(%d bytes, %d) = %d, %v, %q", len(p), off, n, err, p)
					return
				}
				m.Extents(int64(off), int64(len(p)))
				runtime.Gosched()
			}
		})
	}
	wg.Wait()
}
