package api

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strconv"

	"aesthetic.computer/isofs/catalog"
)

//go:embed pages.html
var pagesHTML string

//go:embed style.css
var styleCSS string

// pages are what people see in a browser.
type pages struct {
	templates *template.Template
	policy    string // Content-Security-Policy
}

// newPages parses the pages, which are part of the binary.
func newPages() *pages {
	style := sha256.Sum256([]byte(styleCSS))
	return &pages{
		templates: template.Must(template.New("pages").Funcs(template.FuncMap{
			"style": func() template.CSS { return template.CSS(styleCSS) },
		}).Parse(pagesHTML)),
		// Its own style, a form to itself, and nothing else.
		policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(style[:]) +
			"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
	}
}

// write answers with a page, whole or not at all.
func (p *pages) write(w http.ResponseWriter, name string, status int, data any) error {
	var out bytes.Buffer
	if err := p.templates.ExecuteTemplate(&out, name, data); err != nil {
		return fmt.Errorf("write page %q: %w", name, err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(out.Len()))
	h.Set("Content-Security-Policy", p.policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes()) // the client may be gone
	return nil
}

// problem is what the page of an error shows.
type problem struct {
	Status int
	Title  string
	Text   string
	Again  string // path at which to begin anew, if that helps
}

func newProblem(status int, text string, err error) problem {
	p := problem{Status: status, Title: "That did not work", Text: text}
	switch status {
	case http.StatusNotFound:
		p.Title = "Nothing here"
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		p.Title = "Not at the moment"
	}
	if stale, ok := errors.AsType[*catalog.StaleError](err); ok {
		p.Title = "Too late to resume"
		p.Again = "/" + stale.Piece.FileName()
	}
	return p
}
