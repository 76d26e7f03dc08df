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

// A stray is the file of a base that nobody opened in this process.
type stray struct {
	name  string
	bytes int64 // on disk
	time  time.Time
}

// findStrays lists and accounts the files that earlier processes left. What is
// not named as such a file is somebody else's.
func (d *disk) findStrays() error {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return fmt.Errorf("%w: list it: %w", fault.Unavailable, err)
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || len(id) != 64 || !e.Type().IsRegular() {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstatat(int(d.lock.Fd()), e.Name(), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			continue
		}
		d.strays = append(d.strays, stray{e.Name(), st.Blocks * 512, time.Unix(st.Mtim.Unix())})
		d.used.Add(st.Blocks * 512)
	}
	slices.SortFunc(d.strays, func(a, b stray) int { return a.time.Compare(b.time) })
	return nil
}

// removeStray removes the oldest stray that can be removed. The caller holds
// disk.mu.
func (s *Cache) removeStray() bool {
	d := s.disk
	for i, st := range d.strays {
		if err := d.root.Remove(st.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		d.strays = slices.Delete(d.strays, i, i+1)
		d.used.Add(-st.bytes)
		s.log.Info("cache: removed the blocks of a base that is not open, to make room", "file", st.name, "bytes", st.bytes, "dir", s.dir)
		return true
	}
	return false
}

// openFile opens or makes a file of blocks.
func (d *disk) openFile(name string) (*os.File, error) {
	if d.root == nil {
		fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
		if err != nil {
			return nil, os.NewSyscallError("memfd_create", err)
		}
		return os.NewFile(uintptr(fd), name), nil
	}
	if info, err := d.root.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	return d.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
}

// scanStep is how many blocks are looked for at once: while that goes on
// nothing else changes on disk. A start looks for so many of each base, and
// leaves the rest for later. Tests have it smaller.
var scanStep = 1024

// adopt opens or makes the file of b. What it has of an earlier process is
// taken over as unverified, the most of it later. The caller holds disk.mu.
func (s *Cache) adopt(b *baseBlocks) (*os.File, error) {
	d := s.disk
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
	d.strays = slices.DeleteFunc(d.strays, func(st stray) bool {
		if st.name == name(b.ID) {
			d.used.Add(-st.bytes)
			return true
		}
		return false
	})
	b.file.Store(f)
	if st.Blocks == 0 {
		b.scanned.Store(true)
		return f, nil
	}
	d.unscanned++
	s.index.change(b, absent, unknown)
	s.scan(b, 0, scanStep-1)
	if !b.scanned.Load() {
		s.index.unlessClosed(func() { s.upkeep.Go(func() { s.scanRest(b) }) })
	}
	return f, nil
}

// scanRest looks for the blocks that adopt left.
func (s *Cache) scanRest(b *baseBlocks) {
	d := s.disk
	for s.ctx.Err() == nil {
		d.mu.Lock()
		done := b.scanned.Load() || b.next.Load() != nil
		if !done {
			s.scan(b, b.looked, b.looked+scanStep-1)
			_ = s.fit()
		}
		d.mu.Unlock()
		if done {
			return
		}
	}
}

// scanAll looks for all blocks, so that the oldest can be told. The caller
// holds disk.mu.
func (s *Cache) scanAll() {
	if s.disk.unscanned == 0 {
		return
	}
	for _, b := range s.index.all() {
		if b.file.Load() != nil && !b.scanned.Load() {
			s.scan(b, b.looked, len(b.blocks)-1)
		}
	}
}

// look finds out which of the blocks from first to last are on disk, where
// that is not known.
func (s *Cache) look(b *baseBlocks, first, last int) {
	if b.scanned.Load() || b.file.Load() == nil {
		return
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if b.next.Load() == nil {
		s.scan(b, first, last)
	}
}

// scan asks the file system which of the blocks from first to last are there,
// and takes those over that nobody looked for yet. The caller holds disk.mu.
func (s *Cache) scan(b *baseBlocks, first, last int) {
	d, f := s.disk, b.file.Load()
	last = min(last, len(b.blocks)-1)
	found, err := leftovers(f, b, first, last)
	if err != nil {
		// Start from nothing: as if of every block a part were there.
		s.log.Warn("cache: cannot see what is left of a base, starting with an empty one", "base", b.ID, "dir", s.dir, "error", err)
		for k := range found {
			found[k] = partial
		}
	}
	blocks, bytes, broken := s.index.resolve(b, first, found)
	for _, i := range broken {
		// Of a block that was being written or evicted.
		_ = d.calls.punch(f, b.offset(i), b.length(i)) // what stays is measured, and not trusted
	}
	d.measure(b, blocks, bytes)
	if first <= b.looked {
		b.looked = max(b.looked, last+1)
	}
	if b.looked == len(b.blocks) && !b.scanned.Swap(true) {
		d.unscanned--
	}
}

// leftovers returns of each block from first to last whether f has all of its
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
