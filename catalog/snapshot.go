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

// A Snapshot is the image of a piece at one moment. Its bytes, id and time
// never change. The fields below mu do.
type Snapshot struct {
	catalog *Catalog
	record  record
	piece   piece.Name
	base    image.Base
	// suffixes are those of its sidecars, in alphabetical order.
	suffixes []string
	readers  readers

	mu         sync.Mutex // guards all below
	sourceTime time.Time  // of the bundle, by its source, which may report another
	beside     string     // as record.SourceBeside; may change likewise
	checked    time.Time  // when the source last confirmed this bundle
	used       time.Time  // time of the last request for it
	slotSum    *base.Hash // of the slot's file; nil until the first request
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

// Title is the bundle's own title.
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

// A Keeper is a base's Bytes that can count the bytes it would have to fetch.
// Optional: found by assertion.
type Keeper interface {
	// Missing returns how many of the first n bytes are not stored here.
	Missing(n int64) int64
}

// Whole reports whether all the image's bytes of its base are stored here. Then
// reading does not depend on the origin.
func (s *Snapshot) Whole() bool {
	k, ok := s.base.Bytes.(Keeper)
	return ok && k.Missing(s.base.Manifest.PiecePartitionOffset) == 0
}

// Open opens the image for reading. The handle stays readable until it is
// closed, even if the snapshot is forgotten. The first open after the start
// reads the whole bundle to compare its digest. A lost or damaged bundle fails
// with fault.NotFound or fault.Corrupt, and the snapshot is forgotten. The next
// request for the piece fetches it again.
func (s *Snapshot) Open() (*Handle, error) {
	img, err := s.catalog.shelf.take(s.record.ID, s.compose)
	if err != nil {
		s.failed(err)
		return nil, fmt.Errorf("open %s, snapshot %s: %w", s.FileName(), s.record.ID, err)
	}
	s.touch()
	return &Handle{Map: img.image.Map, img: img, shelf: s.catalog.shelf}, nil
}

// OpenBundle opens only the bundle: the same bytes as in the image. It compares
// the digest as Open does, and fails alike. It does not count as a use of the
// snapshot.
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

// compose opens the bundle and makes the image.
func (s *Snapshot) compose() (*openSnapshot, error) { return s.catalog.compose(s.record, s.base) }

// compose opens the files of a record and makes the image.
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

// info is the source's last description of the bundle.
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

// confirm notes that the source has this bundle, with the times in info.
func (s *Snapshot) confirm(info bundle.Info) {
	now := s.catalog.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sourceTime, s.beside, s.checked, s.used = info.ModTime, info.Beside, now, now
}

// unconfirm notes that the source may no longer have this bundle.
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

// A Handle is an open image or slot: a Source that can wait with a context, and
// that callers can pin. The caller must not read after Close.
type Handle struct {
	*extent.Map
	img   *openSnapshot
	start int64 // where in the image the map begins
	shelf *shelf
	once  sync.Once
}

// Close releases the snapshot. A second call does nothing.
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
	forgotten bool // guarded by the shelf: close it when its last reader leaves
}

// close closes the files. Closing a nil picture returns an error, which is
// ignored.
func (o *openSnapshot) close() {
	o.file.Close()
	o.picture.Close()
}
