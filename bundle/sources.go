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

// chain is the Source of Sources.
type chain []Source

// Sources tries several sources in order, such as a directory before an oven.
// The first with the piece answers. Only NotFound leads to the next: when a
// source fails, another one's piece of that name must not take its place.
//
// Changed asks the source that would answer now. An oven cannot tell without
// packing. So the sources behind one are checked again at the oven's pace, and
// so is a piece that left the directory before it.
func Sources(sources ...Source) Source { return chain(slices.Clone(sources)) }

func (c chain) Fetch(ctx context.Context, name piece.Name, w io.Writer, limit int64) (Info, error) {
	for _, s := range c {
		began := &witness{w: w}
		info, err := s.Fetch(ctx, name, began, limit)
		if err == nil || !errors.Is(err, fault.NotFound) {
			return info, err
		}
		if began.wrote {
			// The next one's bytes would be appended to those already written.
			return Info{}, fmt.Errorf("a source gave up half way: %w: %v", fault.Unavailable, err)
		}
	}
	return Info{}, fmt.Errorf("there is no piece named %s: %w in all sources", name, fault.NotFound)
}

// A witness reports whether anything was written.
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

// Packs asks the source that would answer now.
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

func (c chain) Changed(ctx context.Context, name piece.Name, info Info, age time.Duration) bool {
	for _, s := range c {
		if h, ok := s.(holder); ok && !h.holds(name) {
			continue
		}
		return s.Changed(ctx, name, info, age)
	}
	return true // no source has it any more
}
