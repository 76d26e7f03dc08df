package origin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"aesthetic.computer/isofs/fault"
)

// maxRedirects is how many redirects of one request are followed: a CDN has one
// or two.
const maxRedirects = 10

// A client requests one URL.
type client struct {
	url  *url.URL // with credentials, never printed
	name string   // without
	http *http.Client
	o    Options
}

func newClient(u *url.URL, name string, o Options) *client {
	o = o.withDefaults()
	return &client{
		url:  u,
		name: name,
		http: &http.Client{Transport: o.transport(), CheckRedirect: o.checkRedirect},
		o:    o,
	}
}

// transport makes the connections of one origin.
func (o Options) transport() *http.Transport {
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: o.Connect}).DialContext,
		TLSHandshakeTimeout: o.Stall,
		TLSClientConfig:     o.TLS,
		MaxIdleConnsPerHost: o.Connections,
		MaxIdleConns:        o.Connections,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
		// Each fetch of blocks has a connection of its own: with HTTP/2 they would
		// share one, and its window.
		Protocols: new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	return t
}

// String is the URL without credentials.
func (c *client) String() string { return c.name }

func (c *client) close() { c.http.CloseIdleConnections() }

// checkRedirect follows a redirect on the same host, to HTTPS there, and to the
// hosts of Redirects.
func (o Options) checkRedirect(next *http.Request, via []*http.Request) error {
	refuse := func(format string, args ...any) error {
		return newFailure(final, fault.Unavailable, format, args...)
	}
	if len(via) > maxRedirects {
		return refuse("more than %d redirects", maxRedirects)
	}
	if via[len(via)-1].URL.Scheme == "https" && next.URL.Scheme != "https" {
		return refuse("redirected from https to %s, which is not followed", next.URL.Scheme)
	}
	if !sameHost(next.URL, via[0].URL) && !slices.ContainsFunc(o.Redirects, func(host string) bool {
		return strings.EqualFold(host, next.URL.Host) || strings.EqualFold(host, next.URL.Hostname()) && next.URL.Port() == ""
	}) {
		return refuse("redirected to another host, %s, which is not followed; if it is right, give --origin-redirect %s", next.URL.Host, next.URL.Host)
	}
	// The next server must not see the query of a presigned URL.
	next.Header.Del("Referer")
	return nil
}

// sameHost reports whether a redirect stays on the same host and port, or goes
// from HTTP to HTTPS there, on the usual ports.
func sameHost(next, first *url.URL) bool {
	return strings.EqualFold(next.Host, first.Host) && next.Scheme == first.Scheme ||
		strings.EqualFold(next.Hostname(), first.Hostname()) && first.Scheme == "http" && next.Scheme == "https" &&
			(first.Port() == "" || first.Port() == "80") && (next.Port() == "" || next.Port() == "443")
}

// get implements getter.
func (c *client) get(ctx context.Context, span, ifMatch string) (*http.Response, error) {
	return c.o.watch(ctx, func(ctx context.Context) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url.String(), nil)
		if err != nil {
			return nil, newFailure(final, fault.Invalid, "no request can be made of the address")
		}
		// A compressed object has other offsets.
		req.Header.Set("Accept-Encoding", "identity")
		req.Header.Set("User-Agent", "isofs")
		if span != "" {
			req.Header.Set("Range", span)
		}
		if ifMatch != "" {
			req.Header.Set("If-Match", ifMatch)
		}
		return c.http.Do(req)
	})
}

// watch makes a request. It ends the request with errStalled when no answer comes
// for too long, or no byte of its body.
func (o Options) watch(ctx context.Context, ask func(context.Context) (*http.Response, error)) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(o.Stall, func() { cancel(errStalled) })
	resp, err := ask(ctx)
	timer.Stop()
	if err != nil {
		if errors.Is(context.Cause(ctx), errStalled) {
			err = errStalled
		}
		cancel(nil)
		return nil, bare(err)
	}
	resp.Body = &watched{body: resp.Body, ctx: ctx, cancel: cancel, timer: timer, stall: o.Stall}
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

// A watched body gives up when a read gets no byte for a while. The time between
// two reads does not count.
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
