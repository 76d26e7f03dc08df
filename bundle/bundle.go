// Package bundle fetches the bundles of pieces from an oven, a directory or the
// binary itself. Each bundle is one HTML file. It keeps them on disk under
// their SHA-256.
//
// The catalog decides when to fetch, refresh, keep, retry and forget. This
// package reads only the <title> of a bundle, and the boot splash in its head.
// It does nothing with volumes and images.
package bundle

import (
	"context"
	"fmt"
	"io"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

// Info describes a fetched bundle.
type Info struct {
	SHA256  [32]byte
	Size    int64     // bytes
	ModTime time.Time // whole seconds, UTC: when the bundle was made, by its source
	Title   string    // of the HTML's <title>, or the name; at most 100 runes, one line
	Splash  Splash    // from its head, or from a file beside it
	// PNG is the picture of Splash, from Fetch. The code that stores it clears
	// the field.
	PNG string
	// Beside identifies the files beside the bundle, in the source's terms.
	Beside string
	Note   string // the parts left out of Splash and why, for the log
}

// A Source has bundles: an oven, or a directory.
type Source interface {
	// Fetch writes the bundle of name to w, at most limit bytes of it. Errors
	// wrap fault.NotFound, Unavailable or Invalid (*TooLargeError). On error w
	// may have been written to.
	Fetch(ctx context.Context, name piece.Name, w io.Writer, limit int64) (Info, error)
	// Names lists the pieces that the source can list without work. An oven
	// returns none.
	Names(ctx context.Context) ([]piece.Name, error)
	// Changed reports cheaply whether the bundle of name may differ from the
	// one with info. A directory looks at the file. An oven uses the age.
	Changed(ctx context.Context, name piece.Name, info Info, age time.Duration) bool
}

// A Packer is a Source that packs some bundles on request, and so can pack them
// for another pixel density (Name.WithDensity).
type Packer interface {
	// Packs reports whether the source packs the bundle of name on request.
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

// A BusyError says that the oven wants no requests for a while (HTTP 429 or
// 503). It wraps fault.Unavailable.
type BusyError struct {
	Name  piece.Name
	After time.Duration // from its Retry-After, at most an hour; 0 without one
}

func (e *BusyError) Error() string {
	if e.After == 0 {
		return fmt.Sprintf("the oven is too busy to pack %s; try again later", e.Name)
	}
	return fmt.Sprintf("the oven is too busy to pack %s; try again in %s", e.Name, e.After)
}

func (e *BusyError) Unwrap() error { return fault.Unavailable }

// A TimeoutError says that the oven took longer than allowed. It wraps
// fault.Unavailable.
type TimeoutError struct {
	Name piece.Name
	Err  error // the operation that waited
}

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("the oven takes too long to pack %s: %v", e.Name, e.Err)
}

// Unwrap returns the kind and the cause.
func (e *TimeoutError) Unwrap() []error { return []error{fault.Unavailable, e.Err} }
