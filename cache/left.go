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
func (s *Store) removeStray() bool {
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

// adopt opens or makes the file of b, and takes over the blocks that it has as
// unverified. The caller holds disk.mu.
func (s *Store) adopt(b *base) (*os.File, error) {
	d := s.disk
	if info, err := d.root.Lstat(name(b.ID)); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name(b.ID))
	}
	f, err := d.root.OpenFile(name(b.ID), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(b.Size); err != nil {
		f.Close()
		return nil, err
	}
	whole, broken, err := leftovers(f, b)
	if err != nil {
		// Start from nothing: all is a hole then.
		s.log.Warn("cache: cannot see what is left of a base, starting it anew", "base", b.ID, "dir", s.dir, "error", err)
		if err := errors.Join(f.Truncate(0), f.Truncate(b.Size)); err != nil {
			f.Close()
			return nil, err
		}
		whole, broken = nil, nil
	}
	d.strays = slices.DeleteFunc(d.strays, func(st stray) bool {
		if st.name == name(b.ID) {
			d.used.Add(-st.bytes)
			return true
		}
		return false
	})
	b.file.Store(f)
	for _, i := range broken {
		// Of a block that was being written or evicted; what stays is measured.
		_ = punch(f, b.offset(i), b.length(i)) // what stays is not trusted
	}
	for _, i := range whole {
		d.account(b, 1, b.cost(i))
	}
	d.measure(b)
	s.index.found(b, whole...)
	return f, nil
}

// leftovers returns the blocks of which f has all pages, and those of which it
// has some.
func leftovers(f *os.File, b *base) (whole, broken []int, err error) {
	for off := int64(0); off < b.Size; {
		start, err := f.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		end, err := f.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return nil, nil, err
		}
		if end <= start {
			return nil, nil, fmt.Errorf("a hole at %d follows data at %d", end, start)
		}
		first, last := b.span(start, end-start)
		for i := first; i <= last; i++ {
			if start <= b.offset(i) && b.offset(i)+b.length(i) <= end {
				whole = append(whole, i)
			} else {
				broken = append(broken, i)
			}
		}
		off = end
	}
	return whole, broken, nil
}
