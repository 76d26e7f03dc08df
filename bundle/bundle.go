// Package bundle ... (contract; to be implemented)
package bundle

import (
	"context"
	"io"
	"time"
)

// A Name is a valid piece name in canonical form: "notepat", "@handle/piece" or "$39j".
// The zero Name is none.
type Name struct{ s string }

// ParseName parses what a person or a URL says: "notepat", "@jeffrey/tone", "$39j".
// Errors wrap fault.Invalid and say what is wrong in words for the user.
func ParseName(s string) (Name, error) { panic("contract") }

// ParseFileName is the inverse of FileName: "notepat-os.iso" to notepat.
func ParseFileName(s string) (Name, error) { panic("contract") }

// String returns the canonical form.
func (n Name) String() string { panic("contract") }

// FileName returns the name of its image, safe in any file system, URL and
// header, and reversible: "notepat-os.iso".
func (n Name) FileName() string { panic("contract") }

// IsZero reports whether n is no name.
func (n Name) IsZero() bool { return n.s == "" }

// Info says what was fetched.
type Info struct {
	SHA256  [32]byte
	Size    int64
	ModTime time.Time // whole seconds, UTC: when the bundle was made, as its source tells it
	Title   string    // of the HTML's <title>, or the name
}

// A TooLargeError says that a bundle exceeds the limit. It wraps fault.Invalid.
type TooLargeError struct {
	Name  Name
	Limit int64 // bytes; Size is at least one more
}

func (e *TooLargeError) Error() string { panic("contract") }
func (e *TooLargeError) Unwrap() error { panic("contract") }

// A Source has bundles: an oven, or a directory.
type Source interface {
	// Fetch writes the bundle of name to w, at most limit bytes of it.
	// Errors wrap fault.NotFound, Unavailable or Invalid (*TooLargeError).
	// On error w may have been written to.
	Fetch(ctx context.Context, name Name, w io.Writer, limit int64) (Info, error)
	// Names lists the pieces that are known without asking for each; an oven has none.
	Names(ctx context.Context) ([]Name, error)
	// Changed reports cheaply whether the bundle of name may be another than
	// the one that had info: a directory looks at the file, an oven goes by age.
	Changed(ctx context.Context, name Name, had Info, age time.Duration) bool
}
