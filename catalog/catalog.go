// Package catalog keeps the snapshot of each piece. It refreshes a piece from
// its source of bundles, keeps the snapshots that clients still need, and
// forgets the others. All of its state is on disk, and comes back whole after a
// kill at any moment.
//
// Other packages compose images (image), fetch and store bundles (bundle) and
// read bases. The catalog does nothing with mounts or HTTP.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/piece"
)

// Config configures a catalog.
type Config struct {
	// Dir is the state directory. It belongs to one catalog at a time.
	Dir string
	// Base is the base of new snapshots, until SetBase.
	Base image.Base
	// OpenBase opens an earlier base, for the snapshots on it. It is nil if
	// there are no earlier bases. It must not wait for the network. If it
	// returns fault.NotFound, the catalog forgets the base's snapshots. If it
	// returns fault.Unavailable, the catalog leaves them out until the next
	// start.
	OpenBase func(sha256 base.Hash) (image.Base, error)
	// Source has the bundles.
	Source bundle.Source
	// Density is the pixel density that Source packs for by default.
	Density int
	// Sidecars make the small files beside an image. .sha256 is always there.
	Sidecars []SidecarMaker
	// Signing returns what signs the piece.json of new images. nil: no image is
	// signed. If it fails, no new image is made.
	Signing func() (Signing, error)
	Limits  Limits
	Log     *slog.Logger
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// A Catalog maps pieces to snapshots. It is safe for concurrent use.
type Catalog struct {
	cfg      Config
	limits   atomic.Pointer[Limits] // see SetLimits
	disk     *ledger
	bases    *baseList
	shown    *index
	shelf    *shelf
	sidecars *sidecars
	clients  *clientLog
	failures *failures
	asks     *asks
	builds   builds
	closing  sync.Once
	// forgotten counts snapshots by reason.
	forgotten [reasons]atomic.Uint64
}

// errClosed is the cause of a fetch's end when Close interrupts it.
var errClosed = errors.New("the catalog is being closed")

// Open opens the catalog in c.Dir, and makes it if necessary. It needs no
// network. It leaves out a record that cannot be used, and reports it in the
// log.
func Open(c Config) (*Catalog, error) {
	if c.Base.Manifest == nil || c.Base.Bytes == nil || c.Source == nil {
		return nil, fmt.Errorf("open the catalog: a base and a source of bundles are needed: %w", fault.Invalid)
	}
	if err := c.Limits.validate(); err != nil {
		return nil, err
	}
	c.Limits = c.Limits.withDefaults()
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	sidecars, err := newSidecars(c.Sidecars)
	if err != nil {
		return nil, err
	}
	disk, err := openLedger(c.Dir, c.Log)
	if err != nil {
		return nil, err
	}
	bases, err := openBases(c.Dir, c.Base, disk.found)
	if err != nil {
		return nil, err
	}
	clients, err := openClientLog(c.Dir, c.Limits.Clients, c.Now)
	if err != nil {
		return nil, err
	}
	cat := &Catalog{
		cfg: c, disk: disk, bases: bases, shown: newIndex(),
		shelf: newShelf(c.Limits.Open), sidecars: sidecars, clients: clients, failures: newFailures(c.Limits, c.Now), asks: newAsks(c.Limits, c.Now),
		builds: newBuilds(c.Limits, c.Now),
	}
	cat.limits.Store(&c.Limits)
	cat.restoreAll()
	cat.Prune()
	return cat, nil
}

// Close ends the current fetches, waits for them, and closes the catalog's
// files. Handles stay usable. A second call does nothing.
func (c *Catalog) Close() error {
	var err error
	c.closing.Do(func() {
		c.builds.end(errClosed)
		// When this loop has all turns, no refresh runs and none can begin.
		for range cap(c.builds.turns) {
			c.builds.turns <- struct{}{}
		}
		c.shelf.close()
		err = c.clients.close()
	})
	return err
}

// restoreAll fills the index from the records on disk. It removes a record that
// can never be used again, and keeps its time.
func (c *Catalog) restoreAll() {
	for _, r := range c.disk.found {
		s, err := c.restore(r)
		switch {
		case err == nil:
			c.shown.add(s)
		case errors.Is(err, fault.Unavailable):
			c.cfg.Log.Warn("snapshot left out until the next start", "id", r.ID, "piece", r.Piece, "err", err)
			c.disk.spare(r)
		default:
			c.cfg.Log.Warn("snapshot forgotten, as it can no longer be opened", "id", r.ID, "piece", r.Piece, "err", err)
			if err := c.disk.discard(r); err != nil {
				c.cfg.Log.Warn("snapshot not removed", "id", r.ID, "err", err)
			}
		}
	}
	c.disk.found = nil
	c.clients.ids = nil
}

// restore makes the snapshot of a record. It fails if the base or the bundle is
// missing, or if this version of isofs would make other bytes.
func (c *Catalog) restore(r record) (*Snapshot, error) {
	name, err := r.name()
	if err != nil {
		return nil, err
	}
	b, err := c.baseOf(r.Base)
	if err != nil {
		return nil, err
	}
	if id := image.ID(b.Manifest, r.inputs()); id != r.ID {
		return nil, fmt.Errorf("its inputs give id %s now: %w", id, fault.Corrupt)
	}
	if err := r.checkSignature(); err != nil {
		return nil, err
	}
	if !c.disk.stored[r.Bundle] {
		return nil, fmt.Errorf("its bundle %s is lost: %w", r.Bundle, fault.NotFound)
	}
	if r.Splash.HasPicture() && !c.disk.stored[r.Splash.Picture] {
		return nil, fmt.Errorf("the picture of its splash, %s, is lost: %w", r.Splash.Picture, fault.NotFound)
	}
	s := newSnapshot(c, r, name, b)
	// No client has got its address since the start, so none is about to open
	// it.
	s.used = r.Made.Add(-justUsed)
	if c.clients.has(r.ID) {
		s.readers.add("") // the networks are not on disk
	}
	return s, nil
}

func (c *Catalog) baseOf(sum base.Hash) (image.Base, error) {
	if b := c.bases.current.Load(); sum == b.Manifest.SHA256 {
		return *b, nil
	}
	if c.cfg.OpenBase == nil {
		return image.Base{}, fmt.Errorf("base %s is not configured: %w", sum, fault.NotFound)
	}
	return c.cfg.OpenBase(sum)
}

// Base describes the base of new images.
func (c *Catalog) Base() *base.Manifest { return c.bases.current.Load().Manifest }

// SetBase makes new images on another base. A piece gets one at the next
// request for it. Builds under way keep their base, and so do open images and
// retained snapshots. The catalog does not store this setting: the next Open
// uses its Config, and must be able to open this base too.
func (c *Catalog) SetBase(b image.Base) error {
	if b.Manifest == nil || b.Bytes == nil {
		return fmt.Errorf("set the base: a manifest and bytes are needed: %w", fault.Invalid)
	}
	if err := c.bases.set(b); err != nil {
		return err
	}
	c.cfg.Log.Info("new images are made on another base", "base", b.Manifest.SHA256, "version", b.Manifest.Version)
	return nil
}

// Density is the pixel density of pieces by default.
func (c *Catalog) Density() int { return c.cfg.Density }

// NameAt returns the name of a piece at a pixel density. That is the plain
// name, if the density is the default or the piece's bundle is not packed on
// demand.
func (c *Catalog) NameAt(name piece.Name, density int) piece.Name {
	if p, ok := c.cfg.Source.(bundle.Packer); density != c.cfg.Density && ok && p.Packs(name) {
		return name.WithDensity(density)
	}
	return name
}

// BaseSummary describes the base of new images in a few words.
func (c *Catalog) BaseSummary() string {
	m := c.Base()
	return fmt.Sprintf("base %s %s for %s, %d MiB", m.Flavor, m.Version, m.Arch, m.TotalSize>>20)
}

// Pieces lists the known pieces, sorted: those of the source, if it can list
// them, and those requested before.
func (c *Catalog) Pieces(ctx context.Context) []piece.Name {
	names, err := c.cfg.Source.Names(ctx)
	if err != nil {
		c.cfg.Log.Warn("list the pieces of the source", "err", err)
	}
	// Concat copies, as the slice may belong to the source.
	names = slices.Concat(names, c.shown.pieces())
	slices.SortFunc(names, func(a, b piece.Name) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(names)
}

// ByID returns a retained snapshot, or fault.NotFound. It never waits.
func (c *Catalog) ByID(id string) (*Snapshot, error) {
	if s := c.shown.find(id); s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("snapshot %.40q is not kept here, or never was: %w", id, fault.NotFound)
}

// Known returns the latest retained snapshot of a piece. It returns nil if
// there is none, or if the source no longer has the piece. It neither asks the
// source nor waits.
func (c *Catalog) Known(name piece.Name) *Snapshot {
	if s, missing := c.shown.newest(name); !missing {
		return s
	}
	return nil
}

// IDs lists the retained snapshots, sorted.
func (c *Catalog) IDs() []string { return c.shown.ids() }

// drop forgets a snapshot, and reports whether it was still retained. Its open
// handles stay readable.
func (c *Catalog) drop(s *Snapshot, why reason) bool {
	c.disk.mu.Lock()
	defer c.disk.mu.Unlock()
	// Since the caller looked, another call may have forgotten it, and a build
	// may have made it again with the same id. Then the record belongs to the
	// new one.
	if c.shown.find(s.record.ID) != s {
		return false
	}
	newest, _ := c.shown.newest(s.piece)
	if err := c.disk.remove(s.record, newest == s); err != nil {
		c.cfg.Log.Warn("snapshot not removed", "piece", s.piece, "id", s.record.ID, "err", err)
		return false
	}
	c.shown.remove(s)
	c.shelf.forget(s.record.ID)
	if next, _ := c.shown.newest(s.piece); newest == s && next != nil {
		// An older snapshot is the newest now. The source may not have its
		// bundle.
		next.unconfirm()
	}
	c.forgotten[why].Add(1)
	c.cfg.Log.Info("snapshot forgotten", "piece", s.piece, "id", s.record.ID, "why", why)
	return true
}
