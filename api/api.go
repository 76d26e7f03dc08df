// Package api is isofs over HTTP. It decides which snapshot a request means,
// and nginx sends the bytes: X-Accel-Redirect leads into the mount.
//
// It listens on a unix socket behind the configuration of package nginx, and
// trusts that one's X-Real-IP. nginx does ranges, validators and limits. This
// package sends no byte of an image.
package api

import (
	"log/slog"
	"net/http"
	"net/netip"
	"strings"

	"aesthetic.computer/isofs/catalog"
)

// Config configures the handler.
type Config struct {
	Catalog *catalog.Catalog
	Log     *slog.Logger
	// Healthy reports why the mount cannot be used, or nil.
	Healthy func() error
	// Admin is for the operator's addresses. Without a Key they are closed.
	Admin Admin
	// Observe gets the route and the status of each answer. There are only a
	// few routes. It may be nil.
	Observe func(route string, status int)
	// Ready returns the state of what serving depends on. It must not wait.
	Ready func() []Check
	// PublicURL begins absolute links. "": the address of the request.
	PublicURL string
	// BaseURL returns the folder of the base, if it is public. It may be nil.
	BaseURL func() string
	// Watchers bounds the streams at once; 0: 500. Watched gets 1 when one
	// begins and -1 when one ends; it may be nil.
	Watchers int
	Watched  func(more int)
	// Stopping is closed when the streams have to end.
	Stopping <-chan struct{}
	// Instance is the value of InstanceHeader in /healthz, so that a server can
	// recognize its own answer. "": no header.
	Instance string
	// Trust returns the present keys and signatures. nil: nothing is signed.
	Trust func() *Trust
}

// mountPrefix is the address of the mount's directory s in nginx, for redirects
// only.
const mountPrefix = "/_mount/"

// methods are those that this package answers.
const methods = "GET, HEAD, OPTIONS"

const (
	// corsHeaders are those that a page of another site may send.
	corsHeaders = "Content-Type, Range, If-Range, If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since, Want-Digest"
	// exposed are those that such a page may read, beside the few that all may.
	exposed = "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, Digest, ETag, Link, Location, Repr-Digest, Retry-After, X-Isofs-Snapshot"
)

type server struct {
	Config
	pages    *pages
	watchers chan struct{} // has one entry per stream
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
	mux.Handle("GET /api/os", s.answerJSON(s.os)) // the path on aesthetic.computer
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

// errNothingHere is the answer at an address that is not an image's.
var errNothingHere = &statusError{http.StatusNotFound, "there is nothing at this address; images are named like /notepat-os.iso"}

// A handler answers, or returns why it does not.
type handler func(http.ResponseWriter, *http.Request) error

// answer wraps a handler for people and download programs.
func (s *server) answer(h handler) http.Handler { return s.answerIn(asText, h) }

// answerJSON wraps a handler for programs.
func (s *server) answerJSON(h handler) http.Handler { return s.answerIn(asJSON, h) }

// answerIn turns a handler's result into a response. Only here do errors become
// HTTP. The form is for clients that do not say what they accept.
func (s *server) answerIn(f form, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Images are public: pages and emulators of other sites may read them.
		w.Header().Set("Access-Control-Allow-Origin", "*")
		err := h(w, r)
		if err == nil || r.Context().Err() != nil {
			return // answered, or the client has left
		}
		reply := replyTo(err)
		if reply.status >= 500 {
			s.Log.Warn("request failed", "method", r.Method, "path", r.URL.Path, "status", reply.status, "err", err)
		}
		s.writeError(w, r, f, reply, err)
	})
}

// InstanceHeader is in the answers of /healthz, with one value for each run of
// a server.
const InstanceHeader = "X-Isofs-Instance"

// health answers whether images can be read. The address is public, so only the
// operator's log has the reason.
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
	_, _ = w.Write([]byte("ok\n")) // the client may have left
	return nil
}

// options answers a browser's question whether a page of another site may send
// Range and conditions.
func (s *server) options(w http.ResponseWriter, _ *http.Request) error {
	h := w.Header()
	h.Set("Allow", methods)
	h.Set("Access-Control-Allow-Methods", methods)
	h.Set("Access-Control-Allow-Headers", corsHeaders)
	h.Set("Access-Control-Max-Age", "86400")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// clientOf identifies the client by its address. nginx sets X-Real-IP. A
// machine changes the lower half of its IPv6 address day by day, while a whole
// household has one IPv4 address. So an IPv6 client is identified by its
// network.
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
