// Package cache ... (contract; to be implemented)
package cache

import (
	"context"
	"log/slog"
	"os"
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
	Fetches  int    // blocks being fetched at once, over all bases
	Log      *slog.Logger
}

// A Store is the block cache of a process over one directory.
type Store struct{}

// Stats are counters since the start, and gauges.
type Stats struct {
	Hits, Misses, Evictions, Fetches, FetchErrors, CorruptFetches, CorruptDisk, WriteErrors uint64
	FetchedBytes, DiskBytes                                                                 uint64
	Inflight                                                                                int64
}

// Open opens or makes the directory; two processes refuse each other by a lock.
func Open(c Config) (*Store, error) { panic("contract") }
func (s *Store) Close() error       { panic("contract") }
func (s *Store) Stats() Stats       { panic("contract") }

// Blob describes the bytes of one base.
type Blob struct {
	ID        string // hex SHA-256 of the whole, names the file
	Size      int64
	BlockSize int64
	Sums      [][32]byte // SHA-256 of each block; the last may be short
}

// Blob returns a verified view of b, whose bytes come from f.
func (s *Store) Blob(b Blob, f Fetcher) (*File, error) { panic("contract") }

// A File is a verified, cached view of one base: an io.ReaderAt of immutable
// bytes. It also has ReadAtContext and Pin (see package extent, whose optional
// interfaces it meets without importing it).
type File struct{}

func (f *File) Size() int64                             { panic("contract") }
func (f *File) ReadAt(p []byte, off int64) (int, error) { panic("contract") }
func (f *File) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	panic("contract")
}
func (f *File) Pin(ctx context.Context, off, n int64) (*os.File, int64, func(), error) {
	panic("contract")
}
