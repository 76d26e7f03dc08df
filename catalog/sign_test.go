package catalog

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
)

// signs makes the rig sign pieces with a fake key.
func (r *rig) signs(key string) {
	r.config.Signing = func() (Signing, error) {
		return Signing{Keys: key, Sign: func(text []byte, at time.Time) ([]byte, error) {
			return fmt.Appendf(nil, "signature of %x by %s at %d\n", sha256.Sum256(text), key, at.Unix()), nil
		}}, nil
	}
	r.restart()
}

// bytesOf reads a whole image.
func bytesOf(t *testing.T, s *Snapshot) []byte {
	t.Helper()
	h, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	data := make([]byte, h.Size())
	if n, err := h.ReadAt(data, 0); n < len(data) {
		t.Fatal(err)
	}
	return data
}

func TestSignedPiece(t *testing.T) {
	r, other := newRig(t, Limits{}), newRig(t, Limits{})
	plain := r.baked("notepat", "<p>1</p>")
	r.signs("one")
	other.signs("one")
	// The image is not signed yet. The next request that checks whether it is
	// still right signs it.
	r.source.bake("notepat", "<p>1</p>", epoch.Add(time.Minute))
	s := r.current("notepat")
	if s.ID() == plain.ID() || !s.Time().After(plain.Time()) {
		t.Errorf("snapshot %s of %v, unsigned %s of %v", s.ID(), s.Time(), plain.ID(), plain.Time())
	}
	other.source.bake("notepat", "<p>1</p>", epoch.Add(time.Minute))
	if o := other.current("notepat"); o.ID() != s.ID() || o.SHA256() != s.SHA256() {
		t.Error("another node with the same key has another image")
	}
	about, err := image.About(s.Base(), s.record.inputs())
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("signature of %x by one at %d\n", sha256.Sum256(about), s.Time().Unix())
	data := bytesOf(t, s)
	if !bytes.Contains(data, []byte(want)) || !bytes.Contains(data, about) || !bytes.Contains(data, []byte("piece.json.asc")) {
		t.Error("the image does not have the signature of its piece.json")
	}
	// Without the key the image stays, and the next one is not signed.
	r.config.Signing = nil
	r.restart()
	again, err := r.ByID(s.ID())
	if err != nil || !bytes.Equal(bytesOf(t, again), data) || again.SHA256() != sha256.Sum256(data) {
		t.Errorf("after a restart without the key: %v", err)
	}
	if now := r.baked("notepat", "<p>2</p>"); now.record.Signers != "" || bytes.Contains(bytesOf(t, now), []byte("signature of")) {
		t.Error("it is signed without a key")
	}
}

// A record whose signature does not match its sum is not used.
func TestDamagedPieceSignature(t *testing.T) {
	for what, change := range map[string]func(*record){
		"another signature": func(r *record) { r.PieceSignature = strings.ToUpper(r.PieceSignature) },
		"no signature":      func(r *record) { r.PieceSignature = "" },
		"other keys":        func(r *record) { r.Signers = "two" },
		"no keys":           func(r *record) { r.Signers = "" },
	} {
		r := newRig(t, Limits{})
		r.signs("one")
		s := r.baked("notepat", "<p>1</p>")
		rec := s.record
		change(&rec)
		if err := r.disk.records.write(rec); err != nil {
			t.Fatal(err)
		}
		r.restart()
		if _, err := r.ByID(s.ID()); !errors.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", what, err)
		}
		wantOpen(t, r.current("notepat"), "<p>1</p>")
	}
}

// While signing fails, no image is made, and the existing one is served.
func TestKeysThatCannotSign(t *testing.T) {
	r := newRig(t, Limits{})
	r.signs("one")
	s := r.baked("notepat", "<p>1</p>")
	r.config.Signing = func() (Signing, error) {
		return Signing{}, fmt.Errorf("the key expired: %w", fault.Unavailable)
	}
	r.restart()
	r.source.bake("notepat", "<p>1</p>", epoch.Add(time.Minute))
	if now := r.current("notepat"); now.ID() != s.ID() {
		t.Error("the same bundle gave another image")
	}
	r.source.bake("notepat", "<p>2</p>", epoch.Add(2*time.Minute))
	if now := r.current("notepat"); now.ID() != s.ID() {
		t.Error("an image was made")
	}
	r.source.bake("new", "<p>3</p>", epoch)
	if _, err := r.Current(t.Context(), name("new")); !errors.Is(err, fault.Unavailable) {
		t.Errorf("a new piece: %v", err)
	}
	r.wantIDs(s)
}

// A signature is made with the image, once, from the state of its hash. If
// signing fails, there is no image.
func TestImageSignature(t *testing.T) {
	r := newRig(t, Limits{})
	var made int
	var fail error
	r.config.Sidecars = []SidecarMaker{{Suffix: "asc", Early: true, Make: func(s *Snapshot, img *image.Image) ([]byte, error) {
		made++
		h, err := s.ImageHash(img)
		if err != nil {
			return nil, err
		}
		return h.Sum(nil), fail
	}}}
	r.restart()
	r.source.bake("notepat", "<p>1</p>", epoch)
	w := r.watch(t.Context(), "notepat")
	if w.err != nil || !slices.Equal(w.stages, []Stage{StageBundle, StageVolume, StageDigest, StageSignature}) || !r.Signs() {
		t.Errorf("stages %v, %v", w.stages, w.err)
	}
	s := w.Snapshot
	want := func(s *Snapshot, n int) {
		t.Helper()
		if got, err := s.Sidecar("asc"); err != nil || base.Hash(got) != s.SHA256() || made != n {
			t.Errorf("%x, %v, made %d times, want %d", got, err, made, n)
		}
	}
	want(s, 1)
	// From the record, and without it.
	r.restart()
	s, err := r.ByID(s.ID())
	if err != nil {
		t.Fatal(err)
	}
	want(s, 2)
	for i, state := range []string{"", s.record.HashState[2:] + "00"} {
		rec := s.record
		rec.HashState = state
		if err := r.disk.records.write(rec); err != nil {
			t.Fatal(err)
		}
		r.restart()
		if s, err = r.ByID(s.ID()); err != nil {
			t.Fatal(err)
		}
		want(s, 3+i)
	}
	fail = fault.Unavailable
	r.source.bake("new", "<p>2</p>", epoch)
	if _, err := r.Current(t.Context(), name("new")); !errors.Is(err, fault.Unavailable) {
		t.Errorf("an image without a signature: %v", err)
	}
	r.wantIDs(s)
}
