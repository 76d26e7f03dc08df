package cache

import (
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A disk that fails is no reason to serve nothing: what it does not take is
// served without being kept. The cache tries the disk again by itself, and makes
// again a directory that was deleted.

const (
	// healthyRun is how many blocks must be kept in a row before the log says
	// that the disk works again. A cache that is too small for its readers works
	// every other time.
	healthyRun = 64

	// After maxFailures refused writes in a row the disk is left alone for
	// restTime: a broken disk takes long to say no. Then one write finds out.
	maxFailures = 3
	restTime    = 30 * time.Second

	// healTime is how often the cache looks whether the directory is still there.
	healTime = 5 * time.Second
)

// health is how the disk takes blocks. What can be read without disk.mu is
// changed under it.
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

// restingLocked reports whether the disk is left alone.
func (h *health) restingLocked() bool { return h.failures >= maxFailures && h.now().Before(h.rested) }

// judgeLocked takes note of how a block was kept.
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

// refuseLocked takes note that the disk did not take a block.
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

// heal makes again what was deleted while the Cache is open: the directory, the
// files. What is pinned stays in the files that it is in.
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

// renewLocked begins b, whose file was deleted, with a new one.
func (d *disk) renewLocked(b *baseBlocks) {
	d.used.Add(-b.disk.space.bytes())
	if !b.disk.scanned.Load() {
		d.unscanned--
	}
	if d.index.retire(b) {
		b.file.Load().Close()
		return
	}
	// Else the garbage collector closes it, after the readers who have it
	// pinned let go of it.
	d.log.Info("cache: the file of a base was deleted; it is in use, and its space is free later", "base", b.ID, "dir", d.path)
}

// deleted reports whether no name leads to an open file or directory. One that
// was moved is not.
func deleted(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Nlink == 0
}

// healLoop heals now and then, until the Cache is closed.
func (d *disk) healLoop() {
	for d.upkeep.pause(healTime) {
		d.heal()
	}
}
