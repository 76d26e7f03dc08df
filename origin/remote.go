package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"aesthetic.computer/isofs/fault"
)

// A getter asks a server for one object, once. Its answers are those of HTTP,
// whatever asks.
type getter interface {
	// get asks for the bytes of span ("": for all), if the object has the ETag
	// ifMatch ("": whichever it has). The caller closes the body, whose reads fail
	// with errStalled when no byte comes for too long.
	get(ctx context.Context, span, ifMatch string) (*http.Response, error)
	// String is the object's address without credentials.
	String() string
	// close lets go of idle connections.
	close()
}

// remote is an object of known size on a server.
type remote struct {
	getter
	o    Options
	size int64

	failing atomic.Bool // it was said that attempts fail, and none succeeded since

	mu     sync.Mutex // guards what follows
	pin    string     // the ETag of the object as first answered; "" before, or if it has none
	closed bool
}

var _ Origin = (*remote)(nil)

// Fetch implements Origin.
func (r *remote) Fetch(ctx context.Context, p []byte, off int64) error {
	return r.FetchStream(ctx, p, off, ignore)
}

// FetchStream implements Origin by range requests, each for what is still
// missing.
func (r *remote) FetchStream(ctx context.Context, p []byte, off int64, got func(n int)) error {
	n := int64(len(p))
	if err := checkRange(r.String(), off, n, r.size); err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	f := &fetch{remote: r, p: p, off: off, tell: got}
	if err := r.o.retry(ctx, r.fails, f.attempt); err != nil {
		return fmt.Errorf("fetch bytes %d-%d of %s: %w", off, off+n-1, r, err)
	}
	if r.failing.Swap(false) {
		r.o.Log.Info("the origin answers again", "origin", r.String())
	}
	return nil
}

// fails tells of the first failure since the origin answered, and not of those
// of all the readers that wait meanwhile.
func (r *remote) fails(err error) {
	if !r.failing.Swap(true) {
		r.o.tellFailing(r, err)
	}
}

// tellFailing says at once what is going to be tried again for a long time.
func (o Options) tellFailing(g getter, err error) {
	o.Log.Warn("the origin does not answer as it should; trying again", "origin", g.String(), "for", o.Timeout, "err", err)
}

// Close implements Origin. A Fetch under way is not cut off: its ctx does that.
func (r *remote) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.close()
	return nil
}

// A fetch is the state of one Fetch over its attempts.
type fetch struct {
	remote *remote
	p      []byte // what is wanted
	off    int64  // where that is in the object
	n      int    // how much of p is there, and is not written to again
	tell   func(n int)
	etag   string // of the object whose bytes were got already
	got    bool   // some were
}

// attempt asks for what is missing. It keeps what it gets of a body that
// breaks off, so that the next attempt resumes behind it.
func (f *fetch) attempt(ctx context.Context) (progress bool, err error) {
	ifMatch, err := f.match()
	if err != nil {
		return false, err
	}
	resp, err := f.remote.get(ctx, fmt.Sprintf("bytes=%d-%d", f.first(), f.last()), ifMatch)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusPreconditionFailed {
		f.remote.unpin(ifMatch)
	}
	if err := f.checkAnswer(resp); err != nil {
		return false, err
	}
	before := f.n
	err = f.read(resp.Body)
	if f.n > before {
		f.got, f.etag = true, resp.Header.Get("ETag")
	}
	return f.n > before, err
}

// read takes the body as what is missing, and tells of it as it comes.
//
// The last byte counts when the end of the body came behind it: only then the
// answer is proven to be whole. Else that byte is asked for again.
func (f *fetch) read(body io.Reader) error {
	want := len(f.p) - f.n
	for came := 0; came < want; {
		n, err := io.ReadFull(body, f.p[f.n:][:min(step, want-came)])
		came += n
		f.count(min(n, len(f.p)-1-f.n))
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("the answer broke off after %d of %d bytes: %w", came, want, io.ErrUnexpectedEOF)
		case err != nil:
			return err
		}
	}
	if err := nothingMore(body); err != nil {
		return err
	}
	f.count(1)
	return nil
}

// count notes that n more bytes of p are there.
func (f *fetch) count(n int) {
	if n > 0 {
		f.n += n
		f.tell(f.n)
	}
}

// first and last are the bytes of the object that are missing.
func (f *fetch) first() int64 { return f.off + int64(f.n) }
func (f *fetch) last() int64  { return f.off + int64(len(f.p)) - 1 }

// match returns the value of If-Match for the next request. Only a strong
// ETag has one: by RFC 9110, 13.1.1 a weak one matches nothing.
//
// A fetch that got bytes stays with the object they are of, whatever is
// pinned by now. Else: A gets half of the old object; B finds the new one and
// removes the pin; A resumes, pins the new one and has half of each.
func (f *fetch) match() (string, error) {
	f.remote.mu.Lock()
	defer f.remote.mu.Unlock()
	if f.remote.closed {
		return "", &failure{kind: fault.Unavailable, text: "the origin is closed", verdict: final}
	}
	etag := f.remote.pin
	if f.got {
		etag = f.etag
	}
	if strings.HasPrefix(etag, `"`) {
		return etag, nil
	}
	return "", nil
}

// checkAnswer checks everything in front of the body: it must be of exactly
// the bytes that are missing, of the one object.
func (f *fetch) checkAnswer(resp *http.Response) error {
	want := f.last() - f.first() + 1
	switch resp.StatusCode {
	case http.StatusPartialContent:
		if err := f.checkContentRange(resp.Header); err != nil {
			return err
		}
	case http.StatusOK:
		if f.first() != 0 || want != f.remote.size {
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

func (f *fetch) checkContentRange(h http.Header) error {
	values := h.Values("Content-Range")
	if len(values) != 1 {
		return wrong(fault.Corrupt, "the answer has %d Content-Range headers (and is of type %q)", len(values), h.Get("Content-Type"))
	}
	first, last, total, ok := parseContentRange(values[0])
	switch {
	case !ok:
		return wrong(fault.Corrupt, "the answer has Content-Range %q", values[0])
	case total != f.remote.size:
		return changed("it has %d bytes, not %d", total, f.remote.size)
	case first != f.first() || last != f.last():
		return wrong(fault.Corrupt, "the answer is of bytes %d-%d, not %d-%d", first, last, f.first(), f.last())
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
	f.remote.mu.Lock()
	defer f.remote.mu.Unlock()
	pin := f.remote.pin
	if f.got {
		pin = f.etag
	}
	switch {
	case pin == "":
		if f.remote.pin == "" {
			f.remote.pin = etag
		}
		return nil
	case etag == "":
		return wrong(fault.Corrupt, "the answer has no ETag, the one before had %s", pin)
	case etag != pin:
		if f.remote.pin == pin {
			f.remote.pin = ""
		}
		return changed("its ETag is %s, it was %s", etag, pin)
	}
	return nil
}

// unpin forgets the pinned ETag if it still is this one: the answer may be of
// a request that is older than the pin.
func (r *remote) unpin(etag string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pin == etag {
		r.pin = ""
	}
}
