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

// bySnapshot answers /s/<id>/<file>. nginx requests the headers of a whole
// download, and the text of a 404.
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

// byName answers /<piece>-os.iso, /<piece>-piece.img and their sidecars with
// the snapshot that the request means.
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

// chooseSlot finds the snapshot for a slot's file by its plain name. The
// catalog remembers only downloads of images. So a resume needs a validator
// that names its snapshot, and otherwise fails: two snapshots have no part of
// the slot in common.
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
				" needs If-Range, or the snapshot's own address, which the header Link of the whole file names"}
		}
	}
	return s.Catalog.Current(r.Context(), name)
}

// choose finds the snapshot for a plain name. The client's parts decide, so
// that one download has the bytes of one image (DESIGN.md, invariant 3).
func (s *server) choose(r *http.Request, name piece.Name, suffix string) (*catalog.Snapshot, error) {
	ctx, who := r.Context(), clientOf(r)
	if suffix != "" {
		return s.Catalog.Continue(ctx, who, name)
	}
	want := parseRange(r.Header.Get("Range"))
	if r.Header.Get("Want-Digest") != "" && want.everything() {
		// aria2 begins also the rest of a download with a request for the whole
		// file, and reads only the headers. Its next ranges must be of the
		// image that it has a part of.
		return s.Catalog.Continue(ctx, who, name)
	}
	if r.Method == http.MethodHead {
		return s.Catalog.Peek(ctx, who, name)
	}
	if want.everything() {
		return s.Catalog.Begin(ctx, who, name)
	}
	if validator, ok := validatorOf(r.Header); ok {
		// The validator says which image the client has. If that image is kept,
		// nginx accepts the validator and sends the range. Otherwise nginx
		// rejects it, and sends the whole file (If-Range) or nothing.
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

// A download is one file of a snapshot.
type download struct {
	snap   *catalog.Snapshot
	file   string // of the image, or of its slot
	suffix string // of a sidecar; "" for the file itself
}

// hand sets the headers that nginx cannot compute, and redirects nginx to the
// file. nginx sets Content-Disposition. If it were set here, nginx would save
// an error's text under the image's name.
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
		// nginx sets the type by the suffix.
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

// firstRead bounds the bytes that readable reads.
const firstRead = 4 << 10

// readable reads the first bytes that nginx will send. When nginx itself fails
// to read, it can only close the connection, even before its first byte.
// Clients take that for a failed network.
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
	// firstRead is enough: the cache fetches and compares the whole block.
	if got, err := h.ReadAtContext(r.Context(), make([]byte, min(n, firstRead)), first); err != nil && got == 0 {
		return &unreadableError{err}
	}
	return nil
}

// splitSidecar splits "notepat-os.iso.sha256" into the image's name and the
// sidecar's suffix, "" for the image itself. It does the same for a slot's
// file.
func splitSidecar(s string) (file, suffix string) {
	for _, ext := range []string{"-os.iso.", "-piece.img."} {
		i := strings.LastIndex(s, ext)
		if end := i + len(ext); i >= 0 && end < len(s) {
			return s[:end-1], s[end:]
		}
	}
	return s, ""
}
