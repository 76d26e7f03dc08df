package api

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/piece"
)

// maxDensity is the greatest pixel density, as for the flag --density.
const maxDensity = 16

// A usageError is a request to /os that cannot be understood. Its answer shows
// the right form.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func misused(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// usage is the same as the oven's.
var usage = map[string]string{"kidlisp": "/os?code=39j", "javascript": "/os?piece=notepat"}

// An order is a parsed request to /os.
type order struct {
	name   piece.Name
	stream bool
}

// os answers /os?piece=notepat with a redirect to the image, or with the events
// of its build. A request for a part gets the snapshot of the part before, as
// with the plain names.
func (s *server) os(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", methods)
	h.Set("Access-Control-Allow-Headers", corsHeaders)
	h.Set("Access-Control-Expose-Headers", exposed)
	o, err := s.parseOrder(r)
	if err != nil {
		return err
	}
	h.Set("X-Isofs-Piece", o.name.String())
	if o.stream {
		return s.stream(w, r, o.name)
	}
	snap, err := s.choose(r, o.name, "")
	if err != nil {
		return nameMissing(o.name, err)
	}
	path := snapshotPath(snap)
	h.Set("X-Isofs-Snapshot", snap.ID())
	h.Set("Link", linksOf(snap))
	h.Set("Cache-Control", "no-cache")
	h.Set("Location", s.address(r)+path)
	w.WriteHeader(http.StatusFound)
	return nil
}

// parseOrder reads the query. Its errors are *usageError.
func (s *server) parseOrder(r *http.Request) (order, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return order{}, misused("the part of the address after ? cannot be read; write %% as %%25 and & as %%26")
	}
	name, err := orderedName(query)
	if err != nil {
		return order{}, err
	}
	o := order{name: name}
	switch format := query.Get("format"); format {
	case "", "download":
	case "stream":
		o.stream = true
	default:
		return order{}, misused("Invalid format %.40q. Use 'download' or 'stream'.", format)
	}
	if err := s.checkBase(query.Get("flavor"), query.Get("arch")); err != nil {
		return order{}, err
	}
	if text := query.Get("density"); text != "" {
		density, err := strconv.Atoi(text)
		if err != nil || density < 1 || density > maxDensity {
			return order{}, misused("Invalid density %.40q. Use a number from 1 to %d.", text, maxDensity)
		}
		o.name = s.Catalog.NameAt(o.name, density)
	}
	return o, nil
}

// orderedName reads piece= or code=. piece wins.
func orderedName(query url.Values) (piece.Name, error) {
	text := query.Get("piece")
	if code := query.Get("code"); text == "" && code != "" {
		text = "$" + strings.TrimPrefix(code, "$")
	}
	if text == "" {
		return piece.Name{}, misused("Missing 'code' or 'piece' parameter.")
	}
	name, err := piece.ParseName(text)
	if err != nil {
		return piece.Name{}, misused("%v", err)
	}
	return name, nil
}

// archNames are other names of architectures.
var archNames = map[string]string{"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}

// checkBase refuses a base other than the present one.
func (s *server) checkBase(flavor, arch string) error {
	has := s.Catalog.Base()
	if flavor != "" && flavor != has.Flavor {
		return misused("Invalid flavor %.40q. Use '%s'; there is no other here.", flavor, has.Flavor)
	}
	if known, ok := archNames[strings.ToLower(arch)]; ok {
		arch = known
	}
	if arch != "" && arch != has.Arch {
		return misused("Invalid arch %.40q. Use '%s'; there is no other here.", arch, has.Arch)
	}
	return nil
}

// address begins links to this server: the PublicURL, or the address that the
// client sees.
func (s *server) address(r *http.Request) string {
	if s.PublicURL != "" {
		return strings.TrimRight(s.PublicURL, "/")
	}
	return addressOf(r)
}

// snapshotPath is the snapshot's own path. It never means another one.
func snapshotPath(snap *catalog.Snapshot) string { return "/s/" + snap.ID() + "/" + snap.FileName() }

// linksOf is the Link header of an image: its own address, and its sidecars'.
func linksOf(snap *catalog.Snapshot) string { return linksTo(snapshotPath(snap), snap.Suffixes()) }

func linksTo(path string, suffixes []string) string {
	links := []string{fmt.Sprintf("<%s>; rel=\"canonical\"", path)}
	for _, suffix := range suffixes {
		links = append(links, fmt.Sprintf("<%s.%s>; rel=\"describedby\"", path, suffix))
	}
	return strings.Join(links, ", ")
}
