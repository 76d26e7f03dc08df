package cache

import (
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A disk that fails is no reason to serve nothing: what it does not take is
// served without being kept. It is tried again by itself, and a directory that
// was deleted is made again.

const (
	// healthyRun is how many blocks must be kept in a row before the log says that it
	// works again. A cache that is too small for its readers works every other
	// time.
	healthyRun = 64

	// After maxFailures refused writes in a row the disk is left alone for
	// restTime: a broken disk takes long to say no. Then one write finds out.
	maxFailures = 3
	restTime    = 30 * time.Second

	// healTime is how often it is looked whether the directory is still there.
	healTime = 5 * time.Second
)

// health is how the disk takes blocks. What can be read without disk.mu is
// changed under it.
type health struct {
	now     func() time.Time
	failing atomic.Bool // the last block could not be kept
	refused atomic.Bool // and that was the disk's doing
	lost    atomic.Bool // the directory was deleted, and cannot be made again

	episode  bool // it was said that blocks are not kept
	kept     int  // blocks since the last that was not
	failures int  // writes in a row that the disk refused
	rested   time.Time
}

// resting reports whether the disk is left alone.
func (h *health) resting() bool { return h.failures >= maxFailures && h.now().Before(h.rested) }

// judge takes note of how a block was kept. The caller holds disk.mu.
func (s *Cache) judge(err error) {
	d := s.disk
	d.failing.Store(err != nil)
	if err == nil {
		d.refused.Store(false)
		d.failures = 0
		d.kept++
		if d.episode && d.kept >= healthyRun {
			d.episode = false
			s.log.Info("cache: keeping blocks again", "dir", s.dir)
		}
		return
	}
	d.kept = 0
	s.count.uncached.Add(1)
	if !errors.Is(err, errInUse) {
		s.refuse()
	}
	if !d.episode {
		d.episode = true
		s.log.Warn("cache: cannot keep blocks, serving them without", "dir", s.dir, "used", d.used.Load(), "limit", d.max, "error", err)
	}
}

// refuse takes note that the disk did not take a block.
func (s *Cache) refuse() {
	d := s.disk
	s.count.writeErrors.Add(1)
	d.refused.Store(true)
	d.failures++
	if d.failures < maxFailures {
		return
	}
	if d.failures == maxFailures {
		s.log.Warn("cache: the disk is left alone for a while", "dir", s.dir, "for", restTime, "failures", d.failures)
	}
	d.rested = d.now().Add(restTime)
}

// heal makes anew what was deleted under the Cache: the directory, the files.
// What is pinned stays in the files that it is in.
func (s *Cache) heal() {
	d := s.disk
	if d.root == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if deleted(int(d.lock.Fd())) {
		anew := &disk{dir: d.dir, max: d.max}
		if err := anew.open(); err != nil {
			_ = anew.close()
			if !d.lost.Swap(true) {
				s.log.Warn("cache: the directory was deleted and cannot be made again", "dir", s.dir, "error", err)
			}
			return
		}
		_ = d.close() // nobody can come by what was deleted
		for _, st := range d.strays {
			d.used.Add(-st.bytes)
		}
		d.root, d.lock, d.strays = anew.root, anew.lock, anew.strays
		d.used.Add(anew.used.Load())
		d.failures = 0
		d.failing.Store(false)
		d.refused.Store(false)
		d.lost.Store(false)
		s.log.Warn("cache: the directory was deleted, made it again", "dir", s.dir)
	}
	for _, b := range s.index.all() {
		if f := b.file.Load(); f != nil && deleted(int(f.Fd())) {
			s.renew(b)
		}
	}
	_ = s.fit()
}

// renew begins b, whose file was deleted, with a new one. The caller holds
// disk.mu.
func (s *Cache) renew(b *baseBlocks) {
	s.disk.used.Add(-b.space.bytes())
	if !b.scanned.Load() {
		s.disk.unscanned--
	}
	if s.index.retire(b) {
		b.file.Load().Close()
		return
	}
	// Else it is closed when it is collected as garbage, after those who have
	// it pinned let go of it.
	s.log.Info("cache: the file of a base was deleted; it is in use, and its space is free later", "base", b.ID, "dir", s.dir)
}

// deleted reports whether no name leads to an open file or directory. One that
// was moved is not.
func deleted(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Nlink == 0
}

// healLoop heals now and then, until the Cache is closed.
func (s *Cache) healLoop() {
	for s.pause(healTime) {
		s.heal()
	}
}

// pause waits, and reports whether the Cache is still open then.
func (s *Cache) pause(d time.Duration) bool {
	select {
	case <-s.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
