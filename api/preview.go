package api

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// previewPolicy bounds what a bundle may do in a preview. It is a stranger's
// page at our address. The sandbox gives it an opaque origin, without our
// cookies, storage, frames and windows, and without the network. It may use
// what the bundle has inline or as data: and blob:, as it has only that when it
// boots.
const previewPolicy = "sandbox allow-scripts; default-src 'none'; " +
	"script-src 'unsafe-inline' 'unsafe-eval' data: blob:; worker-src data: blob:; style-src 'unsafe-inline' data: blob:; " +
	"img-src data: blob:; media-src data: blob:; font-src data: blob:; connect-src data: blob:; " +
	"form-action 'none'; base-uri 'none'; frame-ancestors 'self'"

// previewConnections lists the servers that a preview may connect to by any
// means: none. No policy can stop WebRTC and early connections. This header
// does, in browsers that support it (Chromium since 152).
const previewConnections = "()"

// previewPath is the path of a snapshot's preview.
func previewPath(id string) string { return "/s/" + id + "/preview" }

// preview shows the bundle of a snapshot in a frame of our page only. In its
// own window a bundle could navigate anywhere.
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
		return s.noPreview(w, replyTo(err).status, "the bundle cannot be read; load the page again, and isofs fetches it again")
	}
	defer b.Close()
	h.Set("Content-Type", "text/html; charset=utf-8")
	// The bytes never change, but the policy above may change with a release.
	h.Set("Cache-Control", "public, max-age=3600")
	h.Set("ETag", fmt.Sprintf(`"%s"`, snap.Bundle()))
	http.ServeContent(w, r, "", snap.Time(), b)
	return nil
}

// noPreview answers in plain text: browsers refuse to frame an error page.
func (s *server) noPreview(w http.ResponseWriter, status int, text string) error {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, strings.ToUpper(text[:1])+text[1:]+".\n") // the client may have left
	return nil
}
