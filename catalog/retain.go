package catalog

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"aesthetic.computer/isofs/base"
)

// A snapshot requested within justUsed is kept in any case. No client has it
// open between the answer that names it and the open.
const justUsed = 10 * time.Second

// Prune forgets snapshots that were superseded for longer than Limits.Retain,
// and those beyond Limits.Superseded of a piece. It forgets more while
// Limits.Snapshots or Limits.Bytes is exceeded: first those without a download,
// then those of the network that alone downloads the most. Among equals the
// longest superseded go first, then the pieces with the oldest last request. A
// piece that its source no longer has counts as superseded. Prune keeps a
// snapshot that is open, was requested just now, or is the last of all. It
// returns how many it forgot.
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

// A candidate is a snapshot that Prune may forget.
type candidate struct {
	snapshot *Snapshot
	// current is true for the snapshot that a request for the piece gets. The
	// others are superseded since a time.
	current bool
	since   time.Time
	used    time.Time
	expired bool
	// Set by rank.
	downloaded bool
	later      int
}

// candidates lists all snapshots, the first to forget first.
func (c *Catalog) candidates() []candidate {
	now, limits := c.cfg.Now(), c.limits.Load()
	var all []candidate
	c.shown.mu.RLock()
	for name, list := range c.shown.byPiece {
		missingSince, missing := c.shown.missing[name]
		for i, s := range list {
			k := candidate{snapshot: s, current: i == 0 && !missing, since: missingSince}
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

// needed reports whether a client reads the snapshot, or is about to.
func (c *Catalog) needed(k candidate) bool {
	since := c.cfg.Now().Sub(k.snapshot.lastUsed())
	// After the clock was set back, since is negative. That must not keep the
	// snapshot for ever.
	return since >= 0 && since < justUsed || c.shelf.isHeld(k.snapshot.record.ID)
}

// shrink drops snapshots from the start of the list, until the rest fits the
// limits.
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
