package cache

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/fault"
)

var errInUse = errors.New("all its space is taken by blocks in use")

// A disk is the directory with the files, or as many files in memory. Methods
// of Cache that change it are in this file.
type disk struct {
	dir   string
	root  *os.Root // nil if the files are in memory
	lock  *os.File // the directory itself, with flock
	max   int64    // bound on used
	calls calls

	used atomic.Int64 // bytes accounted; changed under mu

	// mu is held while files change: while room is made, holes are punched and
	// blocks are written, one at a time. So a block cannot be written before
	// the hole that is to be in its place: A takes it as a victim and pauses;
	// B misses it, fetches and writes it; A punches what B wrote. It also
	// guards what follows, and is taken before index.mu.
	mu        sync.Mutex
	strays    []stray // oldest first
	unscanned int     // bases with blocks in state unknown
	health
}

// calls are what changes a file's blocks. Tests put theirs in between, to note
// what was done in which order, or to have it fail.
type calls struct {
	write func(f *os.File, p []byte, off int64) error
	punch func(f *os.File, off, n int64) error
}

var kernel = calls{write: writeAt, punch: punch}

func writeAt(f *os.File, p []byte, off int64) error {
	_, err := f.WriteAt(p, off)
	return err
}

// space is what one base takes of the disk.
type space struct {
	blocks int64 // that are not absent
	data   int64 // bytes of those, in whole pages
	extra  int64 // bytes measured beyond data: the file system's own
}

// bytes returns what is accounted for the base. The file system's map of a
// file with more than four runs of data takes blocks of its own, and takes
// them late, when the data is written back. ext4 has 340 runs in a block of
// 4096 bytes, or a third of that after much evicting; 32 bytes for each is
// more than that. What is measured beyond is counted too.
func (p space) bytes() int64 {
	if p.blocks <= 4 {
		return p.data + p.extra
	}
	return p.data + max(p.extra, 2*pageSize+32*p.blocks)
}

func openDisk(c Config) (*disk, error) {
	d := &disk{dir: c.Dir, max: c.MaxBytes, calls: kernel}
	d.now = time.Now
	if c.Memory {
		return d, nil
	}
	if err := d.open(); err != nil {
		_ = d.close()
		return nil, err
	}
	return d, nil
}

// open opens or makes the directory and sees what is there.
func (d *disk) open() (err error) {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("%w: %w", fault.Unavailable, err)
	}
	if d.root, err = os.OpenRoot(d.dir); err != nil {
		return fmt.Errorf("%w: %w", fault.Unavailable, err)
	}
	if d.lock, err = d.root.Open("."); err != nil {
		return fmt.Errorf("%w: %w", fault.Unavailable, err)
	}
	switch err := unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
	case nil:
	case unix.EWOULDBLOCK:
		return fmt.Errorf("%w: another isofs is using it: stop that one, or give this one a directory of its own", fault.Unavailable)
	default:
		return fmt.Errorf("%w: lock it: %w", fault.Unavailable, err)
	}
	if err := d.probe(); err != nil {
		return err
	}
	return d.findStrays()
}

// probe checks that the file system can make holes. One that cannot be written
// to for now is not probed.
func (d *disk) probe() error {
	const scratch = "probe"
	f, err := d.root.OpenFile(scratch, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil
	}
	defer f.Close()
	d.root.Remove(scratch)
	if _, err := f.WriteAt(make([]byte, 2*pageSize), 0); err != nil {
		return nil
	}
	if err := punch(f, 0, pageSize); errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w: its file system cannot make holes in files: put it on ext4, xfs, btrfs or tmpfs", fault.Unavailable)
	}
	return nil
}

// close lets go of the directory.
func (d *disk) close() (err error) {
	if d.root != nil {
		err = d.root.Close()
	}
	if d.lock != nil {
		err = errors.Join(err, d.lock.Close())
	}
	return err
}

func punch(f *os.File, off, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
		if err != unix.EINTR {
			return os.NewSyscallError("fallocate", err)
		}
	}
}

// cost of block i on disk.
func (b *baseBlocks) cost(i int) int64 { return (b.length(i) + pageSize - 1) / pageSize * pageSize }

// account adds n blocks with together that many bytes to what b takes.
func (d *disk) account(b *baseBlocks, n, bytes int64) {
	before := b.space.bytes()
	b.space.blocks += n
	b.space.data += bytes
	d.used.Add(b.space.bytes() - before)
}

// measure adds n blocks with together that many bytes to what b takes, and
// compares that with what it does take. What nobody looked for yet counts as
// the file system's own.
func (d *disk) measure(b *baseBlocks, n, bytes int64) {
	before := b.space.bytes()
	b.space.blocks += n
	b.space.data += bytes
	var st unix.Stat_t
	if err := unix.Fstat(int(b.file.Load().Fd()), &st); err == nil {
		b.space.extra = max(0, st.Blocks*512-b.space.data)
	}
	d.used.Add(b.space.bytes() - before)
}

// keep writes block i, which has its flight's pin, to disk and reports whether
// it is there.
func (s *Cache) keep(b *baseBlocks, i int, data []byte) bool {
	d := s.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if b.next.Load() != nil || d.resting() {
		s.count.uncached.Add(1)
		return false
	}
	err := s.write(b, i, data)
	s.judge(err)
	return err == nil
}

// write makes room for block i, accounts for it, and only then writes it.
func (s *Cache) write(b *baseBlocks, i int, data []byte) error {
	d := s.disk
	f, err := s.file(b)
	if err != nil {
		return err
	}
	if !b.scanned.Load() {
		s.scan(b, i, i)
	}
	cost := b.cost(i)
	// A block that was found wrong while somebody had it pinned still has its place.
	fresh := s.index.isAbsent(b, i)
	if fresh {
		if err := s.reserve(b, cost); err != nil {
			return err
		}
	}
	err = d.calls.write(f, data, b.offset(i))
	// The disk may be smaller than the limit, or others fill it.
	for tries := 0; tries < 4 && noSpace(err) && s.evict() == nil; tries++ {
		err = d.calls.write(f, data, b.offset(i))
	}
	if err != nil && fresh {
		// A part may be there; measure counts it if it stays.
		_ = d.calls.punch(f, b.offset(i), b.length(i)) // at worst it takes room until the next start
		d.account(b, -1, -cost)
	}
	d.measure(b, 0, 0)
	if err == nil {
		_ = s.fit()
	}
	return err
}

func noSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// reserve accounts for one more block of b, having made room for it. The
// caller holds disk.mu.
func (s *Cache) reserve(b *baseBlocks, cost int64) error {
	d := s.disk
	if cost > d.max {
		return errInUse // not worth evicting all the others for
	}
	for {
		with := b.space
		with.blocks++
		with.data += cost
		if d.used.Load()-b.space.bytes()+with.bytes() <= d.max {
			d.account(b, 1, cost)
			return nil
		}
		if err := s.evict(); err != nil {
			return err
		}
	}
}

// fit evicts until what is accounted is within the limit. The caller holds
// disk.mu.
func (s *Cache) fit() error {
	for s.disk.used.Load() > s.disk.max {
		if err := s.evict(); err != nil {
			return err
		}
	}
	return nil
}

// evict frees some space: of a base that nobody opened, or else of the block
// that was not used for the longest. The caller holds disk.mu.
func (s *Cache) evict() error {
	if s.removeStray() {
		return nil
	}
	s.scanAll()
	p, ok := s.index.victim()
	if !ok {
		return errInUse
	}
	if err := s.hole(p); err != nil {
		return err
	}
	s.count.evictions.Add(1)
	return nil
}

// hole makes a hole of a block that was taken from the index. The caller holds
// disk.mu.
func (s *Cache) hole(p place) error {
	b := p.base
	if err := s.disk.calls.punch(b.file.Load(), b.offset(p.block), b.length(p.block)); err != nil {
		// Its bytes may be there or not.
		s.index.found(b, p.block)
		return err
	}
	s.disk.measure(b, -1, -b.cost(p.block))
	return nil
}

// discard removes block i, whose bytes on disk are wrong, unless others than
// its flight have it pinned: they compared it, and must not see a hole. Then
// the right bytes are written over it.
func (s *Cache) discard(b *baseBlocks, i int) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if p := (place{b, i}); s.index.take(p) {
		_ = s.hole(p)
	}
}
