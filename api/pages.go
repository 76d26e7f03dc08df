package api

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strconv"

	"aesthetic.computer/isofs/catalog"
)

//go:embed pages.html os.html
var pageFiles embed.FS

//go:embed style.css
var styleCSS string

//go:embed page.js
var pageJS string

// pages are what people see in a browser.
type pages struct {
	templates *template.Template
	policy    string // Content-Security-Policy
}

// newPages parses the pages, which are part of the binary.
func newPages() *pages {
	return &pages{
		templates: template.Must(template.New("pages").Funcs(template.FuncMap{
			"style":  func() template.CSS { return template.CSS(styleCSS) },
			"script": func() template.JS { return template.JS(pageJS) },
			"draw":   draw,
		}).ParseFS(pageFiles, "*.html")),
		// A page may use its own inline style and script, by their digests. It
		// may send a form and requests to this server, and show previews in a
		// frame. It may do nothing else.
		policy: "default-src 'none'; style-src " + hashOf(styleCSS) + "; script-src " + hashOf(pageJS) +
			"; connect-src 'self'; frame-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
	}
}

// hashOf names an inline style or script in a policy.
func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
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
	_, _ = w.Write(out.Bytes()) // the client may have left
	return nil
}

// problem is the data of an error's page.
type problem struct {
	Status int
	Title  string
	Text   string
	Again  string // path at which to begin again, if that helps
	Names  bool   // whether to show what names look like
}

func newProblem(status int, text string, err error) problem {
	p := problem{Status: status, Title: "That did not work", Text: text}
	switch status {
	case http.StatusBadRequest:
		p.Title, p.Names = "That is not a piece", true
	case http.StatusNotFound:
		p.Title, p.Names = "Nothing here", true
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		p.Title = "Not at the moment"
	}
	if stale, ok := errors.AsType[*catalog.StaleError](err); ok {
		p.Title = "Too late to resume"
		p.Again = "/" + stale.Piece.FileName()
	}
	return p
}
