// Package cache keeps the blocks of bases that were read before.
//
// A File is one base: immutable bytes, cut into blocks with a known SHA-256.
// The cache takes any block whose bytes have that SHA-256, and never serves
// another byte. A missing block is fetched once, however many readers want it.
// It is compared, handed to them, and written to a sparse file at its own
// offset. All files of a directory together stay within a limit: the block that
// was not read for the longest becomes a hole. Readers can say what they will
// want next, or request all of a base. Such blocks are fetched behind those
// that a reader waits for. A block that an earlier process left is compared
// again before it is used. So a crash, a power cut or a stranger can lose
// blocks but not falsify them. While the process runs it trusts the kernel to
// read back what was written. A scrubber compares what the disk has.
//
// The package has three parts. Each uses those before it, and not those after:
//
//   - the index (index.go): which blocks there are and in which state, which
//     are pinned, and which was not used for the longest;
//   - the disk (disk.go, room.go, left.go, heal.go, scrub.go): the files, their
//     room, what an earlier process left, and what to do when the disk fails;
//   - the fetcher (flight.go, run.go, queue.go, toll.go): flights, which are
//     blocks on their way, and runs, which are requests for adjacent blocks.
//
// File and Cache are what callers see of all three. Locks are taken in this
// order: disk.mu, index.mu, queue.mu. The caller of a method whose name ends in
// Locked must hold the mutex of its part: disk.mu for the disk's files,
// queue.mu in queue.go, index.mu in the others.
//
// The package does not decide where the bytes come from or how often to request
// them: the Origin does. It has no notion of images, URLs or files that differ
// from a base.
package cache

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"aesthetic.computer/isofs/fault"
)

// Config of a Cache.
type Config struct {
	Dir      string // holds one sparse file per base, <id>.blocks; made if it is missing
	Memory   bool   // instead of Dir: the files are in memory, until the end
	MaxBytes int64  // bound on the space of all those files
	Fetches  int    // most fetches at once over all bases; with 1, nothing is fetched ahead; 0: 16
	Log      *slog.Logger

	// InflightBytes bounds the memory of all fetches at once. A single fetch is
	// made however large it is. 0: 64 MiB. Comparing blocks on disk takes 4 MiB
	// more.
	InflightBytes int64

	// ScrubRate is how many bytes a second the scrubber reads from disk and
	// compares, in the background. 0: none.
	ScrubRate int64
	// Fetched is called after each fetch, with how long it took and whether it
	// failed. It may be nil.
	Fetched func(took time.Duration, failed bool)
}

// A Cache is the block cache of a process over one directory. Its methods are
// safe for concurrent use.
type Cache struct {
	dir   string // for messages
	index *blockIndex
	disk  *disk
	fetch *fetcher
	stop  context.CancelFunc // ends the contexts of disk and fetch
}

// Stats are counters since the start, and gauges.
type Stats struct {
	ReadStats
	FetchStats
	DiskStats
}

// Open opens or makes the directory. Two processes cannot share one: the second
// gets fault.Unavailable. Open neither reads nor checks the files of an earlier
// process.
//
// A full, read-only or broken disk is not an error. The Cache then serves
// without keeping, logs that, and keeps blocks again when it can. It does the
// same when the directory is deleted, and makes the directory again.
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
		c.Dir = "in memory" // for messages
	}
	ctx, stop := context.WithCancel(context.Background())
	x := newBlockIndex()
	d, err := openDisk(ctx, c, x)
	if err != nil {
		stop()
		return nil, fmt.Errorf("open cache %s: %w", c.Dir, err)
	}
	f := newFetcher(ctx, c, x, d)
	d.start(c.ScrubRate, f.busy)
	return &Cache{dir: c.Dir, index: x, disk: d, fetch: f, stop: stop}, nil
}

// Close ends fetches under way, with errors for their readers, and releases the
// directory. While ranges are pinned the directory stays open and locked, until
// the last is released: another process might evict them.
func (c *Cache) Close() error {
	if !c.index.close() {
		return nil
	}
	c.stop()
	c.fetch.close()
	c.disk.upkeep.Wait()
	var err error
	c.index.whenUnpinned(func() { err = c.disk.close() })
	if err != nil {
		return fmt.Errorf("close cache %s: %w: %w", c.dir, fault.Unavailable, err)
	}
	return nil
}

// Stats returns the current counters and gauges.
func (c *Cache) Stats() Stats {
	return Stats{ReadStats: c.index.stats(), FetchStats: c.fetch.stats(), DiskStats: c.disk.stats()}
}

// Blob returns a verified view of b, whose bytes come from origin. Views of one
// base share its blocks, whichever Origin brought them. Blob touches the disk
// and not the network.
func (c *Cache) Blob(b Blob, origin Origin) (*File, error) {
	if err := b.Validate(); err != nil {
		return nil, fmt.Errorf("open base in cache %s: %w", c.dir, err)
	}
	known, err := c.disk.open(b)
	if err != nil {
		return nil, fmt.Errorf("open base %s in cache %s: %w", b.ID, c.dir, err)
	}
	file := &File{supply: c.fetch.newSupply(origin)}
	file.base.Store(known)
	return file, nil
}
