package cache

import (
	"errors"

	"golang.org/x/sys/unix"
)

// How blocks get their room on disk, within the limit.

// accountLocked adds n blocks, with bytes in total, to the space of b.
func (d *disk) accountLocked(b *baseBlocks, n, bytes int64) {
	space := &b.disk.space
	before := space.bytes()
	space.blocks += n
	space.data += bytes
	d.used.Add(space.bytes() - before)
}

// measureLocked adds n blocks, with bytes in total, to the space of b, and compares
// that with what its file really takes. Blocks in state unknown count as the file
// system's own.
func (d *disk) measureLocked(b *baseBlocks, n, bytes int64) {
	space := &b.disk.space
	before := space.bytes()
	space.blocks += n
	space.data += bytes
	var st unix.Stat_t
	if err := unix.Fstat(int(b.file.Load().Fd()), &st); err == nil {
		space.extra = max(0, st.Blocks*512-space.data)
	}
	d.used.Add(space.bytes() - before)
}

// writeLocked makes room for block i, accounts for it, and only then writes it.
func (d *disk) writeLocked(b *baseBlocks, i int, data []byte) error {
	f, err := d.fileLocked(b)
	if err != nil {
		return err
	}
	if !b.disk.scanned.Load() {
		d.scanLocked(b, i, i)
	}
	cost := b.cost(i)
	// A block that was found wrong while a reader had it pinned still has its place.
	fresh := d.index.isAbsent(b, i)
	if fresh {
		if err := d.reserveLocked(b, cost); err != nil {
			return err
		}
	}
	err = d.calls.write(f, data, b.offset(i))
	// The disk may be smaller than the limit, or other programs fill it.
	for tries := 0; tries < 4 && noSpace(err) && d.evictLocked() == nil; tries++ {
		err = d.calls.write(f, data, b.offset(i))
	}
	if err != nil && fresh {
		// A part may be there. measureLocked counts it if it stays.
		_ = d.calls.punch(f, b.offset(i), b.length(i)) // at worst it takes room until the next start
		d.accountLocked(b, -1, -cost)
	}
	d.measureLocked(b, 0, 0)
	if err == nil {
		_ = d.fitLocked()
	}
	return err
}

func noSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// reserveLocked makes room for one more block of b and accounts for it.
func (d *disk) reserveLocked(b *baseBlocks, cost int64) error {
	if cost > d.max {
		return errInUse // not worth evicting all the others for
	}
	for {
		with := b.disk.space
		with.blocks++
		with.data += cost
		if d.used.Load()-b.disk.space.bytes()+with.bytes() <= d.max {
			d.accountLocked(b, 1, cost)
			return nil
		}
		if err := d.evictLocked(); err != nil {
			return err
		}
	}
}

// evictLocked frees some space: it removes a base that this process did not open, or
// else evicts the block that was not used for the longest.
func (d *disk) evictLocked() error {
	if d.removeStrayLocked() {
		return nil
	}
	d.scanAllLocked()
	p, ok := d.index.victim()
	if !ok {
		return errInUse
	}
	if err := d.holeLocked(p); err != nil {
		return err
	}
	d.count(func(s *DiskStats) { s.Evictions++ })
	return nil
}

// holeLocked makes a hole of a block that the index made absent.
func (d *disk) holeLocked(p place) error {
	b := p.base
	if err := d.calls.punch(b.file.Load(), b.offset(p.block), b.length(p.block)); err != nil {
		// Its bytes may or may not be there.
		d.index.found(b, p.block)
		return err
	}
	d.measureLocked(b, -1, -b.cost(p.block))
	return nil
}
