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
	"net/netip"
	"strings"

	"aesthetic.computer/isofs/catalog"
)

// Config of the handler.
type Config struct {
	Catalog *catalog.Catalog
	Log     *slog.Logger
	// Healthy reports why the mount cannot be used, or nil.
	Healthy func() error
	// Admin is for the operator's addresses; without a Key they are closed.
	Admin Admin
	// Observe is told of each answer: the route, which is one of a few, and the
	// status. It may be nil.
	Observe func(route string, status int)
	// Ready tells what serving depends on. It must not wait for anything.
	Ready func() []Check
	// PublicURL is what absolute links begin with; "": what the client asked.
	PublicURL string
	// BaseURL returns the folder of the base, if the public may know it. It may be
	// nil.
	BaseURL func() string
	// Watchers bounds the streams at once; 0: 500. Watched is told of each that
	// begins (1) and ends (-1); it may be nil.
	Watchers int
	Watched  func(more int)
	// Stopping is closed when the streams have to end.
	Stopping <-chan struct{}
	// Instance is what /healthz names in a header, InstanceHeader, so that a
	// server can tell its own answer from that of another; "" is none.
	Instance string
	// Trust returns what people check images by now; nil: nothing is signed.
	Trust func() *Trust
}

// mountPrefix is where nginx has the mount's s directory, for redirects only.
const mountPrefix = "/_mount/"

// methods are those that this package answers.
const methods = "GET, HEAD, OPTIONS"

const (
	// corsHeaders are those that a page elsewhere may send.
	corsHeaders = "Content-Type, Range, If-Range, If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since, Want-Digest"
	// exposed are those that it may see, beside the few that all may.
	exposed = "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, Digest, ETag, Link, Location, Repr-Digest, Retry-After, X-Isofs-Snapshot"
)

type server struct {
	Config
	pages    *pages
	watchers chan struct{} // one is in it for each stream
	sums     sums
}

// New returns the handler of all paths.
func New(c Config) http.Handler {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Watchers == 0 {
		c.Watchers = defaultWatchers
	}
	if c.Watched == nil {
		c.Watched = func(int) {}
	}
	s := &server{Config: c, pages: newPages(), watchers: make(chan struct{}, c.Watchers)}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", s.answer(s.index))
	mux.Handle("GET /healthz", s.answer(s.health))
	mux.Handle("GET /readyz", s.answerJSON(s.ready))
	mux.Handle("GET /os", s.answerJSON(s.os))
	mux.Handle("GET /api/os", s.answerJSON(s.os)) // as aesthetic.computer calls it
	mux.Handle("GET /os-status", s.answerJSON(s.osStatus))
	s.registerTrust(mux)
	mux.Handle("GET /s/{id}/preview", s.answer(s.preview))
	mux.Handle("GET /s/{id}/{file}", s.answer(s.bySnapshot))
	mux.Handle("GET /{file}", s.answer(s.byName))
	mux.Handle("OPTIONS /", s.answer(s.options))
	mux.Handle("/", s.answer(func(w http.ResponseWriter, r *http.Request) error {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", methods)
			return &statusError{http.StatusMethodNotAllowed, "this address can only be read (GET or HEAD)"}
		}
		return errNothingHere
	}))
	osPage := s.answer(s.osPage)
	all := http.NewServeMux()
	all.Handle("/", mux)
	all.Handle("/admin/", newAdmin(s, c.Admin).handler())
	return s.observed(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if read := r.Method == http.MethodGet || r.Method == http.MethodHead; read && strings.HasPrefix(r.URL.Path, pagePrefix) {
			osPage.ServeHTTP(w, r)
			return
		}
		all.ServeHTTP(w, r)
	}))
}

// errNothingHere is the answer at an address that no image can have.
var errNothingHere = &statusError{http.StatusNotFound, "there is nothing at this address; images are named like /notepat-os.iso"}

// A handler answers, or says why it does not.
type handler func(http.ResponseWriter, *http.Request) error

// answer is a handler of addresses that people and download clients ask.
func (s *server) answer(h handler) http.Handler { return s.answerIn(asText, h) }

// answerJSON is a handler of addresses that programs ask.
func (s *server) answerJSON(h handler) http.Handler { return s.answerIn(asJSON, h) }

// answerIn turns what a handler returns into a response: the one place where
// errors become HTTP. The form is for clients that do not say what they accept.
func (s *server) answerIn(f form, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Images are public: pages and emulators elsewhere may read them.
		w.Header().Set("Access-Control-Allow-Origin", "*")
		err := h(w, r)
		if err == nil || r.Context().Err() != nil {
			return // answered, or there is nobody to answer
		}
		reply := replyTo(err)
		if reply.status >= 500 {
			s.Log.Warn("request failed", "method", r.Method, "path", r.URL.Path, "status", reply.status, "err", err)
		}
		s.writeError(w, r, f, reply, err)
	})
}

// InstanceHeader is in the answers of /healthz: one value for each run of a
// server.
const InstanceHeader = "X-Isofs-Instance"

// health answers whether images can be read. Why not is for the operator's
// log, since the address is public.
func (s *server) health(w http.ResponseWriter, r *http.Request) error {
	if s.Healthy != nil {
		if err := s.Healthy(); err != nil {
			s.Log.Warn("not healthy", "err", err)
			return &statusError{http.StatusServiceUnavailable, "images cannot be read at the moment; the operator's log says why"}
		}
	}
	if s.Instance != "" {
		w.Header().Set(InstanceHeader, s.Instance)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte("ok\n")) // the client may be gone
	return nil
}

// options answers a browser that asks whether a page elsewhere may send Range
// and its conditions.
func (s *server) options(w http.ResponseWriter, _ *http.Request) error {
	h := w.Header()
	h.Set("Allow", methods)
	h.Set("Access-Control-Allow-Methods", methods)
	h.Set("Access-Control-Allow-Headers", corsHeaders)
	h.Set("Access-Control-Max-Age", "86400")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// clientOf is the address of the client. nginx overwrites X-Real-IP with what it knows. A
// machine changes the lower half of its IPv6 address day by day, and a whole
// household has one IPv4 address: so an IPv6 client is known by its network.
func clientOf(r *http.Request) catalog.Client {
	address := r.Header.Get("X-Real-IP")
	if ip, err := netip.ParseAddr(address); err == nil {
		if ip = ip.Unmap(); ip.Is6() {
			const household = 64 // bits, RFC 6177
			ip = netip.PrefixFrom(ip.WithZone(""), household).Masked().Addr()
		}
		address = ip.String()
	}
	return catalog.Client{Address: address, Agent: r.UserAgent()}
}
