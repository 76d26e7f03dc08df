// Package api is isofs over HTTP: it answers what a web server cannot know by
// itself, which snapshot a request means, and hands the bytes back to nginx by
// X-Accel-Redirect into the mount.
//
// It is meant to listen on a unix socket behind the configuration of package
// nginx, whose X-Real-IP it trusts. It leaves out ranges, validators and
// limits, which are nginx's, and serves no byte of an image.
package api

import (
	"log/slog"
	"net/http"
	"time"

	"aesthetic.computer/isofs/catalog"
)

// Config of the handler.
type Config struct {
	Catalog *catalog.Catalog
	Log     *slog.Logger
	// Healthy reports why the mount cannot be used, or nil.
	Healthy func() error
}

// mountPrefix is where nginx has the mount's s directory, for redirects only.
const mountPrefix = "/_mount/"

type server struct{ Config }

// New returns the handler of all paths.
func New(c Config) http.Handler {
	s := &server{c}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", s.answer(s.index))
	mux.Handle("GET /healthz", s.answer(s.health))
	mux.Handle("GET /s/{id}/{file}", s.answer(s.bySnapshot))
	mux.Handle("GET /{file}", s.answer(s.byName))
	mux.Handle("/", s.answer(func(_ http.ResponseWriter, r *http.Request) error {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			return &statusError{http.StatusMethodNotAllowed, "this address can only be read (GET or HEAD)"}
		}
		return &statusError{http.StatusNotFound, "there is nothing at this address; images are named like /notepat-os.iso"}
	}))
	return mux
}

// answer turns what a handler returns into a response: the one place where
// errors become HTTP.
func (s *server) answer(h func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if err == nil {
			return
		}
		status := statusOf(err)
		if status >= 500 {
			s.Log.Warn("request failed", "method", r.Method, "path", r.URL.Path, "status", status, "err", err)
		}
		writeError(w, r, status, err)
	})
}

func (s *server) health(w http.ResponseWriter, _ *http.Request) error {
	if s.Healthy != nil {
		if err := s.Healthy(); err != nil {
			return &statusError{http.StatusServiceUnavailable, err.Error()}
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte("ok\n")) // the client may be gone
	return nil
}

// clientOf tells who asks. nginx overwrites X-Real-IP with what it knows.
func clientOf(r *http.Request) catalog.Client {
	return catalog.Client{Address: r.Header.Get("X-Real-IP"), Agent: r.UserAgent()}
}

// validatorTime returns the modification time in a validator that nginx made:
// an ETag of time and size in hexadecimal, or a date.
func validatorTime(v string) (time.Time, bool) {
	if t, err := http.ParseTime(v); err == nil {
		return t, true
	}
	return etagTime(v)
}
