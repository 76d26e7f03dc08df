package api

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A wanted is the part of a Range header that decides about a snapshot. It must
// never take for a beginning what nginx takes for a resume.
type wanted struct {
	// partial is true if nginx may answer with a part, or with 416.
	partial bool
	// start is the highest first byte of all ranges. A suffix range counts as
	// the end, as its first byte is not known. start is 0 if nginx will not
	// understand the header.
	start int64
	// openEnd is true for a single range without an end.
	openEnd bool
}

// everything reports whether that is the whole file: no range, or the one that
// Etcher sends.
func (w wanted) everything() bool { return !w.partial || w.start == 0 && w.openEnd }

// rangeUnit begins a Range header, in any case (RFC 9110, section 14.1).
const rangeUnit = "bytes="

// parseRange reads a Range header (RFC 9110, section 14.2) as leniently as
// nginx does, with spaces around the numbers. A missing header or another unit
// means the whole file. A malformed header means a part from 0 on: nginx
// answers with 416, and the client keeps its part.
func parseRange(header string) wanted {
	if len(header) <= len(rangeUnit) || !strings.EqualFold(header[:len(rangeUnit)], rangeUnit) {
		return wanted{}
	}
	w := wanted{partial: true}
	specs := strings.Split(header[len(rangeUnit):], ",")
	for _, spec := range specs {
		start, openEnd, ok := parseSpec(spec)
		if !ok {
			return wanted{partial: true}
		}
		w.start = max(w.start, start)
		w.openEnd = openEnd && len(specs) == 1
	}
	return w
}

// parseSpec reads "5-9", "5-" or "-5".
func parseSpec(spec string) (start int64, openEnd, ok bool) {
	first, last, dash := strings.Cut(spec, "-")
	first, last = strings.TrimSpace(first), strings.TrimSpace(last)
	if !dash || first == "" && last == "" {
		return 0, false, false
	}
	if first == "" {
		return math.MaxInt64, false, isNumber(last)
	}
	if !isNumber(first) || last != "" && !isNumber(last) {
		return 0, false, false
	}
	start, err := strconv.ParseInt(first, 10, 64)
	return start, last == "", err == nil
}

// firstSent returns the bytes [first, first+n) that nginx sends first for a
// Range header: those of its first range. size is the file's. n is 0 if nginx
// sends none.
func firstSent(header string, size int64) (first, n int64) {
	if !parseRange(header).partial {
		return 0, size
	}
	spec, _, _ := strings.Cut(header[len(rangeUnit):], ",")
	start, openEnd, ok := parseSpec(spec)
	if !ok {
		return size, 0
	}
	_, last, _ := strings.Cut(spec, "-")
	end, _ := strconv.ParseInt(strings.TrimSpace(last), 10, 64) // math.MaxInt64 at most
	switch {
	case start == math.MaxInt64 && !openEnd: // the last bytes
		first = max(0, size-end)
		return first, size - first
	case openEnd || end >= size:
		end = size - 1
	}
	first = min(start, size)
	return first, max(0, end+1-first)
}

// isNumber reports whether s has digits only. strconv also accepts signs.
func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// validatorOf returns the condition that names the image of the client's parts,
// if there is one.
func validatorOf(h http.Header) (validator string, ok bool) {
	for _, key := range []string{"If-Range", "If-Match", "If-Unmodified-Since"} {
		// "If-Match: *" names no image.
		if v := strings.TrimSpace(h.Get(key)); v != "" && v != "*" {
			return v, true
		}
	}
	return "", false
}

// validatorTime returns the modification time in a validator from nginx: an
// ETag of time and size in hexadecimal, or a date.
func validatorTime(v string) (time.Time, bool) {
	if t, err := http.ParseTime(v); err == nil {
		return t, true
	}
	return etagTime(v)
}

// etagTime returns the time in an ETag of nginx's form: "<mtime>-<size>", both
// in hexadecimal (ngx_http_set_etag). A weak one never matches If-Range.
func etagTime(etag string) (time.Time, bool) {
	inner, ok := strings.CutPrefix(etag, `"`)
	if !ok {
		return time.Time{}, false
	}
	if inner, ok = strings.CutSuffix(inner, `"`); !ok {
		return time.Time{}, false
	}
	mtime, size, _ := strings.Cut(inner, "-")
	sec, err := strconv.ParseInt(mtime, 16, 64)
	if err != nil || mtime[0] == '+' {
		return time.Time{}, false
	}
	if _, err := strconv.ParseUint(size, 16, 63); err != nil {
		return time.Time{}, false
	}
	return time.Unix(sec, 0), true
}
