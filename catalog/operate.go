package catalog

import (
	"cmp"
	"slices"
	"strings"

	"aesthetic.computer/isofs/piece"
)

// A Listed is a retained snapshot as an operator sees it.
type Listed struct {
	*Snapshot
	Current bool // a request for the piece gets it
	InUse   bool // a client has it open
}

// List returns all retained snapshots, by piece, the newest first.
func (c *Catalog) List() []Listed {
	all := make([]Listed, 0)
	for _, k := range c.candidates() {
		all = append(all, Listed{k.snapshot, k.current, c.shelf.isHeld(k.snapshot.record.ID)})
	}
	slices.SortFunc(all, func(a, b Listed) int {
		return cmp.Or(strings.Compare(a.record.key(), b.record.key()), b.Time().Compare(a.Time()), strings.Compare(a.ID(), b.ID()))
	})
	return all
}

// Drop forgets the snapshot of an id, and reports whether it was retained. An
// open download of it continues. An interrupted one cannot be resumed.
func (c *Catalog) Drop(id string) bool {
	s := c.shown.find(id)
	if s == nil || !c.drop(s, byOperator) {
		return false
	}
	c.sweep()
	return true
}

// DropPiece forgets all snapshots of a piece, at every density, and its last
// failure. It returns the ids.
func (c *Catalog) DropPiece(name piece.Name) (ids []string) {
	for _, k := range c.List() {
		if k.record.Piece == name.String() && c.drop(k.Snapshot, byOperator) {
			ids = append(ids, k.ID())
			c.failures.remove(k.piece)
		}
	}
	c.failures.remove(name)
	c.sweep()
	return ids
}

// PruneAll is Prune that also forgets superseded snapshots before their time,
// unless a client reads them or was just sent to them.
func (c *Catalog) PruneAll() int {
	n := c.Prune()
	for _, k := range c.candidates() {
		if !k.current && !c.needed(k) && c.drop(k.snapshot, byOperator) {
			n++
		}
	}
	c.sweep()
	return n
}

// sweep removes the bundles that no snapshot needs.
func (c *Catalog) sweep() {
	if err := c.disk.sweep(c.shown.bundles); err != nil {
		c.cfg.Log.Warn("bundles not removed", "err", err)
	}
}

// Stats are present gauges, and counters since Open.
type Stats struct {
	Pieces    int // with a snapshot, and in their source
	Snapshots int // retained
	Building  int // pieces being fetched

	RefusedClient uint64 // requests for new names: too many from one client
	RefusedAll    uint64 // too many from all together
	RefusedBusy   uint64 // too many pieces being fetched

	Forgotten map[string]uint64 // snapshots by reason, a word each
}

// Stats returns the gauges and counters.
func (c *Catalog) Stats() Stats {
	forgotten := map[string]uint64{}
	for why := range c.forgotten {
		forgotten[reason(why).String()] = c.forgotten[why].Load()
	}
	return Stats{
		Forgotten: forgotten,
		Pieces:    len(c.shown.pieces()), Snapshots: len(c.shown.ids()), Building: len(c.builds.turns),
		RefusedClient: c.asks.ofClient.Load(), RefusedAll: c.asks.ofAll.Load(), RefusedBusy: c.asks.busy.Load(),
	}
}
