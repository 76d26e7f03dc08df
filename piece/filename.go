package piece

import (
	"fmt"
	"strings"

	"aesthetic.computer/isofs/fault"
)

// imageSuffix ends the file name of every image, slotSuffix that of a slot's
// file.
const (
	imageSuffix = "-os.iso"
	slotSuffix  = "-piece.img"
)

// A stem is a file name without its suffix. The stem of a slug is the slug. All
// other stems have a kind before their first dot. A slug has no dot, so two
// kinds never have the same stem:
//
//	notepat          notepat
//	@jeff.b/tone     at.jeff.b.tone     the last dot ends the handle, as a slug has none
//	$39j             kidlisp.39j
//	-x               piece.-x           a program would take a leading - for an option
//
// A dot needs no quoting in any shell (zsh globs with ~), no escape in a URL
// and no quotes in a header.
const (
	handleStem = "at."
	codeStem   = "kidlisp."
	dashStem   = "piece."
)

// FileName returns the name of its image: "notepat-os.iso". It is reversible,
// and safe in any file system, URL and header. It has only letters, digits,
// '-', '_' and '.', begins with a letter, digit or '_', and is at most 94
// bytes. Names that differ only in case have file names that differ only in
// case. The zero Name gives "".
func (n Name) FileName() string { return n.fileName(imageSuffix) }

// SlotFileName returns the name of the slot's file: "notepat-piece.img". It has
// all properties of FileName.
func (n Name) SlotFileName() string { return n.fileName(slotSuffix) }

func (n Name) fileName(suffix string) string {
	if n.IsZero() {
		return ""
	}
	return n.Stem() + suffix
}

// Stem returns the beginning of all file names of a piece: "notepat",
// "at.jeffrey.tone", "kidlisp.39j".
func (n Name) Stem() string {
	switch n.s[0] {
	case '@':
		return handleStem + strings.Replace(n.s[1:], "/", ".", 1)
	case '$':
		return codeStem + n.s[1:]
	case '-':
		return dashStem + n.s
	}
	return n.s
}

// ParseFileName is the inverse of FileName and SlotFileName: it turns
// "notepat-os.iso" and "notepat-piece.img" into notepat. It accepts only their
// results. Errors wrap fault.Invalid.
func ParseFileName(s string) (Name, error) {
	suffix := imageSuffix
	if IsSlotFileName(s) {
		suffix = slotSuffix
	}
	stem, found := strings.CutSuffix(s, suffix)
	if !found {
		return Name{}, fmt.Errorf("%w image name %.100q: it does not end in %s", fault.Invalid, s, suffix)
	}
	n, problem := parseStem(stem, suffix)
	if problem != "" {
		return Name{}, fmt.Errorf("%w image name %.100q: %s", fault.Invalid, s, problem)
	}
	return n, nil
}

// IsSlotFileName reports whether s has the suffix of SlotFileName.
func IsSlotFileName(s string) bool { return strings.HasSuffix(s, slotSuffix) }

// ParseStem is the inverse of Stem. It accepts nothing else. Errors wrap
// fault.Invalid.
func ParseStem(stem string) (Name, error) {
	n, problem := parseStem(stem, imageSuffix)
	if problem != "" {
		return Name{}, fmt.Errorf("%w file name of a piece %.100q: %s", fault.Invalid, stem, problem)
	}
	return n, nil
}

// parseStem returns the name with the stem, or a description of the problem.
func parseStem(stem, suffix string) (n Name, problem string) {
	canonical := stem
	if rest, ok := strings.CutPrefix(stem, handleStem); ok {
		if dot := strings.LastIndexByte(rest, '.'); dot >= 0 {
			canonical = "@" + rest[:dot] + "/" + rest[dot+1:]
		}
	} else if code, ok := strings.CutPrefix(stem, codeStem); ok {
		canonical = "$" + code
	} else if slug, ok := strings.CutPrefix(stem, dashStem); ok {
		canonical = slug
	}
	n, problem = parseName(canonical)
	if problem == "" && n.Stem() != stem {
		// A handle in upper case, a dash without its prefix, or a needless
		// prefix.
		problem = fmt.Sprintf("the image of %s is called %s", n, n.fileName(suffix))
	}
	return n, problem
}
