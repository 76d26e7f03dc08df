package catalog

import (
	"slices"

	"aesthetic.computer/isofs/base"
)

// Prune forgets the snapshots that need no longer be kept: those superseded
// for longer than Limits.Retain, those beyond Limits.Superseded of a piece,
// and, while the bundles take more than Limits.Bytes, first the longest
// superseded and then the pieces that nobody asked for longest. A snapshot
// that is open is kept. It returns how many were forgotten.
func (c *Catalog) Prune() int {
	all := c.candidates()
	n := 0
	left := all[:0]
	for _, k := range all {
		if k.expired && !c.shelf.isHeld(k.snapshot.record.ID) {
			c.drop(k.snapshot)
			n++
			continue
		}
		left = append(left, k)
	}
	n += c.shrink(left)
	c.sweep()
	return n
}

// A candidate is a snapshot that Prune weighs.
type candidate struct {
	snapshot *Snapshot
	current  bool
	expired  bool
}

func (c *Catalog) candidates() []candidate {
	now, limits := c.cfg.Now(), c.cfg.Limits
	c.shown.mu.RLock()
	defer c.shown.mu.RUnlock()
	var all []candidate
	for _, list := range c.shown.byPiece {
		for i, s := range list {
			k := candidate{snapshot: s, current: i == 0}
			if i > 0 {
				supersededAt := list[i-1].record.Made
				k.expired = i > limits.Superseded || now.Sub(supersededAt) > limits.Retain
			}
			all = append(all, k)
		}
	}
	return all
}

// shrink drops snapshots until the bundles fit the limit.
func (c *Catalog) shrink(all []candidate) int {
	slices.SortFunc(all, func(a, b candidate) int {
		switch {
		case a.current != b.current && !a.current:
			return -1
		case a.current != b.current:
			return 1
		case a.current:
			return a.snapshot.lastUsed().Compare(b.snapshot.lastUsed())
		}
		return a.snapshot.record.Made.Compare(b.snapshot.record.Made)
	})
	users := map[base.Hash]int{}
	var bytes int64
	for _, k := range all {
		if users[k.snapshot.record.Bundle]++; users[k.snapshot.record.Bundle] == 1 {
			bytes += k.snapshot.record.BundleSize
		}
	}
	n := 0
	// The last is what was asked for last, perhaps by the caller of this.
	for _, k := range all[:max(len(all)-1, 0)] {
		if bytes <= c.cfg.Limits.Bytes {
			break
		}
		if c.shelf.isHeld(k.snapshot.record.ID) {
			continue
		}
		c.drop(k.snapshot)
		n++
		if users[k.snapshot.record.Bundle]--; users[k.snapshot.record.Bundle] == 0 {
			bytes -= k.snapshot.record.BundleSize
		}
	}
	return n
}

// drop forgets a snapshot: the record first, so that a kill in between leaves
// a bundle without a record, which sweep removes, and never the other way.
func (c *Catalog) drop(s *Snapshot) {
	if err := c.records.remove(s.record.ID); err != nil {
		c.cfg.Log.Warn("snapshot not removed", "err", err)
		return
	}
	c.shown.remove(s)
	c.shelf.forget(s.record.ID)
	c.cfg.Log.Info("snapshot forgotten", "piece", s.piece, "id", s.record.ID)
}

// sweep removes the bundles that no record names.
func (c *Catalog) sweep() {
	c.removal.Lock()
	defer c.removal.Unlock()
	stored, err := c.bundles.List()
	if err != nil {
		c.cfg.Log.Warn("list the bundles", "err", err)
		return
	}
	c.shown.mu.RLock()
	wanted := map[[32]byte]bool{}
	for _, s := range c.shown.byID {
		wanted[s.record.Bundle] = true
	}
	c.shown.mu.RUnlock()
	for _, sum := range stored {
		if wanted[sum] {
			continue
		}
		if err := c.bundles.Remove(sum); err != nil {
			c.cfg.Log.Warn("bundle not removed", "err", err)
		}
	}
}
