package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/fault"
)

// findStrays lists the files that earlier processes left, the oldest first.
// Files with other names belong to others.
func (dir *directory) findStrays() (strays []stray, err error) {
	entries, err := fs.ReadDir(dir.root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("%w: list it: %w", fault.Unavailable, err)
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || len(id) != 64 || !e.Type().IsRegular() {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstatat(int(dir.lock.Fd()), e.Name(), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			continue
		}
		strays = append(strays, stray{e.Name(), st.Blocks * 512, time.Unix(st.Mtim.Unix())})
	}
	slices.SortFunc(strays, func(a, b stray) int { return a.time.Compare(b.time) })
	return strays, nil
}

// removeStrayLocked removes the oldest stray that can be removed.
func (d *disk) removeStrayLocked() bool {
	for i, st := range d.strays {
		if err := d.root.Remove(st.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		d.strays = slices.Delete(d.strays, i, i+1)
		d.used.Add(-st.bytes)
		d.log.Info("cache: removed the blocks of a base that is not open, to make room", "file", st.name, "bytes", st.bytes, "dir", d.path)
		return true
	}
	return false
}

// scanStep is how many blocks one scan looks for. Nothing else changes on disk
// meanwhile. A start looks for that many of each base, and leaves the rest for
// later. Tests make it smaller.
var scanStep = 1024

// adoptLocked opens or makes the file of b. It takes over the blocks that an
// earlier process left as unverified, most of them later.
func (d *disk) adoptLocked(b *baseBlocks) (*os.File, error) {
	f, err := d.openFile(name(b.ID))
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(b.Size); err != nil {
		f.Close()
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, err
	}
	d.setStraysLocked(slices.DeleteFunc(slices.Clone(d.strays), func(st stray) bool { return st.name == name(b.ID) }))
	b.file.Store(f)
	if st.Blocks == 0 {
		b.disk.scanned.Store(true)
		return f, nil
	}
	d.unscanned++
	d.index.change(b, absent, unknown)
	d.scanLocked(b, 0, scanStep-1)
	if !b.disk.scanned.Load() {
		d.index.unlessClosed(func() { d.upkeep.Go(func() { d.scanRest(b) }) })
	}
	return f, nil
}

// fileLocked returns the file of b. If opening it failed before, it tries
// again.
func (d *disk) fileLocked(b *baseBlocks) (*os.File, error) {
	if f := b.file.Load(); f != nil {
		return f, nil
	}
	return d.adoptLocked(b)
}

// scanRest scans for the blocks that adoptLocked left for later.
func (d *disk) scanRest(b *baseBlocks) {
	for d.upkeep.ctx.Err() == nil {
		d.mu.Lock()
		done := b.disk.scanned.Load() || b.next.Load() != nil
		if !done {
			d.scanLocked(b, b.disk.looked, b.disk.looked+scanStep-1)
			_ = d.fitLocked()
		}
		d.mu.Unlock()
		if done {
			return
		}
	}
}

// scanAllLocked scans for all blocks, so that the index has the oldest of all.
func (d *disk) scanAllLocked() {
	if d.unscanned == 0 {
		return
	}
	for _, b := range d.index.all() {
		if b.file.Load() != nil && !b.disk.scanned.Load() {
			d.scanLocked(b, b.disk.looked, len(b.blocks)-1)
		}
	}
}

// scanLocked asks the file system which of the blocks from first to last are
// there, and takes over those in state unknown.
func (d *disk) scanLocked(b *baseBlocks, first, last int) {
	f := b.file.Load()
	last = min(last, len(b.blocks)-1)
	found, err := leftovers(f, b, first, last)
	if err != nil {
		// Start from nothing: treat every block as partial.
		d.log.Warn("cache: cannot see what is left of a base, starting with an empty one", "base", b.ID, "dir", d.path, "error", err)
		for k := range found {
			found[k] = partial
		}
	}
	blocks, bytes, broken := d.index.resolve(b, first, found)
	for _, i := range broken {
		// It was half written or half evicted.
		_ = d.calls.punch(f, b.offset(i), b.length(i)) // what stays is measured, and not trusted
	}
	d.measureLocked(b, blocks, bytes)
	if first <= b.disk.looked {
		b.disk.looked = max(b.disk.looked, last+1)
	}
	if b.disk.looked == len(b.blocks) && !b.disk.scanned.Swap(true) {
		d.unscanned--
	}
}

// leftovers returns for each block from first to last whether f has all of its
// pages (unverified), none (absent), or some (partial).
func leftovers(f *os.File, b *baseBlocks, first, last int) ([]state, error) {
	found := make([]state, last-first+1)
	limit := b.offset(last) + b.length(last)
	for off := b.offset(first); off < limit; {
		start, err := f.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return found, err
		}
		if start >= limit {
			break
		}
		end, err := f.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return found, err
		}
		if end <= start {
			return found, fmt.Errorf("a hole at %d follows data at %d", end, start)
		}
		from, to := b.span(start, min(end, limit)-start)
		for i := from; i <= to; i++ {
			found[i-first] = partial
			if start <= b.offset(i) && b.offset(i)+b.length(i) <= end {
				found[i-first] = unverified
			}
		}
		off = end
	}
	return found, nil
}
