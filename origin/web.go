package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"aesthetic.computer/isofs/fault"
)

// web is an object of known size on a web server.
type web struct {
	*client
	size int64

	mu     sync.Mutex // guards what follows
	pin    string     // the ETag of the object as first answered; "" before, or if it has none
	closed bool
}

var _ Origin = (*web)(nil)

// Fetch implements Origin by range requests, each for what is still missing.
func (w *web) Fetch(ctx context.Context, p []byte, off int64) error {
	n := int64(len(p))
	if err := checkRange(w.name, off, n, w.size); err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	f := &fetch{web: w, p: p, off: off}
	if err := w.o.retry(ctx, f.attempt); err != nil {
		return fmt.Errorf("fetch bytes %d-%d of %s: %w", off, off+n-1, w.name, err)
	}
	return nil
}

// Close implements Origin. A Fetch under way is not cut off: its ctx does that.
func (w *web) Close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.http.CloseIdleConnections()
	return nil
}

// A fetch is the state of one Fetch over its attempts.
type fetch struct {
	web  *web
	p    []byte // what is still missing
	off  int64  // where that is in the object
	etag string // of the object whose bytes were got already
	got  bool   // some were
}

// attempt asks for what is missing. It keeps what it gets of a body that
// breaks off, so that the next attempt resumes behind it.
func (f *fetch) attempt(ctx context.Context) (progress bool, err error) {
	ifMatch, err := f.match()
	if err != nil {
		return false, err
	}
	end := f.off + int64(len(f.p)) - 1
	header := map[string]string{"Range": fmt.Sprintf("bytes=%d-%d", f.off, end)}
	if ifMatch != "" {
		header["If-Match"] = ifMatch
	}
	resp, err := f.web.get(ctx, header)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusPreconditionFailed {
		f.web.unpin(ifMatch)
	}
	if err := f.checkAnswer(resp, end); err != nil {
		return false, err
	}
	n, err := io.ReadFull(resp.Body, f.p)
	switch {
	case err == nil:
		err = nothingMore(resp.Body)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("the answer broke off after %d of %d bytes: %w", n, len(f.p), io.ErrUnexpectedEOF)
	}
	if err == nil {
		return true, nil
	}
	if _, ok := errors.AsType[*failure](err); ok {
		return false, err
	}
	f.got, f.etag = f.got || n > 0, resp.Header.Get("ETag")
	if n == len(f.p) {
		// The last byte came, the end of the body did not: the answer was not
		// proven to be whole, so the last byte is asked for again.
		n--
	}
	f.p, f.off = f.p[n:], f.off+int64(n)
	return n > 0, err
}

// match returns the value of If-Match for the next request. Only a strong
// ETag has one: by RFC 9110, 13.1.1 a weak one matches nothing.
//
// A fetch that got bytes stays with the object they are of, whatever is
// pinned by now. Else: A gets half of the old object; B finds the new one and
// removes the pin; A resumes, pins the new one and has half of each.
func (f *fetch) match() (string, error) {
	f.web.mu.Lock()
	defer f.web.mu.Unlock()
	if f.web.closed {
		return "", &failure{kind: fault.Unavailable, text: "the origin is closed", verdict: final}
	}
	etag := f.web.pin
	if f.got {
		etag = f.etag
	}
	if strings.HasPrefix(etag, `"`) {
		return etag, nil
	}
	return "", nil
}

// checkAnswer checks everything in front of the body: it must be of exactly
// the bytes from f.off to end of the one object.
func (f *fetch) checkAnswer(resp *http.Response, end int64) error {
	want := end - f.off + 1
	switch resp.StatusCode {
	case http.StatusPartialContent:
		if err := f.checkContentRange(resp.Header, end); err != nil {
			return err
		}
	case http.StatusOK:
		if f.off != 0 || want != f.web.size {
			return wrong(fault.Unavailable, "the server answered with the whole object (%s): it must support range requests", resp.Status)
		}
	default:
		return refusal(resp)
	}
	if err := encoding(resp); err != nil {
		return err
	}
	if n := resp.ContentLength; n >= 0 && n != want {
		if resp.StatusCode == http.StatusOK {
			return changed("it has %d bytes, not %d", n, want)
		}
		return wrong(fault.Corrupt, "the server answered with %d bytes, not %d", n, want)
	}
	return f.agree(resp.Header.Get("ETag"))
}

func (f *fetch) checkContentRange(h http.Header, end int64) error {
	values := h.Values("Content-Range")
	if len(values) != 1 {
		return wrong(fault.Corrupt, "the answer has %d Content-Range headers (and is of type %q)", len(values), h.Get("Content-Type"))
	}
	first, last, total, ok := parseContentRange(values[0])
	switch {
	case !ok:
		return wrong(fault.Corrupt, "the answer has Content-Range %q", values[0])
	case total != f.web.size:
		return changed("it has %d bytes, not %d", total, f.web.size)
	case first != f.off || last != end:
		return wrong(fault.Corrupt, "the answer is of bytes %d-%d, not %d-%d", first, last, f.off, end)
	}
	return nil
}

// agree compares the ETag of an answer with the pinned one, or pins it.
//
// Two first fetches race without harm: both ask without If-Match, the first
// to be answered pins, the second is compared with that.
//
// A change removes the pin, so that an object which was put there again
// with the same bytes and another ETag does not stay unreadable until a
// restart. Its bytes are checked against the manifest by who asked for them.
func (f *fetch) agree(etag string) error {
	f.web.mu.Lock()
	defer f.web.mu.Unlock()
	pin := f.web.pin
	if f.got {
		pin = f.etag
	}
	switch {
	case pin == "":
		if f.web.pin == "" {
			f.web.pin = etag
		}
		return nil
	case etag == "":
		return wrong(fault.Corrupt, "the answer has no ETag, the one before had %s", pin)
	case etag != pin:
		if f.web.pin == pin {
			f.web.pin = ""
		}
		return changed("its ETag is %s, it was %s", etag, pin)
	}
	return nil
}

// unpin forgets the pinned ETag if it still is this one: the answer may be of
// a request that is older than the pin.
func (w *web) unpin(etag string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pin == etag {
		w.pin = ""
	}
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
