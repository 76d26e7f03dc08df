package bundle

import (
	"context"
	"crypto/sha256"
	"embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

//go:embed pieces/*.html
var pieces embed.FS

// embeddedTime is the ModTime of every embedded bundle. go:embed keeps no
// times, and the same binary must give the same time everywhere. The date has
// no meaning: change it by hand with a piece, for people who look at dates.
const embeddedTime = 1767225600 // 2026-01-01 00:00:00 UTC, seconds since 1970

type embedded struct{}

var (
	_ Source = embedded{}
	_ holder = embedded{}
)

// Embedded returns the pieces in the binary. Neither fetching nor running them
// needs a network. Their ModTime is a constant.
func Embedded() Source { return embedded{} }

func (embedded) path(name piece.Name) string { return "pieces/" + name.Stem() + pageSuffix }

func (e embedded) Fetch(ctx context.Context, name piece.Name, w io.Writer, limit int64) (Info, error) {
	if name.IsZero() {
		return Info{}, fmt.Errorf("fetch a bundle: %w: the name is empty", fault.Invalid)
	}
	data, err := pieces.ReadFile(e.path(name))
	if err != nil {
		return Info{}, fmt.Errorf("fetch %s: %w: it is not among the embedded pieces", name, fault.NotFound)
	}
	to := newSink(w, name, limit)
	if err = ctx.Err(); err == nil {
		_, err = to.Write(data)
	}
	if err != nil && fault.Kind(err) == nil {
		err = fmt.Errorf("%w: %w", fault.Unavailable, err)
	}
	if err != nil {
		return Info{}, fmt.Errorf("fetch the embedded %s: %w", name, err)
	}
	return to.info(time.Unix(embeddedTime, 0)), nil
}

func (embedded) Names(context.Context) ([]piece.Name, error) {
	entries, err := pieces.ReadDir("pieces")
	if err != nil {
		return nil, fmt.Errorf("list the embedded pieces: %w: %w", fault.Unavailable, err)
	}
	var names []piece.Name
	for _, entry := range entries {
		name, err := piece.ParseStem(strings.TrimSuffix(entry.Name(), pageSuffix))
		if err != nil {
			return nil, fmt.Errorf("embedded %s: %w", entry.Name(), err)
		}
		names = append(names, name)
	}
	slices.SortFunc(names, piece.Compare)
	return names, nil
}

// Changed compares the content: info may come from another binary.
func (e embedded) Changed(_ context.Context, name piece.Name, info Info, _ time.Duration) bool {
	data, err := pieces.ReadFile(e.path(name))
	return err != nil || sha256.Sum256(data) != info.SHA256
}

func (e embedded) holds(name piece.Name) bool {
	_, err := pieces.ReadFile(e.path(name))
	return err == nil
}
