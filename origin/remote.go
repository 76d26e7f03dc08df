package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"aesthetic.computer/isofs/fault"
)

// A getter requests one object from a server, once. Its answers are those of HTTP,
// also if the AWS SDK made the request.
type getter interface {
	// get requests the bytes of span ("": all), if the object has the ETag ifMatch
	// ("": any). The caller closes the body. Reads of the body fail with
	// errStalled when no byte comes for too long.
	get(ctx context.Context, span, ifMatch string) (*http.Response, error)
	// String is the object's address without credentials.
	String() string
	// close closes idle connections.
	close()
}

// remote is an object of known size on a server.
type remote struct {
	getter
	size int64

	mu     sync.Mutex // guards what follows, and the reads
	pin    string     // the ETag of the object as first answered; "" before, or if it has none
	closed bool
}

var _ source = (*remote)(nil)

// begin implements source.
func (r *remote) begin() attempt { return (&read{remote: r}).attempt }

// Close implements source. An attempt under way is not cut off: its ctx does that.
func (r *remote) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.close()
	return nil
}

// A read is what the attempts of one read share: the version of the object that
// their bytes are of.
type read struct {
	remote *remote
	etag   string // of the object whose bytes came already
	got    bool   // some came
}

// attempt makes a range request.
func (r *read) attempt(ctx context.Context, p []byte, off int64, got func(n int)) error {
	want := byteRange{off, off + int64(len(p)) - 1}
	ifMatch, err := r.match()
	if err != nil {
		return err
	}
	resp, err := r.remote.get(ctx, fmt.Sprintf("bytes=%d-%d", want.first, want.last), ifMatch)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusPreconditionFailed {
		r.remote.unpin(ifMatch)
	}
	if err := r.checkAnswer(resp, want); err != nil {
		return err
	}
	return r.body(resp, p, got)
}

// body reads the answer's body to p, and calls got as it comes.
//
// The last byte counts only when the end of the body came behind it: only that
// proves that the answer is whole. Otherwise that byte is requested again.
func (r *read) body(resp *http.Response, p []byte, got func(n int)) error {
	came, counted := 0, 0
	count := func(n int) error {
		if n == counted {
			return nil
		}
		if err := r.keep(resp.Header.Get("ETag")); err != nil {
			return err
		}
		counted = n
		got(n)
		return nil
	}
	for came < len(p) {
		n, err := io.ReadFull(resp.Body, p[came:min(came+step, len(p))])
		came += n
		if err := count(min(came, len(p)-1)); err != nil {
			return err
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("the answer broke off after %d of %d bytes: %w", came, len(p), io.ErrUnexpectedEOF)
		case err != nil:
			return err
		}
	}
	if err := nothingMore(resp.Body); err != nil {
		return err
	}
	return count(len(p))
}

// match returns the value of If-Match for the next request. Only a strong
// ETag has one: by RFC 9110, 13.1.1 a weak one matches nothing.
//
// A read that has bytes stays with their object, whatever is pinned by now.
// Otherwise two objects could mix. A gets half of the old object; B finds the new
// one and removes the pin; A resumes, pins the new one and has half of each.
func (r *read) match() (string, error) {
	r.remote.mu.Lock()
	defer r.remote.mu.Unlock()
	if r.remote.closed {
		return "", newFailure(final, fault.Unavailable, "the origin is closed")
	}
	etag := r.remote.pin
	if r.got {
		etag = r.etag
	}
	if strings.HasPrefix(etag, `"`) {
		return etag, nil
	}
	return "", nil
}

// keep notes that bytes of the object with this ETag came. It refuses them if
// another request of this read got bytes of another version meanwhile.
func (r *read) keep(etag string) error {
	r.remote.mu.Lock()
	defer r.remote.mu.Unlock()
	if r.got && r.etag != "" && etag != r.etag {
		return changed("its ETag is %s, it was %s", etag, r.etag)
	}
	r.got, r.etag = true, etag
	return nil
}

// checkAnswer checks everything in front of the body: it must be of exactly the
// requested bytes, of the one object.
func (r *read) checkAnswer(resp *http.Response, want byteRange) error {
	length := want.last - want.first + 1
	switch resp.StatusCode {
	case http.StatusPartialContent:
		if err := checkContentRange(resp.Header, want, r.remote.size); err != nil {
			return err
		}
	case http.StatusOK:
		if length != r.remote.size {
			return wrong(fault.Unavailable, "the server answered with the whole object (%s): it must support range requests", resp.Status)
		}
	default:
		return refusal(resp)
	}
	if err := encoding(resp); err != nil {
		return err
	}
	if n := resp.ContentLength; n >= 0 && n != length {
		if resp.StatusCode == http.StatusOK {
			return changed("it has %d bytes, not %d", n, length)
		}
		return wrong(fault.Corrupt, "the server answered with %d bytes, not %d", n, length)
	}
	return r.agree(resp.Header.Get("ETag"))
}

// agree compares the ETag of an answer with the pinned one, or pins it.
//
// Two first reads race without harm. Both send no If-Match. The first answer pins,
// and the second is compared with it.
//
// A change removes the pin, so that an object which was put there again
// with the same bytes and another ETag does not stay unreadable until a
// restart. The caller of Fetch checks its bytes against the manifest.
func (r *read) agree(etag string) error {
	r.remote.mu.Lock()
	defer r.remote.mu.Unlock()
	pin := r.remote.pin
	if r.got {
		pin = r.etag
	}
	switch {
	case pin == "":
		if r.remote.pin == "" {
			r.remote.pin = etag
		}
		return nil
	case etag == "":
		return wrong(fault.Corrupt, "the answer has no ETag, the one before had %s", pin)
	case etag != pin:
		if r.remote.pin == pin {
			r.remote.pin = ""
		}
		return changed("its ETag is %s, it was %s", etag, pin)
	}
	return nil
}

// unpin removes the pinned ETag if it still is this one: the answer may belong to
// a request that is older than the pin.
func (r *remote) unpin(etag string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pin == etag {
		r.pin = ""
	}
}

// readWhole requests the whole object once, if it has at most limit bytes.
func readWhole(ctx context.Context, g getter, limit int64) ([]byte, error) {
	resp, err := g.get(ctx, "", "")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusPartialContent {
		return nil, wrong(fault.Corrupt, "the server answered %s to a request without a range", resp.Status)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp)
	}
	if err := encoding(resp); err != nil {
		return nil, err
	}
	// A body that merely ends with its connection may have been cut off.
	if resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 {
		return nil, wrong(fault.Corrupt, "the server does not say how long the object is")
	}
	all, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(all)) > limit {
		return nil, tooLarge(limit)
	}
	return all, err
}
