package api

import (
	"net/http"
	"strings"

	"aesthetic.computer/isofs/piece"
)

// maxListed bounds the page, however many pieces there are.
const maxListed = 500

// indexData is the page's data.
type indexData struct {
	Address string // "http://127.0.0.1:8080"
	Pieces  []piece.Name
	Example piece.Name
	More    int // pieces beyond maxListed
	Base    string
	Search  string // a search that is not a name,
	Problem string // and why not
}

// index is the page at /, with the pieces and a search. With ?piece= it
// redirects to the page of a piece.
func (s *server) index(w http.ResponseWriter, r *http.Request) error {
	data := indexData{Address: s.address(r), Base: s.Catalog.BaseSummary()}
	status := http.StatusOK
	w.Header().Set("Cache-Control", "no-cache")
	if search := strings.TrimSpace(r.URL.Query().Get("piece")); search != "" {
		name, err := piece.ParseName(strings.TrimPrefix(search, "os:"))
		if err == nil {
			w.Header().Set("Location", pagePath(name))
			w.WriteHeader(http.StatusSeeOther)
			return nil
		}
		if !strings.Contains(r.Header.Get("Accept"), "text/html") {
			return &statusError{http.StatusBadRequest, err.Error()}
		}
		status, data.Search, data.Problem = http.StatusBadRequest, search, err.Error()
	}
	data.Pieces = s.Catalog.Pieces(r.Context())
	if len(data.Pieces) > 0 {
		data.Example = data.Pieces[0]
	}
	if more := len(data.Pieces) - maxListed; more > 0 {
		data.Pieces, data.More = data.Pieces[:maxListed], more
	}
	return s.pages.write(w, "index", status, data)
}

// addressOf is this server's address as the client sees it. People copy it into
// a shell, so a Host that is not a host name is left out.
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
