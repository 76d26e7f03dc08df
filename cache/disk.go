package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/fault"
)

// ErrFull ends a Fill early: the missing blocks do not fit beside those on
// disk.
var ErrFull = fmt.Errorf("%w: the cache has no room for more without giving up what it has", fault.Unavailable)

var errInUse = errors.New("all its space is taken by blocks in use")

// A disk is the directory with the files, or as many files in memory. It asks
// the index which block to evict, and tells it which blocks are on disk.
//
// The rest of the package calls the methods of this file without Locked. They
// take mu. Most of their work is in room.go, left.go and heal.go.
type disk struct {
	directory
	max    int64 // bound on used
	calls  calls
	index  *blockIndex
	log    *slog.Logger
	upkeep upkeep

	used atomic.Int64 // bytes accounted; changed under mu

	// mu is held while files change: while room is made, holes are punched and
	// blocks are written, one at a time. Otherwise a block could be written
	// before its hole is punched. A takes it as a victim and pauses; B misses
	// it, fetches and writes it; A punches what B wrote. mu also guards the
	// fields below, and is taken before index.mu.
	mu        sync.Mutex
	strays    []stray // oldest first
	unscanned int     // bases with blocks in state unknown
	health

	// counts has a mutex of its own: mu is held while a disk hangs, and the
	// counters must be readable even then.
	counts struct {
		sync.Mutex
		DiskStats
	}
}

// DiskStats are about the blocks on disk.
type DiskStats struct {
	Evictions   uint64 // blocks that made room for others
	CorruptDisk uint64 // blocks of an earlier process that did not have their SHA-256, or could not be read
	WriteErrors uint64 // blocks that the disk did not take
	// Uncached are blocks served without being kept: the disk did not take
	// them, or was left alone after too many failures, or all space was in use.
	Uncached uint64

	ScrubbedBytes uint64 // read again from disk
	ScrubWrong    uint64 // blocks that did not have their SHA-256 then, or could not be read

	Degraded  bool   // the disk did not take the last block, or the directory was deleted
	DiskBytes uint64 // space in use, as accounted
}

// calls are the system calls that change a file's blocks. Tests put their own
// in between, to note the order or to make a call fail.
type calls struct {
	write func(f *os.File, p []byte, off int64) error
	punch func(f *os.File, off, n int64) error
}

var kernel = calls{write: writeAt, punch: punch}

func writeAt(f *os.File, p []byte, off int64) error {
	_, err := f.WriteAt(p, off)
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

// A baseFile is the disk's state of the file of one base.
type baseFile struct {
	space space // guarded by disk.mu

	// The background scan goes from the first block on. Beside it, a block is
	// scanned when a reader wants it.
	looked  int         // blocks from the first on; guarded by disk.mu
	scanned atomic.Bool // no block is in state unknown
}

// space is what one base takes of the disk.
type space struct {
	blocks int64 // that are not absent
	data   int64 // bytes of those, in whole pages
	extra  int64 // bytes measured beyond data: the file system's own
}

// bytes returns the space accounted for the base. The file system's map of a
// file with more than four runs of data takes blocks too. It takes them late,
// when the data is written back. ext4 has 340 runs in a block of 4096 bytes, or
// a third of that after much evicting; 32 bytes for each run is more. Space
// measured beyond that counts too.
func (p space) bytes() int64 {
	if p.blocks <= 4 {
		return p.data + p.extra
	}
	return p.data + max(p.extra, 2*pageSize+32*p.blocks)
}

// A stray is the file of a base that this process did not open.
type stray struct {
	name  string
	bytes int64 // on disk
	time  time.Time
}

// An upkeep is the background work, which ends when the Cache is closed.
type upkeep struct {
	sync.WaitGroup
	ctx context.Context
}

// pause waits, and reports whether the Cache is still open afterwards.
func (u *upkeep) pause(d time.Duration) bool {
	select {
	case <-u.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// A directory is where the files are, for this process alone.
type directory struct {
	path string
	root *os.Root // nil if the files are in memory
	lock *os.File // the directory itself, with flock
}

// name returns the name of the file that has the blocks of a base.
func name(id string) string { return id + suffix }

const suffix = ".blocks"

// openDirectory opens or makes a directory, and finds what earlier processes
// left there.
func openDirectory(path string) (directory, []stray, error) {
	dir := directory{path: path}
	strays, err := dir.open()
	if err != nil {
		_ = dir.close()
		return directory{}, nil, err
	}
	return dir, strays, nil
}

func (dir *directory) open() (strays []stray, err error) {
	if err := os.MkdirAll(dir.path, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", fault.Unavailable, err)
	}
	if dir.root, err = os.OpenRoot(dir.path); err != nil {
		return nil, fmt.Errorf("%w: %w", fault.Unavailable, err)
	}
	if dir.lock, err = dir.root.Open("."); err != nil {
		return nil, fmt.Errorf("%w: %w", fault.Unavailable, err)
	}
	switch err := unix.Flock(int(dir.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
	case nil:
	case unix.EWOULDBLOCK:
		return nil, fmt.Errorf("%w: another isofs is using it: stop that one, or give this one a directory of its own", fault.Unavailable)
	default:
		return nil, fmt.Errorf("%w: lock it: %w", fault.Unavailable, err)
	}
	if err := dir.probe(); err != nil {
		return nil, err
	}
	return dir.findStrays()
}

// probe checks that the file system can make holes. It skips a file system that
// cannot be written to at present.
func (dir *directory) probe() error {
	const scratch = "probe"
	f, err := dir.root.OpenFile(scratch, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil
	}
	defer f.Close()
	dir.root.Remove(scratch)
	if _, err := f.WriteAt(make([]byte, 2*pageSize), 0); err != nil {
		return nil
	}
	if err := punch(f, 0, pageSize); errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w: its file system cannot make holes in files: put it on ext4, xfs, btrfs or tmpfs", fault.Unavailable)
	}
	return nil
}

// openFile opens or makes a file of blocks.
func (dir *directory) openFile(name string) (*os.File, error) {
	if dir.root == nil {
		fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
		if err != nil {
			return nil, os.NewSyscallError("memfd_create", err)
		}
		return os.NewFile(uintptr(fd), name), nil
	}
	if info, err := dir.root.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	return dir.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
}

// close releases the directory.
func (dir *directory) close() (err error) {
	if dir.root != nil {
		err = dir.root.Close()
	}
	if dir.lock != nil {
		err = errors.Join(err, dir.lock.Close())
	}
	return err
}

// openDisk opens the storage for the blocks of index. Its background work ends
// with ctx.
func openDisk(ctx context.Context, c Config, index *blockIndex) (*disk, error) {
	d := &disk{max: c.MaxBytes, calls: kernel, index: index, log: c.Log}
	d.path, d.upkeep.ctx, d.now = c.Dir, ctx, time.Now
	if c.Memory {
		return d, nil
	}
	dir, strays, err := openDirectory(c.Dir)
	if err != nil {
		return nil, err
	}
	d.directory = dir
	d.setStraysLocked(strays)
	return d, nil
}

// start starts the background work. The scrubber waits while busy.
func (d *disk) start(scrubRate int64, busy func() bool) {
	if d.root == nil {
		return
	}
	d.upkeep.Go(d.healLoop)
	if scrubRate > 0 {
		d.upkeep.Go(func() { d.scrubLoop(scrubRate, busy) })
	}
}

// close releases all files and the directory.
func (d *disk) close() (err error) {
	d.mu.Lock() // open may be about to open a file
	defer d.mu.Unlock()
	for _, b := range d.index.all() {
		if f := b.file.Load(); f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return errors.Join(err, d.directory.close())
}

// stats returns the current counters and gauges.
func (d *disk) stats() DiskStats {
	d.counts.Lock()
	defer d.counts.Unlock()
	now := d.counts.DiskStats
	now.Degraded = d.refused.Load() || d.lost.Load()
	now.DiskBytes = uint64(d.used.Load())
	return now
}

func (d *disk) count(change func(*DiskStats)) {
	d.counts.Lock()
	defer d.counts.Unlock()
	change(&d.counts.DiskStats)
}

// setStraysLocked replaces the list of strays, and accounts for them.
func (d *disk) setStraysLocked(strays []stray) {
	more := int64(0)
	for _, st := range strays {
		more += st.bytes
	}
	for _, st := range d.strays {
		more -= st.bytes
	}
	d.used.Add(more) // at once, since it is read without mu
	d.strays = strays
}

// open returns the blocks of a base. The first call for a base adds it to the
// index, and takes over what an earlier process left of it.
func (d *disk) open(b Blob) (*baseBlocks, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known, err := d.index.base(b.ID)
	if err != nil {
		return nil, err
	}
	if known != nil {
		if !known.same(b) {
			return nil, fmt.Errorf("%w: it is open with other blocks", fault.Invalid)
		}
		return known, nil
	}
	b.Sums = slices.Clone(b.Sums)
	known = &baseBlocks{Blob: b, blocks: make([]block, len(b.Sums))}
	d.index.add(known)
	if b.Size > d.max {
		d.log.Warn("cache: this base is larger than the cache may be, so parts of it are fetched again and again; give the cache more room", "base", b.ID, "size", b.Size, "cache_size", d.max)
	}
	if _, err := d.adoptLocked(known); err != nil {
		d.refused.Store(true)
		d.log.Warn("cache: serving a base without keeping its blocks for now", "base", b.ID, "dir", d.path, "error", err)
	}
	_ = d.fitLocked()
	return known, nil
}

// fitLocked evicts until the accounted space is within the limit.
func (d *disk) fitLocked() error {
	for d.used.Load() > d.max {
		if err := d.evictLocked(); err != nil {
			return err
		}
	}
	return nil
}

// look scans for those of the blocks from first to last that are in state
// unknown.
func (d *disk) look(b *baseBlocks, first, last int) {
	if b.disk.scanned.Load() || b.file.Load() == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if b.next.Load() == nil {
		d.scanLocked(b, first, last)
	}
}

// takes reports whether the disk took the last block.
func (d *disk) takes() bool { return !d.failing.Load() }

// roomFor returns nil if so many more blocks, with so many bytes in total, fit
// beside all that is on disk.
func (d *disk) roomFor(blocks, bytes int64) error {
	// The same sum as in reserveLocked.
	if d.used.Load()+bytes+2*pageSize+32*blocks > d.max {
		return ErrFull
	}
	if !d.takes() {
		return fmt.Errorf("%w: the disk takes no blocks", fault.Unavailable)
	}
	return nil
}

// keep writes block i, which is pinned by its flight, to disk and reports
// whether it is there.
func (d *disk) keep(b *baseBlocks, i int, data []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b.next.Load() != nil || d.restingLocked() {
		d.count(func(s *DiskStats) { s.Uncached++ })
		return false
	}
	err := d.writeLocked(b, i, data)
	d.judgeLocked(err)
	return err == nil
}

// check reads block i into p, and reports whether its bytes are right. It
// removes a wrong block.
func (d *disk) check(b *baseBlocks, i int, p []byte) bool {
	_, err := b.file.Load().ReadAt(p, b.offset(i))
	if err == nil && sha256.Sum256(p) == b.Sums[i] {
		return true
	}
	d.count(func(s *DiskStats) { s.CorruptDisk++ })
	d.log.Warn("cache: a block on disk is wrong, fetching it", "base", b.ID, "block", i, "dir", d.path, "error", err)
	d.discard(b, i)
	return false
}

// discard removes block i, whose bytes on disk are wrong. If others than its
// flight have it pinned, they compared it and must not see a hole: then the
// right bytes are written over it.
func (d *disk) discard(b *baseBlocks, i int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := (place{b, i}); d.index.take(p) {
		_ = d.holeLocked(p)
	}
}
