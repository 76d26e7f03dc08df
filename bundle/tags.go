package bundle

import (
	"bytes"
	"html"
	"strings"
)

// maxAttributes is how many attributes of a tag are read.
const maxAttributes = 16

// tags calls found with each whole <meta> and <link> of head that begins before
// limit, up to the body. The names of attributes are in lower case, their
// values without quotes and references. The first of several attributes with
// one name counts. tags skips the title, and all that title skips. It is false
// if a tag does not end in head.
func tags(head []byte, limit int, found func(name string, attributes map[string]string)) (whole bool) {
	low := asciiLower(head)
	for at := nextTag(low, 0); at >= 0 && at < limit; {
		rest, step := low[at:], 1
		switch {
		case isTag(rest, "title"):
			step = past(rest, "</title")
		case isTag(rest, "body") || bytes.HasPrefix(rest, []byte("</head")):
			return true
		case isTag(rest, "meta") || isTag(rest, "link"):
			const tag = len("<meta")
			attributes, n := readAttributes(head[at+tag:])
			if n < 0 {
				return false
			}
			found(string(rest[1:tag]), attributes)
			step = tag + n
		}
		at = nextTag(low, at+step)
	}
	return true
}

// readAttributes reads the attributes of a tag up to its ">", and returns the
// offset behind that. It is negative if the tag does not end.
func readAttributes(b []byte) (attributes map[string]string, end int) {
	attributes = map[string]string{}
	at := 0
	for {
		at += skip(b[at:], " \t\r\n\f/")
		if at == len(b) {
			return nil, -1
		}
		if b[at] == '>' {
			return attributes, at + 1
		}
		start := at
		at++ // a "=" here is part of the name
		at += until(b[at:], " \t\r\n\f/>=")
		name := strings.ToLower(string(b[start:at]))
		value, n, whole := readValue(b[at:])
		if !whole {
			return nil, -1
		}
		at += n
		if _, twice := attributes[name]; !twice && len(attributes) < maxAttributes {
			attributes[name] = html.UnescapeString(value)
		}
	}
}

// readValue reads the value after an attribute's name, which may be empty.
func readValue(b []byte) (value string, end int, whole bool) {
	at := skip(b, " \t\r\n\f")
	if at == len(b) || b[at] != '=' {
		return "", 0, at < len(b)
	}
	at++
	at += skip(b[at:], " \t\r\n\f")
	if at == len(b) {
		return "", 0, false
	}
	if quote := b[at]; quote == '"' || quote == '\'' {
		at++
		n := bytes.IndexByte(b[at:], quote)
		if n < 0 {
			return "", 0, false
		}
		return string(b[at : at+n]), at + n + 1, true
	}
	n := until(b[at:], " \t\r\n\f>")
	return string(b[at : at+n]), at + n, at+n < len(b)
}

// skip counts the bytes of b before the first one that is not in set.
func skip(b []byte, set string) int {
	return len(b) - len(bytes.TrimLeft(b, set))
}

// until returns how many bytes of b come before one of set.
func until(b []byte, set string) int {
	if i := bytes.IndexAny(b, set); i >= 0 {
		return i
	}
	return len(b)
}
