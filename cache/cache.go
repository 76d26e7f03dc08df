// Package cache keeps blocks of bases on disk: each is fetched once, compared
// with its hash before a byte of it is served, and kept or evicted whole.
//
// What may be cached are bytes that never change under their identity, the
// SHA-256 of the base. The package leaves out where the bytes come from (its
// one-method Fetcher) and what they mean.
package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"
	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/fault"
)

// A Fetcher has the bytes of one base. Fetch fills p from off on, wholly or
// with an error. It need not be right: what it gives is checked.
type Fetcher interface {
	Fetch(ctx context.Context, p []byte, off int64) error
}

// Config of a Store.
type Config struct {
	Dir      string // one sparse file per base, <id>.blocks
	MaxBytes int64  // bound on the bytes of all files of Dir
	Fetches  int    // blocks being fetched at once, over all bases; 0: 16
	Log      *slog.Logger
}

// Stats are counters since the start, and gauges.
type Stats struct {
	Hits, Misses, Evictions, Fetches, FetchErrors, CorruptFetches, CorruptDisk, WriteErrors uint64
	FetchedBytes, DiskBytes                                                                 uint64
	Inflight                                                                                int64
}

// blockSuffix ends the names of the files that hold blocks.
const blockSuffix = ".blocks"

// defaultFetches suits an origin that gives each connection a share.
const defaultFetches = 16

// A key names a block in the LRU.
type key struct {
	file  *blockFile
	block int
}

// A Store is the block cache of a process over one directory.
type Store struct {
	cfg     Config
	lock    *os.File
	fetches *semaphore.Weighted
	flights singleflight.Group
	count   counters

	mu    sync.Mutex // guards all below, and the state of every blockFile
	lru   *simplelru.LRU[key, struct{}]
	bytes int64 // of the blocks in lru
	files map[string]*blockFile
	sick  bool // the last write failed; said in the log once
}

type counters struct {
	hits, misses, evictions, fetches, fetchErrors, corruptFetches, corruptDisk, writeErrors atomic.Uint64
	fetchedBytes                                                                            atomic.Uint64
	inflight                                                                                atomic.Int64
}

// Open opens the cache in c.Dir, making it if need be. Two processes on one
// directory would punch holes into each other's blocks, so the second is
// refused.
func Open(c Config) (*Store, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Fetches <= 0 {
		c.Fetches = defaultFetches
	}
	if c.MaxBytes <= 0 {
		return nil, fmt.Errorf("open the cache: a bound of %d bytes: %w", c.MaxBytes, fault.Invalid)
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("open the cache: %w: %w", fault.Unavailable, err)
	}
	lock, err := lockDir(c.Dir)
	if err != nil {
		return nil, err
	}
	// The LRU is bounded by bytes, by hand; its own bound is out of reach.
	lru, err := simplelru.NewLRU[key, struct{}](math.MaxInt, nil)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("open the cache: %w: %w", fault.Invalid, err)
	}
	return &Store{
		cfg: c, lock: lock, lru: lru, files: map[string]*blockFile{},
		fetches: semaphore.NewWeighted(int64(c.Fetches)),
	}, nil
}

func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the cache: %w: %w", fault.Unavailable, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another isofs is using the cache in %s; stop it, or choose another directory with --cache: %w", dir, fault.Unavailable)
	}
	return f, nil
}

// Close closes the files. Reads under way fail.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.file.Close())
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// Stats returns the counters now.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	bytes := s.bytes
	s.mu.Unlock()
	c := &s.count
	return Stats{
		Hits: c.hits.Load(), Misses: c.misses.Load(), Evictions: c.evictions.Load(),
		Fetches: c.fetches.Load(), FetchErrors: c.fetchErrors.Load(),
		CorruptFetches: c.corruptFetches.Load(), CorruptDisk: c.corruptDisk.Load(),
		WriteErrors: c.writeErrors.Load(), FetchedBytes: c.fetchedBytes.Load(),
		DiskBytes: uint64(bytes), Inflight: c.inflight.Load(),
	}
}

// Blob describes the bytes of one base.
type Blob struct {
	ID        string // hex SHA-256 of the whole, names the file
	Size      int64
	BlockSize int64
	Sums      [][32]byte // SHA-256 of each block; the last may be short
}

func (b Blob) validate() error {
	if b.ID == "" || strings.ContainsAny(b.ID, "/\x00") || strings.HasPrefix(b.ID, ".") {
		return fmt.Errorf("cache a base: %q cannot name a file: %w", b.ID, fault.Invalid)
	}
	if b.Size <= 0 || b.BlockSize <= 0 || (b.Size+b.BlockSize-1)/b.BlockSize != int64(len(b.Sums)) {
		return fmt.Errorf("cache base %s: %d bytes in blocks of %d are not %d blocks: %w", b.ID, b.Size, b.BlockSize, len(b.Sums), fault.Invalid)
	}
	return nil
}

// Blob returns a verified view of b, whose bytes come from f. A second call
// with the same id returns a view of the same blocks.
func (s *Store) Blob(b Blob, f Fetcher) (*File, error) {
	if err := b.validate(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.files[b.ID]; ok {
		return &File{store: s, blocks: known, fetcher: f}, nil
	}
	if len(s.files) == 0 {
		s.removeOthers(b.ID)
	}
	blocks, err := openBlockFile(filepath.Join(s.cfg.Dir, b.ID+blockSuffix), b)
	if err != nil {
		return nil, err
	}
	s.files[b.ID] = blocks
	for i, found := range blocks.found() {
		if found {
			blocks.state[i] = unverified
			s.lru.Add(key{blocks, i}, struct{}{})
			s.bytes += blocks.length(i)
		}
	}
	s.shrink(0)
	return &File{store: s, blocks: blocks, fetcher: f}, nil
}

// removeOthers deletes the files of bases that are no longer served. It is not
// safe for concurrent access.
func (s *Store) removeOthers(id string) {
	names, err := filepath.Glob(filepath.Join(s.cfg.Dir, "*"+blockSuffix))
	if err != nil {
		return
	}
	for _, name := range names {
		if filepath.Base(name) != id+blockSuffix {
			if err := os.Remove(name); err != nil {
				s.cfg.Log.Warn("old base not removed from the cache", "err", err)
			}
		}
	}
}
