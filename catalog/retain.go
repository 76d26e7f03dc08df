package catalog

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"aesthetic.computer/isofs/base"
)

// justUsed is how long ago a snapshot may have been asked for to be kept in any
// case. Between the answer that names it and its opening nobody holds it.
const justUsed = 10 * time.Second

// Prune forgets the snapshots that were superseded for longer than
// Limits.Retain, and those beyond Limits.Superseded of a piece. While more than
// Limits.Snapshots are left, or their bundles take more than Limits.Bytes, it
// forgets first those without a download, then those of the network that alone
// downloads the most. Among equals the longest superseded go first, then the
// pieces with the oldest last request. A piece that its source no longer has counts as superseded.
// Prune keeps a snapshot that is open, was requested just now, or is the last
// of all. It returns how many it forgot.
func (c *Catalog) Prune() int {
	n := 0
	var left []candidate
	for _, k := range c.candidates() {
		if k.expired && !c.needed(k) && c.drop(k.snapshot, outdated) {
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
	// current is true for what a request for the piece would get. The others
	// are superseded since a time.
	current bool
	since   time.Time
	used    time.Time
	expired bool
	// Of what rank sees to.
	downloaded bool
	later      int
}

// candidates lists all snapshots, in the order in which they should go.
func (c *Catalog) candidates() []candidate {
	now, limits := c.cfg.Now(), c.limits.Load()
	var all []candidate
	c.shown.mu.RLock()
	for name, list := range c.shown.byPiece {
		goneSince, gone := c.shown.gone[name]
		for i, s := range list {
			k := candidate{snapshot: s, current: i == 0 && !gone, since: goneSince}
			if i > 0 {
				k.since = list[i-1].record.Made
			}
			k.expired = !k.current && (i > limits.Superseded || now.Sub(k.since) > limits.Retain)
			all = append(all, k)
		}
	}
	c.shown.mu.RUnlock()
	for i := range all {
		all[i].used = all[i].snapshot.lastUsed()
	}
	rank(all)
	slices.SortFunc(all, func(a, b candidate) int {
		switch {
		case a.downloaded != b.downloaded && !a.downloaded:
			return -1
		case a.downloaded != b.downloaded:
			return 1
		case a.later != b.later:
			return cmp.Compare(b.later, a.later)
		case a.current != b.current && !a.current:
			return -1
		case a.current != b.current:
			return 1
		case a.current:
			return cmp.Or(a.used.Compare(b.used), strings.Compare(a.snapshot.ID(), b.snapshot.ID()))
		}
		return cmp.Or(a.since.Compare(b.since), strings.Compare(a.snapshot.ID(), b.snapshot.ID()))
	})
	return all
}

// needed reports whether somebody reads the snapshot, or is about to.
func (c *Catalog) needed(k candidate) bool {
	since := c.cfg.Now().Sub(k.snapshot.lastUsed())
	// A clock that was set back must not keep it for ever.
	return since >= 0 && since < justUsed || c.shelf.isHeld(k.snapshot.record.ID)
}

// shrink drops snapshots, the first of all first, until they fit the limits.
func (c *Catalog) shrink(all []candidate) int {
	limits := c.limits.Load()
	users := map[base.Hash]int{}
	var bytes int64
	for _, k := range all {
		for sum, size := range k.snapshot.record.files() {
			if users[sum]++; users[sum] == 1 {
				bytes += size
			}
		}
	}
	n := 0
	for _, k := range all[:max(len(all)-1, 0)] {
		if bytes <= limits.Bytes && len(all)-n <= limits.Snapshots {
			break
		}
		why := noRoomUnread
		if k.downloaded {
			why = noRoom
		}
		if c.needed(k) || !c.drop(k.snapshot, why) {
			continue
		}
		n++
		for sum, size := range k.snapshot.record.files() {
			if users[sum]--; users[sum] == 0 {
				bytes -= size
			}
		}
	}
	return n
}
