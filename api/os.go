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

// The most that a piece may be packed for, as the flag --density has it.
const maxDensity = 16

// A usageError is a request to /os that cannot be understood. Its answer shows
// how to ask.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func misused(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// usage is what the oven says, too.
var usage = map[string]string{"kidlisp": "/os?code=39j", "javascript": "/os?piece=notepat"}

// An order is what a request to /os asks for.
type order struct {
	name   piece.Name
	stream bool
}

// os answers /os?piece=notepat: with a redirect to the image, or with the
// events of its making. A part of an image that is asked for here is the same
// snapshot's as the part before, as with the plain names.
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

// parseOrder reads the query. What is wrong with it is a *usageError.
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
	if said := query.Get("density"); said != "" {
		density, err := strconv.Atoi(said)
		if err != nil || density < 1 || density > maxDensity {
			return order{}, misused("Invalid density %.40q. Use a number from 1 to %d.", said, maxDensity)
		}
		o.name = s.Catalog.NameAt(o.name, density)
	}
	return o, nil
}

// orderedName reads piece= or code=, of which piece wins.
func orderedName(query url.Values) (piece.Name, error) {
	said := query.Get("piece")
	if code := query.Get("code"); said == "" && code != "" {
		said = "$" + strings.TrimPrefix(code, "$")
	}
	if said == "" {
		return piece.Name{}, misused("Missing 'code' or 'piece' parameter.")
	}
	name, err := piece.ParseName(said)
	if err != nil {
		return piece.Name{}, misused("%v", err)
	}
	return name, nil
}

// archNames are what architectures are called elsewhere.
var archNames = map[string]string{"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}

// checkBase refuses a base that is not the one that there is.
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

// address is what links to us begin with: where the operator says that we are,
// else where the client believes us to be.
func (s *server) address(r *http.Request) string {
	if s.PublicURL != "" {
		return strings.TrimRight(s.PublicURL, "/")
	}
	return addressOf(r)
}

// snapshotPath is the path that means this snapshot for ever.
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
