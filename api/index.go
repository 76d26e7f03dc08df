package api

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"

	"aesthetic.computer/isofs/bundle"
)

//go:embed index.html
var indexHTML string

// maxListed bounds the page, however many pieces are known.
const maxListed = 500

// contentSecurityPolicy lets the page have its own style and nothing else.
const contentSecurityPolicy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// indexData is what the page shows.
type indexData struct {
	Host   string // "127.0.0.1:8080"
	Scheme string
	Pieces []bundle.Name
	More   int // pieces beyond maxListed
	Base   string
}

// index is the page at /: what there is to download, and how.
func (s *server) index(w http.ResponseWriter, r *http.Request) error {
	page, err := template.New("index").Parse(indexHTML)
	if err != nil {
		return fmt.Errorf("parse the page: %w", err)
	}
	pieces := s.Catalog.Pieces(r.Context())
	data := indexData{Host: r.Host, Scheme: "http", Pieces: pieces, Base: s.Catalog.BaseSummary()}
	if proto := r.Header.Get("X-Forwarded-Proto"); proto == "https" {
		data.Scheme = proto
	}
	if len(pieces) > maxListed {
		data.Pieces, data.More = pieces[:maxListed], len(pieces)-maxListed
	}
	var out bytes.Buffer
	if err := page.Execute(&out, data); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(out.Bytes()) // the client may be gone
	return nil
}
