package cache

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/fault"
)

// A blockState says what is known of a block on disk.
type blockState uint8

const (
	absent     blockState = iota
	unverified            // on disk since an earlier run; not to be trusted
	present               // on disk, compared with its hash since the start
)

// A blockFile has the blocks of one base, each at its own offset, so that a
// run of blocks that are present is a run of the file. Its slices are guarded
// by the store's mutex.
type blockFile struct {
	Blob
	file  *os.File
	state []blockState
	pins  []int32 // readers of each block; one that is pinned is not evicted
}

func openBlockFile(path string, b Blob) (*blockFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the cache of base %s: %w: %w", b.ID, fault.Unavailable, err)
	}
	if err := f.Truncate(b.Size); err != nil {
		f.Close()
		return nil, fmt.Errorf("open the cache of base %s: %w: %w", b.ID, fault.Unavailable, err)
	}
	return &blockFile{Blob: b, file: f, state: make([]blockState, len(b.Sums)), pins: make([]int32, len(b.Sums))}, nil
}

func (f *blockFile) offset(block int) int64 { return int64(block) * f.BlockSize }

func (f *blockFile) length(block int) int64 {
	return min(f.BlockSize, f.Size-f.offset(block))
}

// found tells which blocks have data on disk (lseek(2), SEEK_DATA).
func (f *blockFile) found() []bool {
	found := make([]bool, len(f.Sums))
	fd := int(f.file.Fd())
	for at := int64(0); at < f.Size; {
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if err != nil {
			break // ENXIO: holes to the end
		}
		hole, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			break
		}
		for i := data / f.BlockSize; i < int64(len(found)) && i*f.BlockSize < hole; i++ {
			found[i] = true
		}
		at = hole
	}
	return found
}

// punch gives a block's bytes back to the file system.
func (f *blockFile) punch(block int) error {
	return unix.Fallocate(int(f.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, f.offset(block), f.length(block))
}
