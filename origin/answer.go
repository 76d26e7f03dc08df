package origin

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"aesthetic.computer/isofs/fault"
)

// A byteRange is the first and the last byte that a request asks for.
type byteRange struct{ first, last int64 }

// refusal returns the failure for a status other than 200 and 206.
func refusal(resp *http.Response) *failure {
	const answered = "the server answered %s"
	switch s := resp.StatusCode; {
	case s == http.StatusNotFound || s == http.StatusGone:
		return newFailure(final, fault.NotFound, answered, resp.Status)
	case s == http.StatusPreconditionFailed:
		return changed("it no longer has the ETag it had (%s)", resp.Status)
	case s == http.StatusRequestedRangeNotSatisfiable:
		return changed("it has become smaller (%s, Content-Range %q)", resp.Status, resp.Header.Get("Content-Range"))
	case s == http.StatusUnauthorized || s == http.StatusForbidden:
		return newFailure(final, fault.Unavailable, answered+": check the credentials, and whether they or a presigned URL have expired", resp.Status)
	case s == http.StatusRequestTimeout || s == http.StatusTooManyRequests || s >= 500:
		f := newFailure(again, fault.Unavailable, answered, resp.Status)
		f.after = retryAfter(resp.Header)
		return f
	}
	return newFailure(final, fault.Unavailable, answered, resp.Status)
}

// encoding refuses an answer that is compressed although the request declined
// that.
func encoding(resp *http.Response) error {
	// "aws-chunked" is how the object was uploaded. Some servers of S3 keep the
	// header in answers that are not chunked.
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" && e != "aws-chunked" {
		return wrong(fault.Corrupt, "the server answered with Content-Encoding %q", e)
	}
	return nil
}

// nothingMore checks that a body is at its end.
func nothingMore(body io.Reader) error {
	switch n, err := io.ReadFull(body, make([]byte, 1)); {
	case n > 0:
		return wrong(fault.Corrupt, "the answer is longer than it says")
	case err == io.EOF:
		return nil
	default:
		return err
	}
}

// checkContentRange checks that an answer has exactly the requested bytes.
func checkContentRange(h http.Header, want byteRange, size int64) error {
	values := h.Values("Content-Range")
	if len(values) != 1 {
		return wrong(fault.Corrupt, "the answer has %d Content-Range headers (and is of type %q)", len(values), h.Get("Content-Type"))
	}
	first, last, total, ok := parseContentRange(values[0])
	switch {
	case !ok:
		return wrong(fault.Corrupt, "the answer has Content-Range %q", values[0])
	case total != size:
		return changed("it has %d bytes, not %d", total, size)
	case first != want.first || last != want.last:
		return wrong(fault.Corrupt, "the answer is of bytes %d-%d, not %d-%d", first, last, want.first, want.last)
	}
	return nil
}

// parseContentRange reads "bytes first-last/total" (RFC 9110, 14.4). It refuses
// a total of "*", which could be any object's.
func parseContentRange(s string) (first, last, total int64, ok bool) {
	unit, rest, _ := strings.Cut(s, " ")
	span, size, _ := strings.Cut(rest, "/")
	from, to, _ := strings.Cut(span, "-")
	if !strings.EqualFold(unit, "bytes") {
		return 0, 0, 0, false
	}
	var n [3]int64
	for i, digits := range []string{from, to, size} {
		// Unsigned and of 63 bits: ParseInt would take a sign.
		v, err := strconv.ParseUint(digits, 10, 63)
		if err != nil {
			return 0, 0, 0, false
		}
		n[i] = int64(v)
	}
	return n[0], n[1], n[2], n[0] <= n[1] && n[1] < n[2]
}

// retryAfter reads the header of that name (RFC 9110, 10.2.3): seconds, or a
// date. It returns 0 for a value that it cannot read.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if s, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}
