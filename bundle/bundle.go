// Package bundle fetches the bundles of pieces (one HTML file each) from an
// oven, a directory or the binary itself, and keeps them on disk under their
// SHA-256.
//
// It leaves out when to fetch: refreshing, holding, retrying and forgetting are
// the catalog's. It never looks into a bundle, apart from its <title> and what
// its head says of a boot splash, and does not know what becomes of one (volumes and images).
package bundle

import (
	"context"
	"fmt"
	"io"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

// Info says what was fetched.
type Info struct {
	SHA256  [32]byte
	Size    int64     // bytes
	ModTime time.Time // whole seconds, UTC: when the bundle was made, as its source tells it
	Title   string    // of the HTML's <title>, or the name; at most 100 runes, one line
	Splash  Splash    // what its head, or a file beside it, says of one
	// PNG is the picture of Splash, from Fetch; whoever stores it lets go of it.
	PNG string
	// Beside is by what the source knows again what lay beside the bundle.
	Beside string
	Note   string // what was left out of Splash and why, for the log
}

// A Source has bundles: an oven, or a directory.
type Source interface {
	// Fetch writes the bundle of name to w, at most limit bytes of it.
	// Errors wrap fault.NotFound, Unavailable or Invalid (*TooLargeError).
	// On error w may have been written to.
	Fetch(ctx context.Context, name piece.Name, w io.Writer, limit int64) (Info, error)
	// Names lists the pieces that are known without asking for each; an oven has none.
	Names(ctx context.Context) ([]piece.Name, error)
	// Changed reports cheaply whether the bundle of name may be another than
	// the one that had info: a directory looks at the file, an oven goes by age.
	Changed(ctx context.Context, name piece.Name, had Info, age time.Duration) bool
}

// A Packer is a Source that has some bundles made when they are asked for, and
// so can have them made for another pixel density (Name.WithDensity).
type Packer interface {
	// Packs reports whether the bundle of name would be one of these.
	Packs(name piece.Name) bool
}

// A TooLargeError says that a bundle exceeds the limit. It wraps fault.Invalid.
type TooLargeError struct {
	Name  piece.Name
	Limit int64 // bytes; Size is at least one more
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the bundle of %s is larger than the %d bytes that fit into an image", e.Name, e.Limit)
}

func (e *TooLargeError) Unwrap() error { return fault.Invalid }

// A BusyError says that the oven asked to be left alone for a while (HTTP 429
// or 503). It wraps fault.Unavailable.
type BusyError struct {
	Name  piece.Name
	After time.Duration // what its Retry-After says, at most an hour; 0 if it says nothing
}

func (e *BusyError) Error() string {
	if e.After == 0 {
		return fmt.Sprintf("the oven is too busy to pack %s; try again later", e.Name)
	}
	return fmt.Sprintf("the oven is too busy to pack %s; try again in %s", e.Name, e.After)
}

func (e *BusyError) Unwrap() error { return fault.Unavailable }

// A TimeoutError says that the oven took longer than it may. It wraps
// fault.Unavailable.
type TimeoutError struct {
	Name piece.Name
	Err  error // what waited
}

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("the oven takes too long to pack %s: %v", e.Name, e.Err)
}

// Unwrap gives the kind and the cause.
func (e *TimeoutError) Unwrap() []error { return []error{fault.Unavailable, e.Err} }
