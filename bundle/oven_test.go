package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

const page = "<!doctype html><title>note &amp; pat</title><p>hello"

// noon is the clock of all ovens here.
func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 999, time.UTC) }

func mustName(t *testing.T, s string) piece.Name {
	t.Helper()
	n, err := piece.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// oven returns an Oven in front of h, at the path /api.
func oven(t *testing.T, h http.HandlerFunc, o OvenOptions) *Oven {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	o.Now = noon
	v, err := NewOven(server.URL+"/api/", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.client.CloseIdleConnections) // before the server waits for them
	return v
}

func writePage(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	io.WriteString(w, body)
}

func TestOvenFetch(t *testing.T) {
	tests := []struct{ name, query string }{
		{"notepat", "piece=notepat&nocompress=1&density=8"},
		{"@jeff.b/tone", "piece=%40jeff.b%2Ftone&nocompress=1&density=8"},
		{"$39j", "code=39j&nocompress=1&density=8"},
	}
	for _, tt := range tests {
		var got string
		v := oven(t, func(w http.ResponseWriter, r *http.Request) {
			got = r.Method + " " + r.RequestURI
			w.Header().Set("Last-Modified", "Sat, 28 Feb 2026 10:11:12 GMT")
			writePage(w, page)
		}, OvenOptions{})
		var body bytes.Buffer
		info, err := v.Fetch(t.Context(), mustName(t, tt.name), &body, int64(len(page)))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		want := Info{SHA256: sha256.Sum256([]byte(page)), Size: int64(len(page)), ModTime: time.Date(2026, 2, 28, 10, 11, 12, 0, time.UTC), Title: "note & pat"}
		if info != want || body.String() != page {
			t.Errorf("%s: %+v, %q; want %+v", tt.name, info, body.String(), want)
		}
		if got != "GET /api/pack-html?"+tt.query {
			t.Errorf("the request for %s was %s", tt.name, got)
		}
	}
}

func TestOvenDensityAndTitle(t *testing.T) {
	var query string
	v := oven(t, func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.RawQuery
		writePage(w, "<p>no title")
	}, OvenOptions{Density: 3})
	info, err := v.Fetch(t.Context(), mustName(t, "$39j"), io.Discard, 100)
	if err != nil || info.Title != "$39j" || !strings.HasSuffix(query, "&density=3") {
		t.Errorf("%+v, %v by %s", info, err, query)
	}
	if _, err := v.Fetch(t.Context(), mustName(t, "$39j").WithDensity(5), io.Discard, 100); err != nil || !strings.HasSuffix(query, "&density=5") {
		t.Errorf("%v by %s", err, query)
	}
}

func TestOvenLimitWhileReading(t *testing.T) {
	var sent atomic.Int64
	v := oven(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		chunk := []byte(strings.Repeat("x", 64<<10))
		for range 100 << 20 / len(chunk) { // chunked, so that no length warns
			n, err := w.Write(chunk)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}, OvenOptions{})
	const limit = 1 << 20
	var got sizeWriter
	_, err := v.Fetch(t.Context(), mustName(t, "big"), &got, limit)
	var tooLarge *TooLargeError
	if !errors.As(err, &tooLarge) || tooLarge.Limit != limit || tooLarge.Name.String() != "big" || fault.Kind(err) != fault.Invalid {
		t.Errorf("100 MB: %v", err)
	}
	if got > limit {
		t.Errorf("%d bytes were passed on", got)
	}
}

type sizeWriter int64

func (s *sizeWriter) Write(p []byte) (int, error) { *s += sizeWriter(len(p)); return len(p), nil }

func TestOvenAnnouncedTooLarge(t *testing.T) {
	const size = 1 << 20
	v := oven(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		writePage(w, strings.Repeat("x", size))
	}, OvenOptions{})
	var got sizeWriter
	_, err := v.Fetch(t.Context(), mustName(t, "big"), &got, size-1)
	if !errors.Is(err, fault.Invalid) || got != 0 {
		t.Errorf("%v after %d bytes", err, got)
	}
}

// An oven that never ends: the time-out or a leaving caller must end the fetch.
func TestOvenHangs(t *testing.T) {
	silent := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	dripping := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		for r.Context().Err() == nil {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			time.Sleep(time.Millisecond)
		}
	}
	const short, endless = 30 * time.Millisecond, time.Hour
	tests := []struct {
		does    string
		handler http.HandlerFunc
		o       OvenOptions
		because string
	}{
		{"sends nothing", silent, OvenOptions{Timeout: short, HeaderTimeout: endless}, "longer than 30ms"},
		{"sends no header", silent, OvenOptions{Timeout: endless, HeaderTimeout: short}, "timeout awaiting response headers"},
		{"drips", dripping, OvenOptions{Timeout: short, HeaderTimeout: endless}, "longer than 30ms"},
	}
	for _, tt := range tests {
		v := oven(t, tt.handler, tt.o)
		_, err := v.Fetch(t.Context(), mustName(t, "x"), io.Discard, 1<<40)
		if fault.Kind(err) != fault.Unavailable || !strings.Contains(err.Error(), tt.because) {
			t.Errorf("an oven that %s: %v; want %q", tt.does, err, tt.because)
		}
		if slow, ok := errors.AsType[*TimeoutError](err); !ok || slow.Name != mustName(t, "x") {
			t.Errorf("an oven that %s: %v is no TimeoutError", tt.does, err)
		}
	}
	for _, handler := range []http.HandlerFunc{silent, dripping} {
		v := oven(t, handler, OvenOptions{Timeout: endless})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(short, cancel)
		_, err := v.Fetch(ctx, mustName(t, "x"), io.Discard, 1<<40)
		if !errors.Is(err, context.Canceled) || fault.Kind(err) != fault.Unavailable {
			t.Errorf("cancelled: %v", err)
		}
		if _, ok := errors.AsType[*TimeoutError](err); ok {
			t.Errorf("a caller that leaves gets the error that the oven is slow: %v", err)
		}
	}
}

func TestOvenRedirects(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		t.Error("the other host was asked")
		writePage(w, page)
	}))
	defer other.Close()
	tests := []struct {
		hops    int
		to      string // in the end
		because string // "" for a bundle
	}{
		{1, "", ""},
		{maxRedirects, "", ""},
		{maxRedirects + 1, "", "more than 3 times"},
		{1, other.URL, "configure it as the oven"},
		{1, "https://{host}", "configure it as the oven"},
		{maxRedirects, other.URL, "configure it as the oven"},                  // not at once
		{1, "//" + other.Listener.Addr().String(), "configure it as the oven"}, // of the same scheme
		{1, "http://{host}@" + other.Listener.Addr().String(), "configure it as the oven"},
		{1, "http://127.0.0.1:1/admin", "configure it as the oven"}, // another port of the same host
		{1, "http://169.254.169.254/latest/meta-data", "configure it as the oven"},
		{1, "file:///etc/passwd", "redirects to file://"},
	}
	for _, tt := range tests {
		left := tt.hops
		v := oven(t, func(w http.ResponseWriter, r *http.Request) {
			if left == 0 {
				writePage(w, page)
				return
			}
			left--
			to := strings.Replace(tt.to, "{host}", r.Host, 1)
			if to == "" {
				to = fmt.Sprint("/hop/", left)
			}
			http.Redirect(w, r, to, http.StatusFound)
		}, OvenOptions{})
		_, err := v.Fetch(t.Context(), mustName(t, "x"), io.Discard, 1000)
		if tt.because == "" && err != nil || tt.because != "" &&
			(fault.Kind(err) != fault.Unavailable || !strings.Contains(err.Error(), tt.because)) {
			t.Errorf("%d redirects to %q: %v; want %q", tt.hops, tt.to, err, tt.because)
		}
	}
}

func TestOvenFetchesAtOnce(t *testing.T) {
	arrived, release := make(chan struct{}, 9), make(chan struct{})
	v := oven(t, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		writePage(w, page)
	}, OvenOptions{Concurrency: 2})
	x := mustName(t, "x")
	done := make(chan error, 9)
	for range 3 {
		go func() {
			_, err := v.Fetch(context.Background(), x, io.Discard, 1000)
			done <- err
		}()
	}
	<-arrived
	<-arrived
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Fetch(ctx, x, io.Discard, 1000); !errors.Is(err, context.Canceled) || fault.Kind(err) != fault.Unavailable ||
		!strings.Contains(err.Error(), "wait for one of 2 fetches") {
		t.Errorf("a fetch that leaves the queue: %v", err)
	}
	if len(arrived) != 0 {
		t.Error("three fetches at once")
	}
	close(release)
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestOvenWriterFails(t *testing.T) {
	v := oven(t, func(w http.ResponseWriter, _ *http.Request) { writePage(w, page) }, OvenOptions{})
	broken := errors.New("disk on fire")
	r, w := io.Pipe()
	r.CloseWithError(broken)
	if _, err := v.Fetch(t.Context(), mustName(t, "x"), w, 1000); !errors.Is(err, broken) || fault.Kind(err) != fault.Unavailable {
		t.Errorf("a writer that fails: %v", err)
	}
}

func TestOvenChanged(t *testing.T) {
	v := oven(t, nil, OvenOptions{Refresh: time.Minute})
	for age, want := range map[time.Duration]bool{0: false, time.Minute: false, time.Minute + 1: true} {
		if got := v.Changed(t.Context(), mustName(t, "x"), Info{}, age); got != want {
			t.Errorf("changed after %s: %v", age, got)
		}
	}
	if names, err := v.Names(t.Context()); names != nil || err != nil {
		t.Errorf("names %v, %v", names, err)
	}
}

func TestOvenRefusesConfiguration(t *testing.T) {
	for _, base := range []string{"", "oven", "ftp://oven", "http://", "http://oven?x=1", "http://oven#x", "http://me:secret@oven", "http://o ven", ":"} {
		v, err := NewOven(base, OvenOptions{})
		if !errors.Is(err, fault.Invalid) || v != nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("NewOven(%q): %v", base, err)
		}
	}
	for _, o := range []OvenOptions{{Density: -1}, {Refresh: -1}, {Timeout: -1}, {HeaderTimeout: -1}, {Concurrency: -1}} {
		if _, err := NewOven("http://oven", o); !errors.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	v, err := NewOven("http://oven", OvenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Fetch(t.Context(), piece.Name{}, io.Discard, 1); !errors.Is(err, fault.Invalid) {
		t.Errorf("the zero name: %v", err)
	}
}
