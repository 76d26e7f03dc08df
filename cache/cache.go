// Package cache keeps the blocks of bases that were read before.
//
// A File is one base: immutable bytes, cut into blocks with a known SHA-256.
// What may be cached is any block whose bytes have that SHA-256; no other byte
// is ever served. A block that is missing is fetched once, however many
// readers want it, compared, handed to them, and written to a sparse file at
// its own offset. All the files of a directory together stay within a limit:
// the block that was not read for the longest makes room by becoming a hole.
// Readers say what they will want next, or that all of a base is to be had:
// that is fetched behind what somebody waits for.
// A block which an earlier process left is compared again before it is used,
// so a crash, a power cut or a stranger can lose blocks but not falsify them.
// While the process runs it takes the kernel at its word that what was written
// is what is read, and has a scrubber look whether the disk still says so.
//
// The package leaves out where the bytes come from and how often to ask for
// them (the Origin's business), and knows nothing of images, URLs or files
// that differ from a base.
package cache

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"aesthetic.computer/isofs/fault"
)

// MaxBlockSize is the largest block in bytes, and the most that is fetched by
// one request that a reader waits for.
const MaxBlockSize = 1 << 20

// pageSize is what the block size must be a multiple of and what space is
// counted in: file systems make holes of whole pages.
const pageSize = 4096

// Config of a Cache.
type Config struct {
	Dir      string // holds one sparse file per base, <id>.blocks; made if it is missing
	Memory   bool   // instead of Dir: the files are in memory, and gone at the end
	MaxBytes int64  // bound on the space of all those files
	Fetches  int    // most fetches at once over all bases; with 1, nothing is fetched ahead; 0: 16
	Log      *slog.Logger

	// InflightBytes bounds the memory of all fetches at once; a single one is
	// made however large it is. 0: 64 MiB. 4 MiB more are for comparing blocks
	// that are on disk.
	InflightBytes int64

	// ScrubRate is how many bytes a second are read again from disk and
	// compared, in the background. 0: none.
	ScrubRate int64
	// Fetched is told how long each fetch took, and whether it failed. It may be
	// nil.
	Fetched func(took time.Duration, failed bool)
}

// A Cache is the block cache of a process over one directory. Its methods are
// safe for concurrent use.
type Cache struct {
	log     *slog.Logger
	fetched func(took time.Duration, failed bool)
	dir     string
	disk    *disk
	index   *blockIndex
	toll    *toll
	count   counters

	queue   *queue // of runs that are fetched
	checks  *queue // of those that are on disk, to be compared
	buffers buffers
	pulls   sync.WaitGroup  // the goroutines of runs
	ctx     context.Context // ends by stop, in Close
	stop    context.CancelFunc
}

// checksAtOnce is how many blocks on disk are compared at once. They have a
// queue of their own, since they need not wait for an origin that is slow.
const checksAtOnce = 4

// Stats are counters since the start, and gauges.
type Stats struct {
	DiskStats

	Hits   uint64 // blocks that were wanted and present
	Misses uint64 // blocks that were wanted and not, those waited for in common included

	Fetches        uint64 // calls of Fetch
	FetchErrors    uint64 // those that failed
	FetchedBytes   uint64 // bytes of the blocks that came whole, the wrong ones included
	CorruptFetches uint64 // fetched blocks that did not have their SHA-256

	Ahead       uint64 // blocks that were fetched ahead of readers
	AheadUnused uint64 // those of them that were evicted before a reader came for them

	Delayed uint64 // small reads that waited, or were refused, so that the origin does not send much for little

	Inflight      int64 // calls of Fetch under way
	InflightBytes int64 // memory of those, and of blocks on disk being compared
}

type counters struct {
	hits, misses                                       atomic.Uint64
	fetches, fetchErrors, fetchedBytes, corruptFetches atomic.Uint64
	ahead                                              atomic.Uint64
	inflight                                           atomic.Int64
}

// Open opens or makes the directory. Two processes cannot share one: the
// second is refused with fault.Unavailable. Files of an earlier process are
// neither read nor checked yet.
//
// A disk that is full, read-only or broken is no error: the Cache then serves
// without keeping, says so in the log, and keeps again when it can. So it does
// when the directory is deleted, which it makes again.
func Open(c Config) (*Cache, error) {
	switch {
	case c.Memory == (c.Dir != ""):
		return nil, fmt.Errorf("open cache %s: %w: want a directory or memory", c.Dir, fault.Invalid)
	case c.MaxBytes <= 0:
		return nil, fmt.Errorf("open cache %s: %w: limit of %d bytes", c.Dir, fault.Invalid, c.MaxBytes)
	case c.Fetches < 0:
		return nil, fmt.Errorf("open cache %s: %w: %d fetches at once", c.Dir, fault.Invalid, c.Fetches)
	case c.InflightBytes < 0:
		return nil, fmt.Errorf("open cache %s: %w: %d bytes of fetches at once", c.Dir, fault.Invalid, c.InflightBytes)
	case c.ScrubRate < 0:
		return nil, fmt.Errorf("open cache %s: %w: scrubbing %d bytes a second", c.Dir, fault.Invalid, c.ScrubRate)
	}
	if c.Fetches == 0 {
		c.Fetches = 16
	}
	if c.InflightBytes == 0 {
		c.InflightBytes = 64 << 20
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Memory {
		c.Dir = "in memory" // what messages say
	}
	ctx, stop := context.WithCancel(context.Background())
	x := newBlockIndex()
	d, err := openDisk(ctx, c, x)
	if err != nil {
		stop()
		return nil, fmt.Errorf("open cache %s: %w", c.Dir, err)
	}
	s := &Cache{
		log: c.Log, fetched: c.Fetched, dir: c.Dir, disk: d, index: x, toll: newToll(),
		queue: newQueue(c.Fetches, c.InflightBytes), checks: newQueue(checksAtOnce, checksAtOnce*MaxBlockSize),
		ctx: ctx, stop: stop,
	}
	d.start(c.ScrubRate, s.queue.busy)
	return s, nil
}

// Close ends fetches under way, with errors for who waits for them, and lets
// go of the directory. While ranges are pinned it stays open and locked, until
// the last is released: another process might evict them.
func (s *Cache) Close() error {
	if !s.index.close() {
		return nil
	}
	s.stop()
	s.queue.close()
	s.checks.close()
	s.pulls.Wait()
	s.disk.upkeep.Wait()
	var err error
	s.index.whenUnpinned(func() {
		err = s.disk.close()
	})
	if err != nil {
		return fmt.Errorf("close cache %s: %w: %w", s.dir, fault.Unavailable, err)
	}
	return nil
}

// Stats returns the counters and gauges of now.
func (s *Cache) Stats() Stats {
	c := &s.count
	s.index.mu.Lock()
	wasted := s.index.wasted
	s.index.mu.Unlock()
	return Stats{
		DiskStats:      s.disk.stats(),
		Hits:           c.hits.Load(),
		Misses:         c.misses.Load(),
		Fetches:        c.fetches.Load(),
		FetchErrors:    c.fetchErrors.Load(),
		FetchedBytes:   c.fetchedBytes.Load(),
		CorruptFetches: c.corruptFetches.Load(),
		Ahead:          c.ahead.Load(),
		AheadUnused:    wasted,
		Delayed:        s.toll.waited.Load(),
		Inflight:       c.inflight.Load(),
		InflightBytes:  s.queue.inflight() + s.checks.inflight(),
	}
}

// Blob describes the bytes of one base.
type Blob struct {
	ID        string     // SHA-256 of the whole, 64 lower-case hex digits; names the file
	Size      int64      // in bytes, more than 0
	BlockSize int64      // in bytes, a multiple of 4096, at most MaxBlockSize
	Sums      [][32]byte // SHA-256 of each block; the last may be short
}

// Validate checks the description against itself; errors wrap fault.Invalid.
func (b Blob) Validate() error {
	if id, err := hex.DecodeString(b.ID); err != nil || len(id) != 32 || hex.EncodeToString(id) != b.ID {
		return fmt.Errorf("%w: base id %q: want 64 lower-case hex digits", fault.Invalid, b.ID)
	}
	if b.Size <= 0 {
		return fmt.Errorf("%w: base %s: size %d", fault.Invalid, b.ID, b.Size)
	}
	if b.BlockSize <= 0 || b.BlockSize > MaxBlockSize || b.BlockSize%pageSize != 0 {
		return fmt.Errorf("%w: base %s: block size %d: want a multiple of %d up to %d", fault.Invalid, b.ID, b.BlockSize, pageSize, MaxBlockSize)
	}
	if want := (b.Size-1)/b.BlockSize + 1; int64(len(b.Sums)) != want {
		return fmt.Errorf("%w: base %s: %d block sums for %d blocks", fault.Invalid, b.ID, len(b.Sums), want)
	}
	return nil
}

// same reports whether a and b describe the same bytes in the same blocks.
func (b Blob) same(a Blob) bool {
	return a.ID == b.ID && a.Size == b.Size && a.BlockSize == b.BlockSize && slices.Equal(a.Sums, b.Sums)
}

// Blob returns a verified view of b, whose bytes come from origin. Views of one
// base share its blocks, whichever Origin brought them. It touches the disk
// and not the network.
func (s *Cache) Blob(b Blob, origin Origin) (*File, error) {
	if err := b.Validate(); err != nil {
		return nil, fmt.Errorf("open base in cache %s: %w", s.dir, err)
	}
	known, err := s.disk.open(b)
	if err != nil {
		return nil, fmt.Errorf("open base %s in cache %s: %w", b.ID, s.dir, err)
	}
	file := &File{store: s, origin: origin, longest: streamRun}
	file.base.Store(known)
	return file, nil
}
