package cache

import (
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A failing disk must not stop the cache from serving: it serves the blocks that
// the disk does not take without keeping them. The cache tries the disk again by
// itself, and makes a deleted directory again.

const (
	// healthyRun is how many blocks must be kept in a row before the log says
	// that the disk works again. A cache that is too small for its readers keeps
	// every other block.
	healthyRun = 64

	// After maxFailures refused writes in a row the cache leaves the disk alone
	// for restTime: a broken disk takes long to fail. Then one write tests it.
	maxFailures = 3
	restTime    = 30 * time.Second

	// healTime is how often the cache checks whether the directory still exists.
	healTime = 5 * time.Second
)

// health is how the disk takes blocks. The atomic fields can be read without
// disk.mu, and change under it.
type health struct {
	now     func() time.Time
	failing atomic.Bool // the last block could not be kept
	refused atomic.Bool // and the disk was the reason
	lost    atomic.Bool // the directory was deleted, and cannot be made again

	episode  bool // the log says that blocks are not kept
	kept     int  // blocks since the last that was not
	failures int  // writes in a row that the disk refused
	rested   time.Time
}

// restingLocked reports whether the cache leaves the disk alone.
func (h *health) restingLocked() bool { return h.failures >= maxFailures && h.now().Before(h.rested) }

// judgeLocked notes how an attempt to keep a block ended.
func (d *disk) judgeLocked(err error) {
	d.failing.Store(err != nil)
	if err == nil {
		d.refused.Store(false)
		d.failures = 0
		d.kept++
		if d.episode && d.kept >= healthyRun {
			d.episode = false
			d.log.Info("cache: keeping blocks again", "dir", d.path)
		}
		return
	}
	d.kept = 0
	d.count(func(s *DiskStats) { s.Uncached++ })
	if !errors.Is(err, errInUse) {
		d.refuseLocked()
	}
	if !d.episode {
		d.episode = true
		d.log.Warn("cache: cannot keep blocks, serving them without", "dir", d.path, "used", d.used.Load(), "limit", d.max, "error", err)
	}
}

// refuseLocked notes that the disk did not take a block.
func (d *disk) refuseLocked() {
	d.count(func(s *DiskStats) { s.WriteErrors++ })
	d.refused.Store(true)
	d.failures++
	if d.failures < maxFailures {
		return
	}
	if d.failures == maxFailures {
		d.log.Warn("cache: the disk is left alone for a while", "dir", d.path, "for", restTime, "failures", d.failures)
	}
	d.rested = d.now().Add(restTime)
}

// heal makes the deleted directory or files again, while the Cache is open.
// Pinned blocks stay in the files that they are in.
func (d *disk) heal() {
	if d.root == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if deleted(int(d.lock.Fd())) {
		fresh, strays, err := openDirectory(d.path)
		if err != nil {
			if !d.lost.Swap(true) {
				d.log.Warn("cache: the directory was deleted and cannot be made again", "dir", d.path, "error", err)
			}
			return
		}
		_ = d.directory.close() // no name leads to it any more
		d.directory = fresh
		d.setStraysLocked(strays)
		d.failures = 0
		d.failing.Store(false)
		d.refused.Store(false)
		d.lost.Store(false)
		d.log.Warn("cache: the directory was deleted, made it again", "dir", d.path)
	}
	for _, b := range d.index.all() {
		if f := b.file.Load(); f != nil && deleted(int(f.Fd())) {
			d.renewLocked(b)
		}
	}
	_ = d.fitLocked()
}

// renewLocked gives b, whose file was deleted, a new one.
func (d *disk) renewLocked(b *baseBlocks) {
	d.used.Add(-b.disk.space.bytes())
	if !b.disk.scanned.Load() {
		d.unscanned--
	}
	if d.index.retire(b) {
		b.file.Load().Close()
		return
	}
	// Otherwise the garbage collector closes it, after the last reader released
	// its pins.
	d.log.Info("cache: the file of a base was deleted; it is in use, and its space is free later", "base", b.ID, "dir", d.path)
}

// deleted reports whether no name leads to an open file or directory. A moved one
// is not deleted.
func deleted(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Nlink == 0
}

// healLoop heals at intervals, until the Cache is closed.
func (d *disk) healLoop() {
	for d.upkeep.pause(healTime) {
		d.heal()
	}
}
