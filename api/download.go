package api

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/catalog"
)

// bySnapshot answers /s/<id>/<file>: nginx asks for the headers of a whole
// download, and for the words of a 404.
func (s *server) bySnapshot(w http.ResponseWriter, r *http.Request) error {
	snap, err := s.Catalog.ByID(r.PathValue("id"))
	if err != nil {
		return err
	}
	file, suffix := splitSidecar(r.PathValue("file"))
	if file != snap.FileName() {
		return &statusError{http.StatusNotFound, fmt.Sprintf("this snapshot is named %s", snap.FileName())}
	}
	return s.hand(w, snap, suffix, "public, max-age=31536000, immutable")
}

// byName answers /<piece>-os.iso and its sidecars with the snapshot that this
// request means.
func (s *server) byName(w http.ResponseWriter, r *http.Request) error {
	file, suffix := splitSidecar(r.PathValue("file"))
	name, err := bundle.ParseFileName(file)
	if err != nil {
		if !strings.HasSuffix(file, "-os.iso") {
			return &statusError{http.StatusNotFound, "there is nothing at this address; images are named like /notepat-os.iso"}
		}
		return err
	}
	snap, err := s.choose(r, name, suffix)
	if err != nil {
		return err
	}
	return s.hand(w, snap, suffix, "no-cache")
}

// choose finds the snapshot that a request for a plain name means. What a
// client already has decides, so that the bytes of one download are of one
// image (DESIGN.md, invariant 3).
func (s *server) choose(r *http.Request, name bundle.Name, suffix string) (*catalog.Snapshot, error) {
	ctx, who := r.Context(), clientOf(r)
	if suffix != "" {
		return s.Catalog.Continue(ctx, who, name)
	}
	want, ok := parseRange(r.Header.Get("Range"))
	if r.Header.Get("Want-Digest") != "" && (!ok || want.whole()) {
		// aria2, which begins also the rest of a download with a request for all
		// of it, only to read the headers; the ranges that follow have to be of
		// the image that it has a part of.
		return s.Catalog.Continue(ctx, who, name)
	}
	if r.Method == http.MethodHead {
		return s.Catalog.Peek(ctx, who, name)
	}
	if !ok || want.whole() {
		return s.Catalog.Begin(ctx, who, name)
	}
	if v := r.Header.Get("If-Range"); v != "" {
		// The validator says which image the client has. If that is kept, nginx
		// will find the validator right and send the range; else it sends all.
		if t, ok := validatorTime(v); ok {
			if snap, err := s.Catalog.At(name, t); err == nil {
				return snap, nil
			}
		}
		return s.Catalog.Begin(ctx, who, name)
	}
	if want.start == 0 {
		return s.Catalog.Continue(ctx, who, name)
	}
	return s.Catalog.Resume(ctx, who, name, want.start)
}

// hand sets the headers that nginx cannot know and sends it to the file.
func (s *server) hand(w http.ResponseWriter, snap *catalog.Snapshot, suffix, caching string) error {
	h := w.Header()
	file := snap.FileName()
	path := "/s/" + snap.ID() + "/" + file
	h.Set("X-Isofs-Piece", snap.Piece().String())
	h.Set("X-Isofs-Snapshot", snap.ID())
	h.Set("Cache-Control", caching)
	if suffix != "" {
		if _, err := snap.Sidecar(suffix); err != nil {
			return err
		}
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("X-Accel-Redirect", mountPrefix+snap.ID()+"/"+file+"."+suffix)
		return nil
	}
	sum := snap.SHA256()
	digest := base64.StdEncoding.EncodeToString(sum[:])
	h.Set("Digest", "SHA-256="+digest)           // RFC 3230: aria2 checks it
	h.Set("Repr-Digest", "sha-256=:"+digest+":") // RFC 9530
	h.Set("Content-Type", "application/octet-stream")
	links := []string{fmt.Sprintf("<%s>; rel=\"canonical\"", path)}
	for _, suffix := range snap.Suffixes() {
		links = append(links, fmt.Sprintf("<%s.%s>; rel=\"describedby\"", path, suffix))
	}
	h.Set("Link", strings.Join(links, ", "))
	h.Set("X-Accel-Redirect", mountPrefix+snap.ID()+"/"+file)
	return nil
}

// splitSidecar splits "notepat-os.iso.sha256" into the image's name and the
// sidecar's suffix, "" for the image itself.
func splitSidecar(s string) (file, suffix string) {
	const ext = "-os.iso."
	if i := strings.LastIndex(s, ext); i >= 0 {
		end := i + len(ext)
		return s[:end-1], s[end:]
	}
	return s, ""
}
