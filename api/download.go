package api

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/piece"
)

// bySnapshot answers /s/<id>/<file>: nginx asks for the headers of a whole
// download, and for the words of a 404.
func (s *server) bySnapshot(w http.ResponseWriter, r *http.Request) error {
	file, suffix := splitSidecar(r.PathValue("file"))
	snap, err := s.Catalog.ByID(r.PathValue("id"))
	if err != nil {
		text := "this snapshot is not kept here, or never was"
		if _, err := piece.ParseFileName(file); err == nil {
			text += "; the latest image is at /" + file
		}
		return &statusError{http.StatusNotFound, text}
	}
	if file != snap.FileName() && file != snap.Slot().FileName() {
		return &statusError{http.StatusNotFound, fmt.Sprintf("this snapshot is named %s", snap.FileName())}
	}
	return s.hand(w, r, download{snap, file, suffix}, "public, max-age=31536000, immutable")
}

// byName answers /<piece>-os.iso, /<piece>-piece.img and their sidecars with the
// snapshot that this request means.
func (s *server) byName(w http.ResponseWriter, r *http.Request) error {
	file, suffix := splitSidecar(r.PathValue("file"))
	name, err := piece.ParseFileName(file)
	if err != nil {
		if !strings.HasSuffix(file, "-os.iso") && !piece.IsSlotFileName(file) {
			return errNothingHere
		}
		return &statusError{http.StatusBadRequest, err.Error()}
	}
	choose := s.choose
	if piece.IsSlotFileName(file) {
		choose = s.chooseSlot
	}
	snap, err := choose(r, name, suffix)
	if err != nil {
		return nameMissing(name, err)
	}
	return s.hand(w, r, download{snap, file, suffix}, "no-cache")
}

// chooseSlot finds the snapshot of which a request for a slot alone by its plain
// name gets the slot. The memory of what clients began with is of images; here a
// resume is answered if its validator says of what, and else refused: no part of
// a slot is like that of another snapshot.
func (s *server) chooseSlot(r *http.Request, name piece.Name, suffix string) (*catalog.Snapshot, error) {
	if suffix == "" {
		if validator, ok := validatorOf(r.Header); ok {
			if t, ok := validatorTime(validator); ok {
				if snap, err := s.Catalog.At(name, t); err == nil {
					return snap, nil
				}
			}
		} else if want := parseRange(r.Header.Get("Range")); r.Method != http.MethodHead && want.start > 0 {
			return nil, &statusError{http.StatusPreconditionFailed, "a part of " + name.SlotFileName() +
				" has to be asked for with If-Range, or at the snapshot's own address, which the header Link of the whole names"}
		}
	}
	return s.Catalog.Current(r.Context(), name)
}

// choose finds the snapshot that a request for a plain name means. What a
// client already has decides, so that the bytes of one download are of one
// image (DESIGN.md, invariant 3).
func (s *server) choose(r *http.Request, name piece.Name, suffix string) (*catalog.Snapshot, error) {
	ctx, who := r.Context(), clientOf(r)
	if suffix != "" {
		return s.Catalog.Continue(ctx, who, name)
	}
	want := parseRange(r.Header.Get("Range"))
	if r.Header.Get("Want-Digest") != "" && want.everything() {
		// aria2, which begins also the rest of a download with a request for all
		// of it, only to read the headers; the ranges that follow have to be of
		// the image that it has a part of.
		return s.Catalog.Continue(ctx, who, name)
	}
	if r.Method == http.MethodHead {
		return s.Catalog.Peek(ctx, who, name)
	}
	if want.everything() {
		return s.Catalog.Begin(ctx, who, name)
	}
	if validator, ok := validatorOf(r.Header); ok {
		// The validator says which image the client has. If that is kept, nginx
		// will find the validator right and send the range; else it finds it
		// wrong, and sends all (If-Range) or nothing.
		if t, ok := validatorTime(validator); ok {
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

// A download is the file of a snapshot that a request gets.
type download struct {
	snap   *catalog.Snapshot
	file   string // of the image, or of what is in its slot
	suffix string // of a sidecar of it; "" for the file itself
}

// hand sets the headers that nginx cannot know and sends it to the file.
// Content-Disposition it knows: and were it set here, nginx would save the
// text that says why an image cannot be read under the image's name.
func (s *server) hand(w http.ResponseWriter, r *http.Request, d download, caching string) error {
	snap, file, suffix := d.snap, d.file, d.suffix
	suffixes := snap.Suffixes()
	slot := piece.IsSlotFileName(file)
	if slot {
		suffixes = snap.Slot().Suffixes()
	}
	if suffix != "" && !slices.Contains(suffixes, suffix) {
		return &statusError{http.StatusNotFound, fmt.Sprintf("%s has no sidecar of that kind; there is .%s", file, strings.Join(suffixes, ", ."))}
	}
	h := w.Header()
	h.Set("X-Isofs-Piece", snap.Piece().String())
	h.Set("X-Isofs-Snapshot", snap.ID())
	h.Set("Cache-Control", caching)
	if suffix != "" {
		// nginx types it by its suffix.
		h.Set("X-Accel-Redirect", mountPrefix+snap.ID()+"/"+file+"."+suffix)
		return nil
	}
	if r.Method == http.MethodGet {
		snap.Begun(clientOf(r))
		open := snap.Open
		if slot {
			open = snap.Slot().Open
		}
		if err := readable(r, snap.Time(), open); err != nil {
			return err
		}
	}
	sum := snap.SHA256()
	if slot {
		var err error
		if sum, err = snap.Slot().SHA256(); err != nil {
			return err
		}
	}
	digest := base64.StdEncoding.EncodeToString(sum[:])
	h.Set("Digest", "SHA-256="+digest)           // RFC 3230: aria2 checks it
	h.Set("Repr-Digest", "sha-256=:"+digest+":") // RFC 9530
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Access-Control-Expose-Headers", exposed)
	h.Set("Link", linksTo("/s/"+snap.ID()+"/"+file, suffixes))
	h.Set("X-Accel-Redirect", mountPrefix+snap.ID()+"/"+file)
	return nil
}

// firstRead is the most that is read of what nginx will send.
const firstRead = 4 << 10

// readable reads the first bytes that nginx will send. Once nginx begins to read
// it can only break the connection off, before its first byte too, and no
// client can tell that from a network that fails.
func readable(r *http.Request, at time.Time, open func() (*catalog.Handle, error)) error {
	h, err := open()
	if err != nil {
		return &unreadableError{err}
	}
	defer h.Close()
	first, n := int64(0), h.Size()
	if of, conditional := validatorTime(r.Header.Get("If-Range")); !conditional || of.Equal(at) {
		first, n = firstSent(r.Header.Get("Range"), h.Size())
	}
	if n == 0 {
		return nil // 416
	}
	// As much as nginx will read next, up to what makes a cache fetch a block
	// without a word.
	if got, err := h.ReadAtContext(r.Context(), make([]byte, min(n, firstRead)), first); err != nil && got == 0 {
		return &unreadableError{err}
	}
	return nil
}

// splitSidecar splits "notepat-os.iso.sha256" into the image's name and the
// sidecar's suffix, "" for the image itself; the same for the slot's.
func splitSidecar(s string) (file, suffix string) {
	for _, ext := range []string{"-os.iso.", "-piece.img."} {
		i := strings.LastIndex(s, ext)
		if end := i + len(ext); i >= 0 && end < len(s) {
			return s[:end-1], s[end:]
		}
	}
	return s, ""
}
