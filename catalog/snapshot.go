package catalog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/piece"
)

// A Snapshot is the image of a piece at one moment. It is immutable.
type Snapshot struct {
	catalog *Catalog
	record  record
	piece   piece.Name
	base    image.Base
	// suffixes are those of its sidecars, in alphabetical order.
	suffixes []string
	readers  readers

	mu         sync.Mutex // guards all below
	sourceTime time.Time  // of the bundle as its source tells it, which may change
	beside     string     // as record.SourceBeside, and may change likewise
	checked    time.Time  // when the source last said that this is its bundle
	used       time.Time  // when somebody last asked for it
	slotSum    *base.Hash // of what is in the slot; nil until somebody asks
}

func newSnapshot(c *Catalog, r record, name piece.Name, b image.Base) *Snapshot {
	return &Snapshot{
		catalog: c, record: r, piece: name, base: b, suffixes: c.sidecars.of(b.Manifest),
		sourceTime: r.SourceTime, beside: r.SourceBeside, checked: r.Made, used: r.Made,
	}
}

// ID is the snapshot's identity: 32 hex digits over all its inputs.
func (s *Snapshot) ID() string { return s.record.ID }

// Piece is the name of the piece.
func (s *Snapshot) Piece() piece.Name { return s.piece }

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

// Splash is what the machine shows before the piece.
func (s *Snapshot) Splash() image.Splash { return s.record.Splash }

// Base describes the base that the image is made on.
func (s *Snapshot) Base() *base.Manifest { return s.base.Manifest }

// A Keeper is a base's Bytes that can tell how much of them would have to be
// fetched. Optional: found by assertion.
type Keeper interface {
	// Missing returns how many of the first n bytes are not at hand.
	Missing(n int64) int64
}

// Whole reports whether all that the image has of its base's Bytes is at hand, so
// that reading it does not depend on where the base comes from.
func (s *Snapshot) Whole() bool {
	k, ok := s.base.Bytes.(Keeper)
	return ok && k.Missing(s.base.Manifest.PiecePartitionOffset) == 0
}

// Open opens the image for reading. The handle stays readable until it is
// closed, whatever becomes of the snapshot. It reads a bundle whole on its
// first open since the start, to compare its digest. A bundle that is lost or
// damaged fails with fault.NotFound or fault.Corrupt, and the snapshot is
// forgotten, so that the next request for the piece fetches it again.
func (s *Snapshot) Open() (*Handle, error) {
	img, err := s.catalog.shelf.take(s.record.ID, s.compose)
	if err != nil {
		s.failed(err)
		return nil, fmt.Errorf("open %s, snapshot %s: %w", s.FileName(), s.record.ID, err)
	}
	s.touch()
	return &Handle{Map: img.image.Map, img: img, shelf: s.catalog.shelf}, nil
}

// OpenBundle opens the bundle by itself, to be looked at: the bytes that are
// in the image. It is compared with its digest as by Open, and fails alike.
// Looking at it does not make the snapshot used.
func (s *Snapshot) OpenBundle() (io.ReadSeekCloser, error) {
	f, _, err := s.catalog.disk.bundles.Open(s.record.Bundle)
	if err != nil {
		s.failed(err)
		return nil, fmt.Errorf("open the bundle of %s, snapshot %s: %w", s.piece, s.record.ID, err)
	}
	return f, nil
}

// failed forgets the snapshot if err says that its bundle is lost or damaged.
func (s *Snapshot) failed(err error) {
	if lost := errors.Is(err, fault.Corrupt) || errors.Is(err, fault.NotFound); lost && s.catalog.drop(s, damaged) {
		s.catalog.cfg.Log.Error("snapshot lost", "piece", s.piece, "id", s.record.ID, "err", err)
	}
}

// compose opens the bundle and makes the image of it.
func (s *Snapshot) compose() (*openSnapshot, error) { return s.catalog.compose(s.record, s.base) }

// compose opens what the image of a record is made of, and makes it.
func (c *Catalog) compose(r record, b image.Base) (*openSnapshot, error) {
	o := &openSnapshot{id: r.ID}
	f, size, err := c.disk.bundles.Open(r.Bundle)
	if err != nil {
		return nil, err
	}
	o.file = f
	var picture []extent.Source
	if r.Splash.HasPicture() {
		p, size, err := c.disk.pictures.Open(r.Splash.Picture)
		if err != nil {
			o.close()
			return nil, err
		}
		o.picture, picture = p, []extent.Source{extent.File(p, 0, size)}
	}
	if o.image, err = image.Compose(b, r.inputs(), extent.File(f, 0, size), picture...); err != nil {
		o.close()
		return nil, err
	}
	m := b.Manifest
	o.layout = layoutOf(o.image.Map, span{m.PiecePartitionOffset, m.SlotEnd()})
	return o, nil
}

// info is what the source said of the bundle when it was last asked.
func (s *Snapshot) info() bundle.Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bundle.Info{
		SHA256: s.record.Bundle, Size: s.record.BundleSize,
		ModTime: s.sourceTime, Title: s.record.Title, Beside: s.beside,
	}
}

func (s *Snapshot) touch() {
	now := s.catalog.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = now
}

func (s *Snapshot) lastUsed() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// confirm notes that the source has this bundle, as info has it.
func (s *Snapshot) confirm(info bundle.Info) {
	now := s.catalog.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sourceTime, s.beside, s.checked, s.used = info.ModTime, info.Beside, now, now
}

// unconfirm notes that nobody knows whether the source has this bundle.
func (s *Snapshot) unconfirm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked = time.Time{}
}

func (s *Snapshot) age() time.Duration {
	now := s.catalog.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Sub(s.checked)
}

// A Handle is an open image, or the slot of one: a Source that can wait with a context and be
// pinned. Reading after Close is an error of the caller's.
type Handle struct {
	*extent.Map
	img   *openSnapshot
	start int64 // where in the image the map begins
	shelf *shelf
	once  sync.Once
}

// Close lets go of the snapshot. Closing twice does nothing.
func (h *Handle) Close() error {
	h.once.Do(func() { h.shelf.put(h.img) })
	return nil
}

// An openSnapshot is a composed image with its bundle's file.
type openSnapshot struct {
	id        string
	file      *os.File
	picture   *os.File // of its splash, or nil
	image     *image.Image
	layout    layout
	refs      int  // guarded by the shelf
	forgotten bool // guarded by the shelf: close it as soon as nobody reads it
}

// close closes the files. That of a picture that there is not refuses, which is
// all right.
func (o *openSnapshot) close() {
	o.file.Close()
	o.picture.Close()
}
