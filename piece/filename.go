package piece

import (
	"fmt"
	"strings"

	"aesthetic.computer/isofs/fault"
)

// imageSuffix ends the file name of every image, slotSuffix that of what is in
// an image's slot alone.
const (
	imageSuffix = "-os.iso"
	slotSuffix  = "-piece.img"
)

// A stem is a file name without its suffix. That of a slug is the slug. All
// others have a dot, which a slug has not, and say before the first one what
// they are; so no two kinds can meet:
//
//	notepat          notepat
//	@jeff.b/tone     at.jeff.b.tone     the last dot ends the handle, as a slug has none
//	$39j             kidlisp.39j
//	-x               piece.-x           a program would take a leading - for an option
//
// A dot and not a tilde or a plus, since it needs no quoting in any shell (zsh
// globs with ~), no escape in a URL and no quotes in a header.
const (
	handleStem = "at."
	codeStem   = "kidlisp."
	dashStem   = "piece."
)

// FileName returns the name of its image, safe in any file system, URL and
// header, and reversible: "notepat-os.iso". It has letters, digits, '-', '_'
// and '.' only, begins with a letter, digit or '_', and is at most 94 bytes.
// Names that differ in case only have file names that differ in case only.
// The zero Name has none ("").
func (n Name) FileName() string { return n.fileName(imageSuffix) }

// SlotFileName returns the name of what is in its image's slot as a file of its
// own, with all that FileName promises: "notepat-piece.img".
func (n Name) SlotFileName() string { return n.fileName(slotSuffix) }

func (n Name) fileName(suffix string) string {
	if n.IsZero() {
		return ""
	}
	return n.Stem() + suffix
}

// Stem returns what the names of all files of a piece begin with: "notepat",
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

// ParseFileName is the inverse of FileName and SlotFileName: "notepat-os.iso" and
// "notepat-piece.img" to notepat. It takes nothing that they do not give. Errors
// wrap fault.Invalid.
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

// IsSlotFileName reports whether s ends as the names do that SlotFileName gives.
func IsSlotFileName(s string) bool { return strings.HasSuffix(s, slotSuffix) }

// ParseStem is the inverse of Stem. It takes nothing else. Errors wrap fault.Invalid.
func ParseStem(stem string) (Name, error) {
	n, problem := parseStem(stem, imageSuffix)
	if problem != "" {
		return Name{}, fmt.Errorf("%w file name of a piece %.100q: %s", fault.Invalid, stem, problem)
	}
	return n, nil
}

// parseStem returns the name that has the stem, or in words why there is none.
func parseStem(stem, suffix string) (n Name, problem string) {
	said := stem
	if rest, ok := strings.CutPrefix(stem, handleStem); ok {
		if dot := strings.LastIndexByte(rest, '.'); dot >= 0 {
			said = "@" + rest[:dot] + "/" + rest[dot+1:]
		}
	} else if code, ok := strings.CutPrefix(stem, codeStem); ok {
		said = "$" + code
	} else if slug, ok := strings.CutPrefix(stem, dashStem); ok {
		said = slug
	}
	n, problem = parseName(said)
	if problem == "" && n.Stem() != stem {
		// A handle in upper case, a dash without its prefix or a prefix without need.
		problem = fmt.Sprintf("the image of %s is called %s", n, n.fileName(suffix))
	}
	return n, problem
}
