package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

// A fake source always gives the same answer. Like an oven, it cannot tell
// which pieces it has.
type fake struct {
	body  string
	err   error
	calls int
}

func (f *fake) Fetch(_ context.Context, name piece.Name, w io.Writer, limit int64) (Info, error) {
	f.calls++
	to := newSink(w, name, limit)
	io.WriteString(to, f.body)
	return to.info(noon()), f.err
}
func (f *fake) Names(context.Context) ([]piece.Name, error) { return nil, f.err }
func (f *fake) Changed(_ context.Context, _ piece.Name, _ Info, age time.Duration) bool {
	f.calls++
	return age > time.Hour
}

func TestSourcesInOrder(t *testing.T) {
	empty := func() *fake { return &fake{err: fmt.Errorf("no: %w", fault.NotFound)} }
	ill := func() *fake { return &fake{err: fmt.Errorf("ill: %w", fault.Unavailable)} }
	tests := []struct {
		says    string
		sources []*fake
		want    string
		kind    error
		asked   int
	}{
		{"the first that has it", []*fake{{body: "a"}, {body: "b"}}, "a", nil, 1},
		{"the second, as the first lacks it", []*fake{empty(), {body: "b"}, {body: "c"}}, "b", nil, 2},
		{"a failure stops", []*fake{empty(), ill(), {body: "c"}}, "", fault.Unavailable, 2},
		{"none has it", []*fake{empty(), empty()}, "", fault.NotFound, 2},
		{"there are none", nil, "", fault.NotFound, 0},
		{"not found, after all", []*fake{{body: "a", err: fault.NotFound}, {body: "b"}}, "a", fault.Unavailable, 1},
	}
	for _, tt := range tests {
		var chain []Source
		for _, f := range tt.sources {
			chain = append(chain, f)
		}
		var body bytes.Buffer
		_, err := Sources(chain...).Fetch(t.Context(), mustName(t, "x"), &body, 10)
		asked := 0
		for _, f := range tt.sources {
			asked += f.calls
		}
		if fault.Kind(err) != tt.kind || body.String() != tt.want || asked != tt.asked {
			t.Errorf("%s: %v with %q after %d sources", tt.says, err, body.String(), asked)
		}
	}
}

func TestSourcesChanged(t *testing.T) {
	d := dir(t, map[string]string{"mine.html": page})
	mine, theirs, notepat := mustName(t, "mine"), mustName(t, "theirs"), mustName(t, "notepat")
	s := Sources(d, Embedded(), &fake{body: "packed"})
	fetched := map[piece.Name]Info{}
	for _, n := range []piece.Name{mine, theirs, notepat} {
		info, err := s.Fetch(t.Context(), n, io.Discard, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		fetched[n] = info
	}
	check := func(when string, n piece.Name, age time.Duration, want bool) {
		t.Helper()
		if got := s.Changed(t.Context(), n, fetched[n], age); got != want {
			t.Errorf("%s: %s changed %v, want %v", when, n, got, want)
		}
	}
	check("a file does not age", mine, 9*time.Hour, false)
	check("nor does what is embedded", notepat, 9*time.Hour, false)
	check("the oven's is young", theirs, time.Minute, false)
	check("the oven's is old", theirs, 2*time.Hour, true)
	put(t, filepath.Join(d.path, "theirs.html"), page)
	check("a file now comes before the oven", theirs, time.Minute, true)
	if err := os.Remove(filepath.Join(d.path, "mine.html")); err != nil {
		t.Fatal(err)
	}
	check("the file went away", mine, 2*time.Hour, true)
	s = Sources(d)
	check("no source has it", mine, time.Minute, true)
}

func TestSourcesNames(t *testing.T) {
	d := dir(t, map[string]string{"zebra.html": page, "notepat.html": page})
	names, err := Sources(d, Embedded(), oven(t, nil, OvenOptions{})).Names(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(names, piece.Compare) || len(slices.Compact(slices.Clone(names))) != len(names) ||
		!slices.Contains(names, mustName(t, "zebra")) || !slices.Contains(names, mustName(t, "notepat")) {
		t.Errorf("names %v", names)
	}
	if _, err := Sources(d, &fake{err: fault.Unavailable}).Names(t.Context()); !errors.Is(err, fault.Unavailable) {
		t.Errorf("a source that fails: %v", err)
	}
}

// The source that would answer decides whether a piece's bundle depends on the
// density.
func TestWhatIsPacked(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "here.html"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	folder, err := NewDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	oven, err := NewOven("http://127.0.0.1:1", OvenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		piece   string
		sources []Source
		want    bool
	}{
		{"here", []Source{folder, Embedded(), oven}, false},
		{"notepat", []Source{folder, Embedded(), oven}, false},
		{"elsewhere", []Source{folder, Embedded(), oven}, true},
		{"elsewhere", []Source{folder, Embedded()}, false},
		{"here", []Source{oven, folder}, true},
		{"here", []Source{&fake{}, oven}, false}, // a source that cannot tell does not pack
	} {
		p, ok := Sources(tt.sources...).(Packer)
		if name := mustName(t, tt.piece); !ok || p.Packs(name) != tt.want || p.Packs(name.WithDensity(4)) != tt.want {
			t.Errorf("%s of %d sources: packed, want %v", tt.piece, len(tt.sources), tt.want)
		}
	}
}
