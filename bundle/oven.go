package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

// maxRedirects is how many redirects of an oven are followed.
const maxRedirects = 3

// OvenOptions tune an Oven. Zero fields mean the default.
type OvenOptions struct {
	Density       int              // pixel density of the packed piece; 8
	Refresh       time.Duration    // age from which a bundle counts as changed; 1 h
	Timeout       time.Duration    // for a whole fetch, without the wait for other fetches; 60 s
	HeaderTimeout time.Duration    // until the answer begins, which is after packing; 45 s
	Concurrency   int              // fetches at once; 4
	Now           func() time.Time // time.Now
}

func (o OvenOptions) validate() error {
	if o.Density < 0 || o.Refresh < 0 || o.Timeout < 0 || o.HeaderTimeout < 0 || o.Concurrency < 0 {
		return fmt.Errorf("%w oven options: density, times and concurrency cannot be negative", fault.Invalid)
	}
	return nil
}

func (o OvenOptions) withDefaults() OvenOptions {
	setDefault(&o.Density, 8)
	setDefault(&o.Refresh, time.Hour)
	setDefault(&o.Timeout, time.Minute)
	setDefault(&o.HeaderTimeout, 45*time.Second)
	setDefault(&o.Concurrency, 4)
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// An Oven is a Source that packs pieces by an oven's /pack-html, over HTTP. It
// does not retry and stores nothing, as the catalog does both. Safe for
// concurrent use.
type Oven struct {
	pack    string // the URL of /pack-html
	options OvenOptions
	client  *http.Client
	slots   chan struct{} // one for each fetch that may run
}

var (
	_ Source = (*Oven)(nil)
	_ Packer = (*Oven)(nil)
)

// NewOven returns the oven at baseURL, such as
// "https://oven.aesthetic.computer". It does not contact it. Errors wrap
// fault.Invalid.
func NewOven(baseURL string, o OvenOptions) (*Oven, error) {
	u, err := url.Parse(baseURL)
	if err != nil {
		return nil, fmt.Errorf("oven URL: %w: %w", fault.Invalid, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%w oven URL %q: give one such as https://oven.aesthetic.computer", fault.Invalid, baseURL)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%w oven URL %q: leave out user, query and fragment", fault.Invalid, u.Redacted())
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = o.HeaderTimeout
	transport.MaxIdleConnsPerHost = o.Concurrency
	// A body that a proxy compressed has no length to check against.
	transport.DisableCompression = true
	return &Oven{
		pack:    strings.TrimSuffix(u.String(), "/") + "/pack-html",
		options: o,
		client:  &http.Client{Transport: transport, CheckRedirect: sameHost},
		slots:   make(chan struct{}, o.Concurrency),
	}, nil
}

// sameHost lets an oven move a path. It refuses other targets, such as a
// service inside our network, and a change from HTTPS to HTTP.
func sameHost(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if req.URL.Scheme != first.Scheme || req.URL.Host != first.Host {
		return fmt.Errorf("it redirects to %s://%s; if that is right, configure it as the oven", req.URL.Scheme, req.URL.Host)
	}
	if len(via) > maxRedirects {
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
	}
	return nil
}

// Fetch lets the oven pack name. Besides the errors of every Source it returns
// *BusyError.
func (v *Oven) Fetch(ctx context.Context, name piece.Name, w io.Writer, limit int64) (Info, error) {
	if name.IsZero() {
		return Info{}, fmt.Errorf("fetch a bundle: %w: the name is empty", fault.Invalid)
	}
	select {
	case v.slots <- struct{}{}:
		defer func() { <-v.slots }()
	case <-ctx.Done():
		err := context.Cause(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = &TimeoutError{name, err}
		}
		return Info{}, fmt.Errorf("wait for one of %d fetches to end, for %s: %w: %w",
			v.options.Concurrency, name, fault.Unavailable, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, v.options.Timeout,
		fmt.Errorf("the oven took longer than %s", v.options.Timeout))
	defer cancel()
	info, err := v.fetch(ctx, newSink(w, name, limit))
	if err != nil && fault.Kind(err) == nil {
		// The code below gave it no kind: an error of the connection, the
		// time-out or w.
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		err = unreachable(ctx, name, err)
	}
	if err != nil {
		return Info{}, fmt.Errorf("fetch the bundle of %s from the oven: %w", name, err)
	}
	return info, nil
}

// unreachable gives a transport error its kind: *TimeoutError for an oven that
// takes too long, otherwise fault.Unavailable.
func unreachable(ctx context.Context, name piece.Name, err error) error {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &TimeoutError{name, err}
	}
	return fmt.Errorf("%w: %w", fault.Unavailable, err)
}

// fetch returns transport errors without a kind.
func (v *Oven) fetch(ctx context.Context, to *sink) (Info, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.url(to.name), nil)
	if err != nil {
		return Info{}, err
	}
	req.Header.Set("Accept", "text/html")
	req.Header.Set("User-Agent", "isofs")
	resp, err := v.client.Do(req)
	if err != nil {
		return Info{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Info{}, refusal(resp, to.name, v.options.Now())
	}
	if err := acceptable(resp); err != nil {
		return Info{}, err
	}
	if resp.ContentLength > to.limit {
		return Info{}, &TooLargeError{Name: to.name, Limit: to.limit}
	}
	// net/http reports a body that ends before its length, or its last chunk.
	if _, err := io.Copy(to, resp.Body); err != nil {
		return Info{}, err
	}
	if to.size == 0 {
		return Info{}, errors.New("it answered with an empty page")
	}
	return to.info(madeAt(resp.Header, v.options.Now())), nil
}

// url requests the plain bundle. A compressed one is a program that unpacks
// itself at each start, and hides its title.
func (v *Oven) url(name piece.Name) string {
	key, value := name.Query()
	density := name.Density()
	if density == 0 {
		density = v.options.Density
	}
	return v.pack + "?" + key + "=" + url.QueryEscape(value) +
		"&nocompress=1&density=" + strconv.Itoa(density)
}

// Packs implements Packer.
func (v *Oven) Packs(piece.Name) bool { return true }

// Names returns nil: an oven packs on request and has no list.
func (v *Oven) Names(context.Context) ([]piece.Name, error) { return nil, nil }

// Changed looks only at the age. An oven stamps each bundle with the time, so
// only a fetch could show a change.
func (v *Oven) Changed(_ context.Context, _ piece.Name, _ Info, age time.Duration) bool {
	return age > v.options.Refresh
}
