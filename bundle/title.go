package bundle

import (
	"bytes"
	"html"
	"strings"
	"unicode"
)

const (
	titleRegion = 64 << 10 // bytes of a bundle in which the title and the splash's tags may begin
	titleLength = 100      // runes of it that are kept
)

// title returns the text of the first <title> in head, on one line and without
// control characters, or "".
func title(head []byte) string {
	low := asciiLower(head) // of the same length, so that offsets fit both
	for at := nextTag(low, 0); at >= 0; at = nextTag(low, at+1) {
		if rest := low[at:]; isTag(rest, "title") {
			start := past(rest, ">")
			end := bytes.Index(rest[start:], []byte("</title"))
			if end < 0 {
				return ""
			}
			return oneLine(html.UnescapeString(string(head[at+start:at+start+end])), titleLength)
		}
	}
	return ""
}

// nextTag returns the offset of the next tag from at on, or -1. It is not an
// HTML parser: it goes from "<" to "<" and skips comments, scripts and styles,
// which may contain tags.
func nextTag(low []byte, at int) int {
	for {
		open := bytes.IndexByte(low[at:], '<')
		if open < 0 {
			return -1
		}
		at += open
		switch rest := low[at:]; {
		case bytes.HasPrefix(rest, []byte("<!--")):
			at += past(rest, "-->")
		case isTag(rest, "script"):
			at += past(rest, "</script")
		case isTag(rest, "style"):
			at += past(rest, "</style")
		default:
			return at
		}
	}
}

// isTag reports whether b begins with an opening tag of that name.
func isTag(b []byte, name string) bool {
	if !bytes.HasPrefix(b[1:], []byte(name)) || len(b) < len(name)+2 {
		return false
	}
	return bytes.IndexByte([]byte(" \t\r\n\f/>"), b[len(name)+1]) >= 0
}

// past returns the offset after the first mark in b, or its end.
func past(b []byte, mark string) int {
	if i := bytes.Index(b, []byte(mark)); i >= 0 {
		return i + len(mark)
	}
	return len(b)
}

// asciiLower is not bytes.ToLower, which may change the length.
func asciiLower(b []byte) []byte {
	low := bytes.Clone(b)
	for i, c := range low {
		if 'A' <= c && c <= 'Z' {
			low[i] = c + 'a' - 'A'
		}
	}
	return low
}

// oneLine folds white space, drops characters that could move a cursor or
// change the text's direction, and cuts to limit runes.
func oneLine(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > limit {
		s = strings.TrimSpace(string(runes[:limit]))
	}
	return s
}
