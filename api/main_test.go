package api

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/piece"
)

const (
	slotStart = 64 << 10
	slotSize  = 1 << 20
	baseSize  = slotStart + slotSize + 4096
)

// emptyBase is a base of zeroes.
func emptyBase() image.Base {
	data := make([]byte, baseSize)
	h := sha256.New()
	h.Write(data[:slotStart])
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic(err)
	}
	return image.Base{Bytes: extent.Bytes(data), Manifest: &base.Manifest{
		Version: "2026-11-01", Flavor: "tiny", Arch: "amd64", CreatedAt: "2026-11-01T00:00:00Z",
		PiecePartitionOffset: slotStart, PiecePartitionSize: slotSize, TotalSize: baseSize,
		SHA256: sha256.Sum256(data), Tail: data[slotStart+slotSize:],
		Midstates: base.Midstates{SHA256: hex.EncodeToString(state[4:36])},
	}}
}

// made is the time of the first bundle of every piece.
var made = time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)

// A shop is a source with the pieces of a map. A piece changes when its number
// does.
type shop struct {
	mu       sync.Mutex
	pieces   map[string]int
	title    string
	err      error
	gate     chan struct{}
	fetching chan string
}

func (s *shop) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *shop) Fetch(_ context.Context, name piece.Name, w io.Writer, limit int64) (bundle.Info, error) {
	s.mu.Lock()
	gate, fetching := s.gate, s.fetching
	s.mu.Unlock()
	if fetching != nil {
		fetching <- name.String()
		<-gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.pieces[name.String()]
	if s.err != nil {
		return bundle.Info{}, s.err
	}
	if !ok {
		return bundle.Info{}, fmt.Errorf("read %s.html of /srv/secret: %w", name, fault.NotFound)
	}
	html := fmt.Sprint("<p>", n)
	_, err := io.WriteString(w, html)
	return bundle.Info{
		SHA256: sha256.Sum256([]byte(html)), Size: int64(len(html)), Title: cmp.Or(s.title, "a piece"),
		ModTime: made.Add(time.Duration(n) * time.Minute),
	}, err
}

func (s *shop) Names(context.Context) (names []piece.Name, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.pieces {
		name, err := piece.ParseName(p)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

func (s *shop) Changed(_ context.Context, name piece.Name, info bundle.Info, _ time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !info.ModTime.Equal(made.Add(time.Duration(s.pieces[name.String()]) * time.Minute))
}

// A rig is the handler over a catalog.
type rig struct {
	t       *testing.T
	handler http.Handler
	catalog *catalog.Catalog
	config  catalog.Config
	shop    *shop
	log     *strings.Builder
	dir     string // of the catalog
	sick    error  // the result of Healthy
}

func newRig(t *testing.T, limits catalog.Limits) *rig {
	r := &rig{t: t, shop: &shop{pieces: map[string]int{"notepat": 0}}, log: new(strings.Builder), dir: t.TempDir()}
	limits.RefreshWait = time.Hour
	log := slog.New(slog.NewTextHandler(r.log, nil))
	r.config = catalog.Config{
		Dir: r.dir, Base: emptyBase(), Source: r.shop, Density: 8, Limits: limits, Log: log,
		Now: func() time.Time { return made.Add(24 * time.Hour) },
	}
	r.open()
	t.Cleanup(func() { r.catalog.Close() })
	return r
}

func (r *rig) open() {
	r.t.Helper()
	var err error
	if r.catalog, err = catalog.Open(r.config); err != nil {
		r.t.Fatal(err)
	}
	r.handler = New(Config{Catalog: r.catalog, Log: r.config.Log, Healthy: func() error { return r.sick }})
}

// reopen closes the catalog and opens it again.
func (r *rig) reopen() {
	r.t.Helper()
	if err := r.catalog.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.open()
}
func (r *rig) logger() *slog.Logger { return slog.New(slog.NewTextHandler(r.log, nil)) }

// ask sends a request with headers given as "Key: value".
func (r *rig) ask(method, target string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, "http://isofs.example"+target, nil)
	req.Header.Set("X-Real-IP", "192.0.2.1")
	for _, line := range headers {
		key, value, _ := strings.Cut(line, ": ")
		req.Header.Set(key, value)
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	return w
}

// current is the piece's snapshot at a number.
func (r *rig) current(name string, n int) *catalog.Snapshot {
	r.t.Helper()
	r.shop.set(func() { r.shop.pieces[name] = n })
	parsed, err := piece.ParseName(name)
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := r.catalog.Current(r.t.Context(), parsed)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// losesItsBundle removes the stored bundle of a snapshot.
func (r *rig) losesItsBundle(s *catalog.Snapshot) {
	r.t.Helper()
	if err := os.Remove(filepath.Join(r.dir, "bundles", s.Bundle().String()+".html")); err != nil {
		r.t.Fatal(err)
	}
}

// etag is nginx's ETag of a snapshot (ngx_http_set_etag).
func etag(s *catalog.Snapshot) string {
	return fmt.Sprintf(`"%x-%x"`, s.Time().Unix(), s.Size())
}

// askHost returns the page at / for a client that sends this Host.
func (r *rig) askHost(host string) string {
	req := httptest.NewRequest("GET", "/", nil)
	req.Host = host
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	return w.Body.String()
}
