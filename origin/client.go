package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"aesthetic.computer/isofs/fault"
)

// maxRedirects is how many redirects are followed for one answer: a CDN has
// one or two.
const maxRedirects = 10

var errStalled = errors.New("no byte came for too long")

// A client asks one URL, again if need be.
type client struct {
	url  *url.URL // with credentials, never printed
	name string   // without
	http *http.Client
	o    Options
}

func newClient(u *url.URL, o Options) *client {
	o = o.withDefaults()
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: o.Connect}).DialContext,
		TLSHandshakeTimeout: o.Stall,
		TLSClientConfig:     o.TLS,
		MaxIdleConnsPerHost: o.Connections,
		MaxIdleConns:        o.Connections,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
		// Blocks come by as many connections as there are fetches: with HTTP/2
		// they would share one, and its window.
		Protocols: new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	return &client{
		url:  u,
		name: redact(u.String()),
		http: &http.Client{Transport: t, CheckRedirect: checkRedirect},
		o:    o,
	}
}

// String is the URL without credentials.
func (c *client) String() string { return c.name }

func checkRedirect(next *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return &failure{kind: fault.Unavailable, text: fmt.Sprintf("more than %d redirects", maxRedirects), verdict: final}
	}
	if via[len(via)-1].URL.Scheme == "https" && next.URL.Scheme != "https" {
		return &failure{kind: fault.Unavailable, text: "redirected from https to " + next.URL.Scheme + ", which is not followed", verdict: final}
	}
	// The query of a presigned URL is not for the next server to see.
	next.Header.Del("Referer")
	return nil
}

// get asks for the object once. The caller closes the body, whose reads fail
// with errStalled when no byte comes for too long.
func (c *client) get(ctx context.Context, header map[string]string) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, &failure{kind: fault.Invalid, text: "no request can be made of the address", verdict: final}
	}
	// A compressed object has other offsets.
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "isofs")
	for k, v := range header {
		req.Header.Set(k, v)
	}
	timer := time.AfterFunc(c.o.Stall, func() { cancel(errStalled) })
	resp, err := c.http.Do(req)
	timer.Stop()
	if err != nil {
		if errors.Is(context.Cause(ctx), errStalled) {
			err = errStalled
		}
		cancel(nil)
		return nil, bare(err)
	}
	resp.Body = &watched{body: resp.Body, ctx: ctx, cancel: cancel, timer: timer, stall: c.o.Stall}
	return resp, nil
}

// bare strips what net/http puts around an error: the URL, secrets included.
func bare(err error) error {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// A watched body gives up when no byte comes for a while. What its reader does
// between two reads takes as long as it takes.
type watched struct {
	body   io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.stall)
	n, err := w.body.Read(p)
	w.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) && errors.Is(context.Cause(w.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

func (w *watched) Close() error {
	w.timer.Stop()
	w.cancel(nil)
	return w.body.Close()
}

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
		f.text += ": check the credentials in the address, or whether a presigned URL has expired"
	case s == http.StatusRequestTimeout || s == http.StatusTooManyRequests || s >= 500:
		f.verdict = again
		f.after = retryAfter(resp.Header)
	}
	return f
}

// readAll reads the object whole, if it has at most limit bytes.
func (c *client) readAll(ctx context.Context, limit int64) ([]byte, error) {
	var all []byte
	err := c.o.retry(ctx, func(ctx context.Context) (bool, error) {
		resp, err := c.get(ctx, nil)
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
		return nil, fmt.Errorf("read %s: %w", c.name, err)
	}
	return all, nil
}

func tooLarge(limit int64) *failure {
	return &failure{kind: fault.Corrupt, text: fmt.Sprintf("it has more than %d bytes", limit), verdict: final}
}

// encoding refuses an answer that is compressed although that was declined.
func encoding(resp *http.Response) error {
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return wrong(fault.Corrupt, "the server answered with Content-Encoding %q", e)
	}
	return nil
}
