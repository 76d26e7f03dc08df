package origin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"aesthetic.computer/isofs/fault"
)

// refusal says what a status other than 200 and 206 means.
func refusal(resp *http.Response) *failure {
	f := &failure{kind: fault.Unavailable, text: "the server answered " + resp.Status, verdict: final}
	switch s := resp.StatusCode; {
	case s == http.StatusNotFound || s == http.StatusGone:
		f.kind = fault.NotFound
	case s == http.StatusPreconditionFailed:
		f = changed("it no longer has the ETag it had (%s)", resp.Status)
	case s == http.StatusRequestedRangeNotSatisfiable:
		f = changed("it has become smaller (%s, Content-Range %q)", resp.Status, resp.Header.Get("Content-Range"))
	case s == http.StatusUnauthorized || s == http.StatusForbidden:
		f.text += ": check the credentials, and whether they or a presigned URL have expired"
	case s == http.StatusRequestTimeout || s == http.StatusTooManyRequests || s >= 500:
		f.verdict = again
		f.after = retryAfter(resp.Header)
	}
	return f
}

// readAll reads the object of g whole, if it has at most limit bytes.
func readAll(ctx context.Context, g getter, o Options, limit int64) ([]byte, error) {
	var all []byte
	o = o.withDefaults()
	failing := func(err error) { o.tellFailing(g, err) }
	err := o.retry(ctx, failing, func(ctx context.Context) (bool, error) {
		resp, err := g.get(ctx, "", "")
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusPartialContent {
			return false, wrong(fault.Corrupt, "the server answered %s to a request without a range", resp.Status)
		}
		if resp.StatusCode != http.StatusOK {
			return false, refusal(resp)
		}
		if err := encoding(resp); err != nil {
			return false, err
		}
		// A body that merely ends with its connection may have been cut off.
		if resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 {
			return false, wrong(fault.Corrupt, "the server does not say how long the object is")
		}
		all, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
		if err == nil && int64(len(all)) > limit {
			return false, tooLarge(limit)
		}
		return false, err
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", g, err)
	}
	return all, nil
}

func tooLarge(limit int64) *failure {
	return &failure{kind: fault.Corrupt, text: fmt.Sprintf("it has more than %d bytes", limit), verdict: final}
}

// encoding refuses an answer that is compressed although that was declined.
func encoding(resp *http.Response) error {
	// "aws-chunked" is how the upload came; some servers of S3 go on saying so of what they hand out whole.
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

// parseContentRange reads "bytes first-last/total" (RFC 9110, 14.4). A total
// of "*" is refused: it could be any object's.
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
