package api

import (
	"net/http"
	"strings"

	"aesthetic.computer/isofs/bundle"
)

// maxListed bounds the page, however many pieces are known.
const maxListed = 500

// indexData is what the page shows.
type indexData struct {
	Address string // "http://127.0.0.1:8080"
	Pieces  []bundle.Name
	Example bundle.Name
	More    int // pieces beyond maxListed
	Base    string
}

// index is the page at /: what there is to download, and how. With ?piece= it
// goes to the image of a piece, whose name a person need not know.
func (s *server) index(w http.ResponseWriter, r *http.Request) error {
	if said := strings.TrimSpace(r.URL.Query().Get("piece")); said != "" {
		name, err := bundle.ParseName(said)
		if err != nil {
			return &statusError{http.StatusBadRequest, err.Error()}
		}
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("Location", "/"+name.FileName())
		w.WriteHeader(http.StatusSeeOther)
		return nil
	}
	data := indexData{Address: s.address(r), Pieces: s.Catalog.Pieces(r.Context()), Base: s.Catalog.BaseSummary()}
	if len(data.Pieces) > 0 {
		data.Example = data.Pieces[0]
	}
	if more := len(data.Pieces) - maxListed; more > 0 {
		data.Pieces, data.More = data.Pieces[:maxListed], more
	}
	w.Header().Set("Cache-Control", "no-cache")
	return s.pages.write(w, "index", http.StatusOK, data)
}

// addressOf is where the client believes us to be, for commands that people
// copy into a shell: so whatever is no host name is left out.
func addressOf(r *http.Request) string {
	host := r.Host
	if host == "" || strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]") != "" {
		host = "localhost"
	}
	if r.Header.Get("X-Forwarded-Proto") == "https" {
		return "https://" + host
	}
	return "http://" + host
}
