package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

const (
	maxComplaint  = 64 << 10 // the bytes of an error's body that are read
	maxText       = 300      // the runes of its text that are passed on
	maxRetryAfter = time.Hour
)

// refusal turns an answer other than 200 into an error.
func refusal(resp *http.Response, name piece.Name, now time.Time) error {
	text := complaint(resp)
	switch status := resp.StatusCode; {
	case status == http.StatusNotFound || status == http.StatusGone || status >= 500 && saysNotFound(text):
		return fmt.Errorf("%w: there is no such piece (%s)", fault.NotFound, text)
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		return &BusyError{Name: name, After: retryAfter(resp.Header.Get("Retry-After"), now)}
	}
	return fmt.Errorf("%w: it answered %s", fault.Unavailable, text)
}

// complaint returns the status and the body's error, if the body is JSON with
// one.
func complaint(resp *http.Response) string {
	status := fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	var body struct{ Error string }
	// If the body cannot be read or parsed, the status alone is the complaint.
	_ = json.NewDecoder(io.LimitReader(resp.Body, maxComplaint)).Decode(&body)
	if text := oneLine(body.Error, maxText); text != "" {
		return status + ": " + text
	}
	return status
}

// saysNotFound recognizes "Piece 'x' not found at disks/x.mjs", which a real
// oven sends as a 500. A missing module or tool is the oven's own fault, and
// may be repaired by tomorrow. So the text must name the piece, or nothing.
func saysNotFound(text string) bool {
	text = strings.ToLower(text)
	piece := strings.Index(text, "piece ")
	return piece >= 0 && strings.Contains(text[piece:], "not found") || strings.HasSuffix(text, ": not found")
}

// retryAfter reads seconds or an HTTP date; 0 if it is neither, or past.
func retryAfter(value string, now time.Time) time.Duration {
	var after time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		after = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		after = at.Sub(now).Round(time.Second)
	}
	return min(max(after, 0), maxRetryAfter)
}

// acceptable reports why a bundle in a 200 cannot be read whole, or nil. The
// errors have no kind yet.
func acceptable(resp *http.Response) error {
	contentType := resp.Header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(contentType); err != nil || media != "text/html" {
		return fmt.Errorf("it answered with %.80q in place of text/html", contentType)
	}
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return fmt.Errorf("it answered in Content-Encoding %.80q, which isofs did not request", encoding)
	}
	// Before HTTP/2, a body without length or chunks ends with the connection,
	// whole or not.
	if resp.ProtoMajor == 1 && resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 {
		return errors.New("it answered without Content-Length, so a lost connection would look like the end")
	}
	return nil
}

// madeAt returns when a bundle was made: Last-Modified, else Date, else now. A
// future time comes from a wrong clock, and one before 2000 is not a real time.
func madeAt(header http.Header, now time.Time) time.Time {
	for _, key := range []string{"Last-Modified", "Date"} {
		t, err := http.ParseTime(header.Get(key))
		if err == nil && t.Year() >= 2000 && !t.After(now) {
			return t
		}
	}
	return now
}
