package catalog

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
)

// The file has the bytes of the image's slot, and its own sidecars.
func TestSlotIsThatOfTheImage(t *testing.T) {
	r := newRig(t, Limits{})
	r.config.Sidecars = []SidecarMaker{
		{Suffix: "map", Make: func(*Snapshot, *image.Image) ([]byte, error) { return []byte("of the image"), nil }},
		{Suffix: "note", Make: func(*Snapshot, *image.Image) ([]byte, error) { return []byte("of the image"), nil },
			MakeForSlot: func(*Snapshot, *image.Image) ([]byte, error) { return []byte("of the slot"), nil }},
	}
	r.restart()
	r.source.bake("notepat", "<p>bundle", r.clock.Now())
	s, err := r.CurrentFile(t.Context(), "notepat-piece.img")
	if err != nil {
		t.Fatal(err)
	}
	whole := readAll(t, s.Open)
	slot := readAll(t, s.Slot().Open)
	if want := whole[slotStart : slotStart+slotSize]; !slices.Equal(slot, want) || s.Slot().Size() != slotSize {
		t.Error("the slot alone is not what the image has there")
	}
	sum, err := s.Slot().SHA256()
	if err != nil || sum != base.Hash(sha256.Sum256(slot)) {
		t.Errorf("its digest is %s (%v)", sum, err)
	}
	if side, err := s.Slot().Sidecar("sha256"); err != nil || string(side) != fmt.Sprintf("%s  notepat-piece.img\n", sum) {
		t.Errorf("its sidecar is %q (%v)", side, err)
	}
	if got := s.Slot().Suffixes(); !slices.Equal(got, []string{"note", "sha256"}) {
		t.Errorf("it has the sidecars %q", got)
	}
	for range 2 { // made, and then kept
		of, err := s.Sidecar("note")
		slot, errSlot := s.Slot().Sidecar("note")
		if string(of) != "of the image" || string(slot) != "of the slot" || err != nil || errSlot != nil {
			t.Errorf("the sidecars are %q and %q (%v, %v)", of, slot, err, errSlot)
		}
	}
	if _, err := s.Slot().Sidecar("map"); !errors.Is(err, fault.NotFound) {
		t.Errorf("a sidecar that it has not: %v", err)
	}

	h, err := s.Slot().Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	b, volume, bundle := h.Sources(0, h.Size())
	if b != 0 || volume+bundle != slotSize || bundle == 0 {
		t.Errorf("its bytes are %d of the base, %d generated, %d of the bundle", b, volume, bundle)
	}
}

func readAll(t *testing.T, open func() (*Handle, error)) []byte {
	t.Helper()
	h, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	data, err := io.ReadAll(io.NewSectionReader(h, 0, h.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestManifestSidecarTellsNoOtherAddresses(t *testing.T) {
	data := make([]byte, 4<<20)
	m := &base.Manifest{
		Version: "2026-11-01", Flavor: "tiny", Arch: "amd64", CreatedAt: "2026-11-01T00:00:00Z",
		PiecePartitionOffset: 1 << 20, PiecePartitionSize: 2 << 20, TotalSize: int64(len(data)), BlockSize: 1 << 20,
		Blocks: []base.Hash{{1}, {2}, {3}, {4}}, SHA256: sha256.Sum256(data), Tail: data[3<<20:], Mirrors: []string{"https://inside.example/base.iso"},
		Midstates: base.Midstates{SHA256: fmt.Sprintf("%064x", 1), SHA1: fmt.Sprintf("%040x", 1)},
	}
	maker := ManifestSidecar()
	content, err := maker.Make(nil, &image.Image{Manifest: m})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := base.Parse(content)
	if err != nil || parsed.Mirrors != nil || parsed.SHA256 != m.SHA256 || len(parsed.Blocks) != 4 || len(m.Mirrors) != 1 {
		t.Errorf("the sidecar has %+v (%v)", parsed, err)
	}
	// The next image of the base costs nothing, and an image of another base
	// has its own manifest.
	if again, err := maker.Make(nil, &image.Image{Manifest: m}); err != nil || &again[0] != &content[0] {
		t.Errorf("it was written again (%v)", err)
	}
	other := *m
	other.Version = "2026-11-02"
	if again, err := maker.Make(nil, &image.Image{Manifest: &other}); err != nil || !bytes.Contains(again, []byte("2026-11-02")) {
		t.Errorf("another base's is %.80q (%v)", again, err)
	}
}
