package api

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// A wanted is what a Range header asks for, as far as it matters for choosing
// a snapshot.
type wanted struct {
	// start is the highest first byte of all ranges; a suffix range has no
	// first byte that is known, so it counts as the end.
	start int64
	// openEnd is true for a single range without an end.
	openEnd bool
}

// whole reports whether the range is all of the file, as Etcher asks for it.
func (w wanted) whole() bool { return w.start == 0 && w.openEnd }

// parseRange reads a Range header (RFC 9110, section 14.2). ok is false if
// there is none or it is not well formed; nginx then answers with the whole
// file or with 416.
func parseRange(header string) (w wanted, ok bool) {
	list, ok := strings.CutPrefix(header, "bytes=")
	if !ok {
		return wanted{}, false
	}
	specs := strings.Split(list, ",")
	for _, spec := range specs {
		first, last, dash := strings.Cut(strings.TrimSpace(spec), "-")
		if !dash {
			return wanted{}, false
		}
		start := int64(math.MaxInt64)
		if first != "" {
			n, err := strconv.ParseInt(first, 10, 64)
			if err != nil || n < 0 {
				return wanted{}, false
			}
			start = n
		} else if last == "" {
			return wanted{}, false
		}
		w.start = max(w.start, start)
		w.openEnd = last == "" && len(specs) == 1
	}
	return w, true
}

// etagTime returns the time in an ETag of nginx's form: "<mtime>-<size>", both
// in hexadecimal (ngx_http_set_etag). A weak one never matches If-Range.
func etagTime(etag string) (time.Time, bool) {
	if len(etag) < 2 || etag[0] != '"' || etag[len(etag)-1] != '"' {
		return time.Time{}, false
	}
	mtime, _, dash := strings.Cut(etag[1:len(etag)-1], "-")
	if !dash {
		return time.Time{}, false
	}
	sec, err := strconv.ParseInt(mtime, 16, 64)
	if err != nil {
		return time.Time{}, false
	}
	return time.Unix(sec, 0), true
}
