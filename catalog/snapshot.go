package catalog

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
)

// A Snapshot is the image of a piece at one moment. It is immutable.
type Snapshot struct {
	catalog *Catalog
	record  record
	piece   bundle.Name
	base    image.Base

	mu      sync.Mutex // guards checked and used
	checked time.Time  // when the source last said that this is its bundle
	used    time.Time  // when somebody last asked for it
}

// ID is the snapshot's identity: 32 hex digits over all its inputs.
func (s *Snapshot) ID() string { return s.record.ID }

// Piece is the name of the piece.
func (s *Snapshot) Piece() bundle.Name { return s.piece }

// Title is what the bundle calls itself.
func (s *Snapshot) Title() string { return s.record.Title }

// FileName is the name of the image: "notepat-os.iso".
func (s *Snapshot) FileName() string { return s.piece.FileName() }

// Time is the snapshot's modification time: whole seconds, UTC, later than
// that of the piece's snapshot before it.
func (s *Snapshot) Time() time.Time { return s.record.Time }

// Size is the image's length in bytes.
func (s *Snapshot) Size() int64 { return s.base.Manifest.TotalSize }

// SHA256 is the digest of the whole image.
func (s *Snapshot) SHA256() base.Hash { return s.record.SHA256 }

// Bundle is the digest of the piece's bundle.
func (s *Snapshot) Bundle() base.Hash { return s.record.Bundle }

// Base describes the base that the image is made on.
func (s *Snapshot) Base() *base.Manifest { return s.base.Manifest }

// Suffixes lists the sidecars that the image has.
func (s *Snapshot) Suffixes() []string { return []string{"sha256"} }

// Sidecar returns the small file FileName()+"."+suffix; fault.NotFound if there
// is none of that kind.
func (s *Snapshot) Sidecar(suffix string) ([]byte, error) {
	if suffix != "sha256" {
		return nil, fmt.Errorf("%s has no sidecar .%s: %w", s.FileName(), suffix, fault.NotFound)
	}
	// The form of sha256sum(1), text mode.
	return fmt.Appendf(nil, "%s  %s\n", s.record.SHA256, s.FileName()), nil
}

// Open opens the image for reading. The snapshot's bundle stays on disk, and
// the handle readable, until the handle is closed. It reads a bundle whole on
// its first open since the start, to compare its digest.
func (s *Snapshot) Open() (*Handle, error) {
	img, err := s.catalog.shelf.take(s.record.ID, s.compose)
	if err != nil {
		if errors.Is(err, fault.Corrupt) || errors.Is(err, fault.NotFound) {
			// The bundle is lost. Forgetting the snapshot makes the next request
			// for the piece fetch it anew, instead of failing for ever.
			s.catalog.cfg.Log.Error("snapshot lost", "piece", s.piece, "id", s.record.ID, "err", err)
			s.catalog.drop(s)
		}
		return nil, fmt.Errorf("open %s, snapshot %s: %w", s.FileName(), s.record.ID, err)
	}
	s.touch()
	return &Handle{Map: img.image.Map, img: img, shelf: s.catalog.shelf}, nil
}

// compose opens the bundle and makes the image of it.
func (s *Snapshot) compose() (*openImage, error) {
	f, size, err := s.catalog.bundles.Open(s.record.Bundle)
	if err != nil {
		return nil, err
	}
	img, err := image.Compose(s.base, s.record.inputs(), extent.File(f, 0, size))
	if err != nil {
		f.Close()
		return nil, err
	}
	return &openImage{id: s.record.ID, file: f, image: img}, nil
}

// info is what the source said of the bundle when it was last asked.
func (s *Snapshot) info() bundle.Info {
	return bundle.Info{
		SHA256: s.record.Bundle, Size: s.record.BundleSize,
		ModTime: s.record.SourceTime, Title: s.record.Title,
	}
}

func (s *Snapshot) touch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = s.catalog.cfg.Now()
}

func (s *Snapshot) lastUsed() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

func (s *Snapshot) confirm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked = s.catalog.cfg.Now()
}

func (s *Snapshot) age() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.catalog.cfg.Now().Sub(s.checked)
}

// A Handle is an open image: a Source that can wait with a context and be
// pinned. Reading after Close is an error of the caller's.
type Handle struct {
	*extent.Map
	img   *openImage
	shelf *shelf
	once  sync.Once
}

// Close lets go of the snapshot. Closing twice does nothing.
func (h *Handle) Close() error {
	h.once.Do(func() { h.shelf.put(h.img) })
	return nil
}

// An openImage is a composed image with its bundle's file.
type openImage struct {
	id    string
	file  *os.File
	image *image.Image
	refs  int // guarded by the shelf
}
