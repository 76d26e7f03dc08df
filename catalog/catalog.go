// Package catalog knows which snapshot each piece has: it refreshes a piece
// from its source of bundles, keeps the snapshots that clients still need, and
// forgets the others. All that it knows is on disk, and comes back whole after
// a kill at any moment.
//
// It leaves out how images are composed (package image), how bundles are
// fetched and stored (package bundle) and how bases are read; and it knows
// nothing of mounts and HTTP.
package catalog

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
	"golang.org/x/sync/singleflight"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
)

// Config says what a catalog is made of.
type Config struct {
	// Dir is the state directory.
	Dir string
	// Base is what new snapshots are made on.
	Base image.Base
	// OpenBase opens an earlier base, for snapshots that were made on it; nil if
	// there are none. It must not wait for the network.
	OpenBase func(sha256 base.Hash) (image.Base, error)
	// Source has the bundles.
	Source bundle.Source
	Limits Limits
	Log    *slog.Logger
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// Limits bound what a catalog keeps and how long callers wait. A zero field is
// replaced by that of DefaultLimits.
type Limits struct {
	Retain      time.Duration // how long a superseded snapshot is kept
	Superseded  int           // superseded snapshots kept of one piece
	Bytes       int64         // bundles on disk
	Clients     int           // pieces times client addresses remembered for resumes
	Flights     int           // pieces being refreshed at once
	Open        int           // images kept open though nobody reads them
	RefreshWait time.Duration // how long a request for a known piece waits for a newer bundle
	FetchTime   time.Duration // after which a fetch is given up
	RetryAfter  time.Duration // pause after a fetch that failed
	MissingTime time.Duration // how long an unknown piece is remembered as such
}

// DefaultLimits suit a machine with 2 GB of memory and 10 GB of disk.
func DefaultLimits() Limits {
	return Limits{
		Retain: 7 * 24 * time.Hour, Superseded: 8, Bytes: 1 << 30,
		Clients: 20_000, Flights: 32, Open: 64,
		RefreshWait: 2 * time.Second, FetchTime: 90 * time.Second,
		RetryAfter: 30 * time.Second, MissingTime: 10 * time.Second,
	}
}

// missingEntries bounds the memory that names nobody has can take.
const missingEntries = 4096

// A Catalog maps pieces to snapshots. It is safe for concurrent use.
type Catalog struct {
	cfg     Config
	bundles *bundle.Store
	records recordDir
	bases   []base.Hash // all that snapshots were ever made on, in this directory
	shelf   *shelf
	clients *clientLog
	flights singleflight.Group
	slots   chan struct{} // one is taken by each refresh under way
	missing *expirable.LRU[bundle.Name, error]
	refused *expirable.LRU[bundle.Name, error]
	shown   index
	// removal is held for reading from the moment that a bundle is found on disk
	// until a record names it, and for writing while bundles are swept.
	removal sync.RWMutex
}

// index is what the catalog shows at the moment.
type index struct {
	mu sync.RWMutex // guards all below; never held over I/O but for removal
	// byID has every retained snapshot, byPiece those of a piece, newest first.
	byID    map[string]*Snapshot
	byPiece map[bundle.Name][]*Snapshot
	// gone are pieces whose source has them no more; their snapshots stay.
	gone map[bundle.Name]bool
}

// Open opens the catalog in c.Dir, making it if need be. It needs no network.
// A record that cannot be used is left out and reported in the log.
func Open(c Config) (*Catalog, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	c.Limits = c.Limits.withDefaults()
	records := recordDir(filepath.Join(c.Dir, "snapshots"))
	if err := os.MkdirAll(string(records), 0o755); err != nil {
		return nil, fmt.Errorf("make the catalog's directory: %w: %w", fault.Unavailable, err)
	}
	bundles, err := bundle.OpenStore(filepath.Join(c.Dir, "bundles"))
	if err != nil {
		return nil, err
	}
	clients, err := openClientLog(c.Dir, c.Limits.Clients)
	if err != nil {
		return nil, err
	}
	bases, err := readBases(filepath.Join(c.Dir, "bases.json"), c.Base.Manifest.SHA256)
	if err != nil {
		return nil, err
	}
	cat := &Catalog{
		cfg: c, bundles: bundles, records: records, bases: bases,
		shelf: newShelf(c.Limits.Open), clients: clients,
		slots:   make(chan struct{}, c.Limits.Flights),
		missing: expirable.NewLRU[bundle.Name, error](missingEntries, nil, c.Limits.MissingTime),
		refused: expirable.NewLRU[bundle.Name, error](missingEntries, nil, c.Limits.RetryAfter),
		shown: index{
			byID: map[string]*Snapshot{}, byPiece: map[bundle.Name][]*Snapshot{},
			gone: map[bundle.Name]bool{},
		},
	}
	cat.load()
	cat.Prune()
	return cat, nil
}

// Close closes what the catalog holds open. Handles stay usable.
func (c *Catalog) Close() error {
	c.shelf.close()
	return c.clients.close()
}

// load fills the index from the records on disk.
func (c *Catalog) load() {
	for _, r := range c.records.readAll(c.cfg.Log) {
		s, err := c.restore(r)
		if err != nil {
			c.cfg.Log.Warn("snapshot left out", "id", r.ID, "piece", r.Piece, "err", err)
			continue
		}
		c.shown.add(s)
	}
}

// restore makes the snapshot of a record, if its base is still to be had.
func (c *Catalog) restore(r record) (*Snapshot, error) {
	name, err := bundle.ParseName(r.Piece)
	if err != nil {
		return nil, err
	}
	b, err := c.baseOf(r.Base)
	if err != nil {
		return nil, err
	}
	if id := image.ID(b.Manifest, r.inputs()); id != r.ID {
		return nil, fmt.Errorf("its inputs give id %s: %w", id, fault.Corrupt)
	}
	return &Snapshot{catalog: c, record: r, piece: name, base: b, checked: r.Made}, nil
}

func (c *Catalog) baseOf(sum base.Hash) (image.Base, error) {
	if sum == c.cfg.Base.Manifest.SHA256 {
		return c.cfg.Base, nil
	}
	if c.cfg.OpenBase == nil {
		return image.Base{}, fmt.Errorf("base %s is not configured: %w", sum, fault.NotFound)
	}
	return c.cfg.OpenBase(sum)
}

// BaseSummary says in a few words what new images are made on.
func (c *Catalog) BaseSummary() string {
	m := c.cfg.Base.Manifest
	return fmt.Sprintf("base %s %s for %s, %d MiB", m.Flavor, m.Version, m.Arch, m.TotalSize>>20)
}

// Pieces lists the pieces that are known: those of the source, if it can tell,
// and those asked for before. Sorted.
func (c *Catalog) Pieces(ctx context.Context) []bundle.Name {
	names, err := c.cfg.Source.Names(ctx)
	if err != nil {
		c.cfg.Log.Warn("list the pieces of the source", "err", err)
	}
	names = append(names, c.shown.pieces()...)
	slices.SortFunc(names, func(a, b bundle.Name) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(names)
}

// ByID returns a retained snapshot. It never waits. fault.NotFound otherwise.
func (c *Catalog) ByID(id string) (*Snapshot, error) {
	c.shown.mu.RLock()
	defer c.shown.mu.RUnlock()
	if s := c.shown.byID[id]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("snapshot %.40q is not kept here, or never was: %w", id, fault.NotFound)
}

// IDs lists the retained snapshots, sorted.
func (c *Catalog) IDs() []string {
	c.shown.mu.RLock()
	defer c.shown.mu.RUnlock()
	ids := make([]string, 0, len(c.shown.byID))
	for id := range c.shown.byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (i *index) add(s *Snapshot) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.byID[s.record.ID] = s
	list := append(i.byPiece[s.piece], s)
	slices.SortStableFunc(list, func(a, b *Snapshot) int { return b.record.Time.Compare(a.record.Time) })
	i.byPiece[s.piece] = list
	delete(i.gone, s.piece)
}

func (i *index) remove(s *Snapshot) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.byID, s.record.ID)
	list := slices.DeleteFunc(slices.Clone(i.byPiece[s.piece]), func(o *Snapshot) bool { return o == s })
	if len(list) == 0 {
		delete(i.byPiece, s.piece)
		return
	}
	i.byPiece[s.piece] = list
}

// newest returns the latest snapshot of a piece, or nil, and whether the
// source has the piece no more.
func (i *index) newest(name bundle.Name) (s *Snapshot, gone bool) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if list := i.byPiece[name]; len(list) > 0 {
		s = list[0]
	}
	return s, i.gone[name]
}

func (i *index) setGone(name bundle.Name) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.byPiece[name]) > 0 {
		i.gone[name] = true
	}
}

func (i *index) pieces() []bundle.Name {
	i.mu.RLock()
	defer i.mu.RUnlock()
	var names []bundle.Name
	for name := range i.byPiece {
		if !i.gone[name] {
			names = append(names, name)
		}
	}
	return names
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	orDuration := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	orInt := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	orDuration(&l.Retain, d.Retain)
	orDuration(&l.RefreshWait, d.RefreshWait)
	orDuration(&l.FetchTime, d.FetchTime)
	orDuration(&l.RetryAfter, d.RetryAfter)
	orDuration(&l.MissingTime, d.MissingTime)
	orInt(&l.Superseded, d.Superseded)
	orInt(&l.Clients, d.Clients)
	orInt(&l.Flights, d.Flights)
	orInt(&l.Open, d.Open)
	if l.Bytes == 0 {
		l.Bytes = d.Bytes
	}
	return l
}
