package cache

import (
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// scrubPause is the time from the start to the first pass, and from the start
	// of one pass to the start of the next, if the first is over by then. Blocks
	// that an earlier process left are compared before their first use anyway.
	scrubPause = time.Hour
	// busyPause is how long the scrubber waits for readers.
	busyPause = 100 * time.Millisecond
)

// scrubLoop reads the blocks on disk again and again, so many bytes a second,
// until the Cache is closed. It waits while busy.
func (d *disk) scrubLoop(rate int64, busy func() bool) {
	for wait := scrubPause; d.upkeep.pause(wait); {
		start := time.Now()
		for p := d.newPass(); ; {
			if busy() {
				if !d.upkeep.pause(busyPause) {
					return
				}
				continue
			}
			n := p.step()
			if n == 0 {
				break
			}
			if !d.upkeep.pause(time.Duration(n) * time.Second / time.Duration(rate)) {
				return
			}
		}
		wait = scrubPause - min(time.Since(start), scrubPause)
	}
}

// A pass compares all blocks on disk once.
type pass struct {
	disk  *disk
	bases []*baseBlocks // that are to come
	next  int           // block of the first of them
	buf   []byte        // of MaxBlockSize, on a page's border
}

func (d *disk) newPass() *pass {
	bases := d.index.all()
	slices.SortFunc(bases, func(a, b *baseBlocks) int { return strings.Compare(a.ID, b.ID) })
	buf := make([]byte, MaxBlockSize+pageSize)
	over := int(uintptr(unsafe.Pointer(&buf[0])) % pageSize)
	return &pass{disk: d, bases: bases, buf: buf[pageSize-over:][:MaxBlockSize]}
}

// step compares the next block that is on disk, and returns its length, or 0
// after the last one.
func (p *pass) step() int64 {
	for len(p.bases) > 0 {
		b := p.bases[0]
		i := p.disk.index.hold(b, p.next)
		if i < 0 {
			p.bases, p.next = p.bases[1:], 0
			continue
		}
		p.next = i + 1
		p.compare(b, i)
		p.disk.index.unpin(b, i, i)
		return b.length(i)
	}
	return 0
}

// compare compares block i, which is pinned, with its bytes on disk. It removes a
// wrong block. If others have it pinned it stays, and is compared before its next
// use.
func (p *pass) compare(b *baseBlocks, i int) {
	d := p.disk
	data := p.buf[:b.length(i)]
	err := readDisk(b.file.Load(), data, b.offset(i))
	d.count(func(s *DiskStats) { s.ScrubbedBytes += uint64(len(data)) })
	if err == nil && sha256.Sum256(data) == b.Sums[i] {
		return
	}
	d.count(func(s *DiskStats) { s.ScrubWrong++ })
	d.log.Warn("cache: a block is wrong on disk, it is fetched when it is wanted", "base", b.ID, "block", i, "dir", d.path, "error", err)
	d.index.lose(b, i, i)
	d.discard(b, i)
}

// readDisk fills p, whose memory has room up to a whole page, with what the disk
// has. A block may stay in the kernel's page cache for weeks, and hide that the
// disk lost it. So readDisk reads past the page cache, which first writes back
// the pages that wait. It also leaves the pages that readers use in the cache.
// Dropping them (fadvise) does not; that is for file systems that cannot read
// past the cache.
func readDisk(f *os.File, p []byte, off int64) error {
	direct, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDONLY|unix.O_DIRECT, 0)
	if err == nil {
		defer direct.Close()
		whole := p[:(len(p)+pageSize-1)/pageSize*pageSize]
		for {
			n, err := unix.Pread(int(direct.Fd()), whole, off)
			if err == unix.EINTR {
				continue
			}
			if err == nil && n >= len(p) {
				return nil
			}
			if err != nil && err != unix.EINVAL {
				return os.NewSyscallError("pread", err)
			}
			break
		}
	}
	_ = unix.Fadvise(int(f.Fd()), off, int64(len(p)), unix.FADV_DONTNEED) // at worst it is the page cache that is read
	_, err = f.ReadAt(p, off)
	return err
}
