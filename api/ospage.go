package api

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/piece"
)

// pagePrefix begins the addresses of the pages of pieces: /os:notepat, as on
// aesthetic.computer. It ends inside a segment of the path, for which the mux
// has no pattern.
const pagePrefix = "/os:"

// pagePath is the path of a piece's page. A canonical name needs no escape.
func pagePath(name piece.Name) string { return pagePrefix + name.String() }

// osPage is the data of a piece's page. It is available at once. The page's
// script requests slow data by GET /os.
type osPage struct {
	Name    piece.Name
	Title   string // the bundle's own, or ""
	Query   string // of GET /os
	Address string // of this server
	URL     string // of this page
	Image   string // URL of the image: the snapshot's if there is one
	Known   *facts
	QR      template.HTML
	Base    string
}

// facts are those of a snapshot.
type facts struct {
	ID, SHA256 string
	Bytes      int64
	Path       string // of the image
	Preview    string
	Made       string
	Signed     bool
	Beside     []string // suffixes of the other files beside the image
}

// osPage answers /os:<piece>. It does not ask the source, so the page comes at
// once.
func (s *server) osPage(w http.ResponseWriter, r *http.Request) error {
	text := strings.TrimPrefix(r.URL.Path, pagePrefix)
	w.Header().Set("Cache-Control", "no-cache")
	if text == "" {
		w.Header().Set("Location", "/")
		w.WriteHeader(http.StatusFound)
		return nil
	}
	name, err := piece.ParseName(text)
	if err != nil {
		return &statusError{http.StatusBadRequest, err.Error()}
	}
	page, err := newOSPage(name, s.address(r), s.Catalog.Known(name))
	if err != nil {
		return err
	}
	page.Base = s.Catalog.BaseSummary()
	return s.pages.write(w, "os", http.StatusOK, page)
}

func newOSPage(name piece.Name, address string, snap *catalog.Snapshot) (*osPage, error) {
	key, value := name.Query()
	p := &osPage{
		Name: name, Query: url.Values{key: {value}}.Encode(), Address: address,
		URL: address + pagePath(name), Image: address + "/" + name.FileName(),
	}
	if snap != nil {
		p.Known = newFacts(snap)
		p.Image = address + p.Known.Path
		if title := snap.Title(); title != name.String() {
			p.Title = title
		}
	}
	var err error
	p.QR, err = drawQR(p.URL)
	return p, err
}

func newFacts(snap *catalog.Snapshot) *facts {
	return &facts{
		ID: snap.ID(), SHA256: snap.SHA256().String(), Bytes: snap.Size(),
		Path: snapshotPath(snap), Preview: previewPath(snap.ID()),
		Made:   snap.Time().UTC().Format("2006-01-02 15:04 UTC"),
		Signed: slices.Contains(snap.Suffixes(), "asc"),
		Beside: slices.DeleteFunc(slices.Clone(snap.Suffixes()), func(suffix string) bool { return suffix == "asc" }),
	}
}

// Size is the image's length for people.
func (f *facts) Size() string {
	if f.Bytes >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(f.Bytes)/(1<<30))
	}
	return fmt.Sprintf("%d MiB", f.Bytes>>20)
}

// Long tells the style how much room the name needs.
func (p *osPage) Long() string {
	switch n := len(p.Name.String()); {
	case n > 24:
		return "longest"
	case n > 12:
		return "longer"
	case n > 8:
		return "long"
	}
	return ""
}

// Etcher is the link that opens the image in balenaEtcher. Etcher registers the
// scheme etcher:// and takes the rest for the image (its lib/gui/etcher.ts). A
// plain URL fails: browsers that follow the URL standard drop the second colon.
// A percent-encoded URL fails too: Etcher fetches it without decoding it
// (source-selector.tsx, lib/util/source-metadata.ts). All versions since 1.7
// decode an encoded object with the URL in it.
func (p *osPage) Etcher() (template.URL, error) {
	image, err := json.Marshal(map[string]string{"url": p.Image})
	if err != nil {
		return "", fmt.Errorf("make the link for Etcher: %w", err)
	}
	return template.URL("etcher://" + url.QueryEscape(string(image))), nil
}
