package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

// A holder is a Source that can tell cheaply whether it has a piece.
type holder interface{ holds(piece.Name) bool }

// chain is what Sources returns.
type chain []Source

// Sources tries several sources in order, such as a directory before an oven.
// The first that has the piece answers. Only NotFound goes on to the next: a
// source that fails must not let another one's piece of that name slip in.
//
// Changed is asked of the source that would answer now. An oven cannot tell
// that without packing, so whatever stands behind one is looked at again at
// the oven's pace; and so is a piece that left the directory before it.
func Sources(sources ...Source) Source { return chain(slices.Clone(sources)) }

func (c chain) Fetch(ctx context.Context, name piece.Name, w io.Writer, limit int64) (Info, error) {
	for _, s := range c {
		began := &witness{w: w}
		info, err := s.Fetch(ctx, name, began, limit)
		if err == nil || !errors.Is(err, fault.NotFound) {
			return info, err
		}
		if began.wrote {
			// The next one's bytes would be appended to what is already there.
			return Info{}, fmt.Errorf("a source gave up half way: %w: %v", fault.Unavailable, err)
		}
	}
	return Info{}, fmt.Errorf("there is no piece named %s: %w in any of the places that are looked in", name, fault.NotFound)
}

// A witness knows whether anything was written.
type witness struct {
	w     io.Writer
	wrote bool
}

func (w *witness) Write(p []byte) (int, error) {
	w.wrote = w.wrote || len(p) > 0
	return w.w.Write(p)
}

// Names are those of all sources, each once, sorted.
func (c chain) Names(ctx context.Context) ([]piece.Name, error) {
	var all []piece.Name
	for _, s := range c {
		names, err := s.Names(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	slices.SortFunc(all, piece.Compare)
	return slices.Compact(all), nil
}

// Packs is asked of the source that would answer now.
func (c chain) Packs(name piece.Name) bool {
	for _, s := range c {
		if h, ok := s.(holder); ok && !h.holds(name) {
			continue
		}
		p, ok := s.(Packer)
		return ok && p.Packs(name)
	}
	return false
}

func (c chain) Changed(ctx context.Context, name piece.Name, had Info, age time.Duration) bool {
	for _, s := range c {
		if h, ok := s.(holder); ok && !h.holds(name) {
			continue
		}
		return s.Changed(ctx, name, had, age)
	}
	return true // nobody has it any more
}
