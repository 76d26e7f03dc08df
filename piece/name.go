// Package piece has the names of pieces, and the names of the files of their
// images.
package piece

import (
	"fmt"
	"strings"

	"aesthetic.computer/isofs/fault"
)

// The lengths of a name's parts, in bytes (all of them are ASCII).
const (
	maxSlug   = 64
	maxHandle = 16 // aesthetic.computer's own limit
	minCode   = 3  // codes have 3 characters, and 4 when those run out
	maxCode   = 8  // room to grow
)

// A Name is a valid piece name in canonical form: "notepat", "@handle/piece" or
// "$39j". The zero Name names no piece.
//
//   - A slug is 1 to 64 of a-z A-Z 0-9 _ and -.
//   - A handle is at most 16 letters and digits in groups joined by single dots
//     or underscores. Its case does not matter; the canonical form is lower case.
//   - A KidLisp code is 3 to 8 letters and digits.
//
// Slugs and codes are case-sensitive, as on aesthetic.computer, where "Tone"
// and "tone" are two pieces.
//
// A Name may also have a pixel density, see WithDensity. That is another Name,
// with the same canonical form.
type Name struct {
	s       string
	density int // 0: the source's default
}

// ParseName parses a name from a person or a URL: "notepat", "@jeffrey/tone",
// "$39j". It neither trims nor guesses. Errors wrap fault.Invalid and describe
// the problem for the user.
func ParseName(s string) (Name, error) {
	n, problem := parseName(s)
	if problem != "" {
		return Name{}, fmt.Errorf("%w piece name %.100q: %s", fault.Invalid, s, problem)
	}
	return n, nil
}

// parseName returns the name, or a description of the problem.
func parseName(s string) (n Name, problem string) {
	switch {
	case s == "":
		return Name{}, "it is empty; name a piece such as notepat, @handle/piece or $39j"
	case s[0] == '$':
		return Name{s: s}, codeProblem(s[1:])
	case s[0] == '@':
		handle, slug, found := strings.Cut(s[1:], "/")
		if !found {
			return Name{}, "after a handle comes a slash and the piece, as in @handle/piece"
		}
		if problem := handleProblem(handle); problem != "" {
			return Name{}, problem
		}
		return Name{s: "@" + strings.ToLower(handle) + "/" + slug}, slugProblem(slug)
	}
	return Name{s: s}, slugProblem(s)
}

func slugProblem(slug string) string {
	if slug == "" {
		return "the name of the piece is missing"
	}
	if len(slug) > maxSlug {
		return fmt.Sprintf("a piece has at most %d characters in its name", maxSlug)
	}
	for _, r := range slug {
		if !isAlnum(r) && r != '-' && r != '_' {
			return fmt.Sprintf("%q cannot be in it; use letters, digits, - and _", r)
		}
	}
	return ""
}

func codeProblem(code string) string {
	if len(code) < minCode || len(code) > maxCode {
		return fmt.Sprintf("a KidLisp code is $ and %d to %d letters and digits, as in $39j", minCode, maxCode)
	}
	for _, r := range code {
		if !isAlnum(r) {
			return fmt.Sprintf("%q cannot be in a KidLisp code; use letters and digits", r)
		}
	}
	return ""
}

func handleProblem(handle string) string {
	if handle == "" {
		return "the handle is missing; it is @handle/piece"
	}
	if len(handle) > maxHandle {
		return fmt.Sprintf("a handle has at most %d characters", maxHandle)
	}
	joined := true // a joint may not come first, nor after another
	for _, r := range handle {
		joint := r == '.' || r == '_'
		if !isAlnum(r) && !joint {
			return fmt.Sprintf("%q cannot be in a handle; use letters, digits and single . or _ between them", r)
		}
		if joint && joined {
			return "a handle has single . or _ only between letters and digits"
		}
		joined = joint
	}
	if joined {
		return "a handle ends with a letter or digit"
	}
	return ""
}

func isAlnum(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// String returns the canonical form.
func (n Name) String() string { return n.s }

// WithDensity returns the name of the piece packed for that pixel density. With
// 0 it is the source's default. Only a source that is a Packer uses it.
func (n Name) WithDensity(density int) Name { return Name{n.s, density} }

// Density is the requested pixel density, or 0 for the source's default.
func (n Name) Density() int { return n.density }

// IsZero reports whether n is the zero Name.
func (n Name) IsZero() bool { return n.s == "" }

// Compare orders names by their canonical form.
func Compare(a, b Name) int { return strings.Compare(a.s, b.s) }

// Query returns the parameter that requests n from an oven or from our API, not
// yet percent-encoded: ("piece", "@handle/piece") or ("code", "39j").
func (n Name) Query() (key, value string) {
	if code, ok := strings.CutPrefix(n.s, "$"); ok {
		return "code", code
	}
	return "piece", n.s
}
