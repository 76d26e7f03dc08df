package api

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// previewPolicy is what a bundle may do while it is looked at. It is a
// stranger's page at our address: the sandbox gives it an origin of its own,
// that of nobody, without our cookies, storage, frames around it or windows;
// and of the network it has nothing. What is in the bundle itself, inline or as
// data: and blob:, it may use, since that is all it has when it boots.
const previewPolicy = "sandbox allow-scripts; default-src 'none'; " +
	"script-src 'unsafe-inline' 'unsafe-eval' data: blob:; worker-src data: blob:; style-src 'unsafe-inline' data: blob:; " +
	"img-src data: blob:; media-src data: blob:; font-src data: blob:; connect-src data: blob:; " +
	"form-action 'none'; base-uri 'none'; frame-ancestors 'self'"

// previewConnections is the list of servers that a preview may connect to by
// any means: none. It also ends what no policy can, WebRTC and connections made
// in advance, in browsers that know it (Chromium since 152).
const previewConnections = "()"

// previewPath is where a snapshot's bundle is shown.
func previewPath(id string) string { return "/s/" + id + "/preview" }

// preview shows the bundle of a snapshot, inside a page of ours and nowhere
// else: a window of its own could go wherever the bundle sends it.
func (s *server) preview(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Content-Security-Policy", previewPolicy)
	h.Set("Connection-Allowlist", previewConnections)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-DNS-Prefetch-Control", "off")
	h.Set("Vary", "Sec-Fetch-Dest")
	snap, err := s.Catalog.ByID(r.PathValue("id"))
	if err != nil {
		return s.noPreview(w, http.StatusNotFound, "this snapshot is not kept here any more; load the page again")
	}
	if dest := r.Header.Get("Sec-Fetch-Dest"); dest != "" && dest != "iframe" {
		h.Set("Cache-Control", "no-store")
		h.Set("Location", pagePath(snap.Piece()))
		w.WriteHeader(http.StatusSeeOther)
		return nil
	}
	b, err := snap.OpenBundle()
	if err != nil {
		s.Log.Warn("preview failed", "piece", snap.Piece(), "snapshot", snap.ID(), "err", err)
		return s.noPreview(w, replyTo(err).status, "the bundle cannot be read; load the page again to have it fetched again")
	}
	defer b.Close()
	h.Set("Content-Type", "text/html; charset=utf-8")
	// The bytes are for ever, the policy above may change with a release.
	h.Set("Cache-Control", "public, max-age=3600")
	h.Set("ETag", fmt.Sprintf(`"%s"`, snap.Bundle()))
	http.ServeContent(w, r, "", snap.Time(), b)
	return nil
}

// noPreview says so in plain text: a page would refuse to be framed.
func (s *server) noPreview(w http.ResponseWriter, status int, text string) error {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, strings.ToUpper(text[:1])+text[1:]+".\n") // the client may be gone
	return nil
}
