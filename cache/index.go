package cache

import (
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"aesthetic.computer/isofs/fault"
)

// MaxBlockSize is the size of the largest block in bytes, and of the largest request that a
// reader waits for.
const MaxBlockSize = 1 << 20

// The block size must be a multiple of pageSize, and space is counted in it: file systems
// make holes of whole pages.
const pageSize = 4096

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

// A state is the state of one block on disk.
type state uint8

const (
	// absent: a hole in the file. Not in blockIndex.recent.
	absent state = iota
	// unverified: an earlier process left it, or reading it failed.
	unverified
	// present: this process compared it and wrote or read it.
	present
	// unknown: the file of an earlier process was not scanned here yet. Readers call look
	// before they want the block. Not in blockIndex.recent.
	unknown
	// partial: the file has some of its pages. Only leftovers returns it: such a block
	// becomes a hole, and absent.
	partial
)

// A block is the state of one block of a base. Guarded by index.mu.
type block struct {
	flight *flight // on its way, or nil
	// pins counts reads, pinned ranges, and the flight if there is one. A pinned block
	// stays where it is.
	pins  int32
	state state
	ahead bool // fetched ahead, and no reader came for it yet
	// came is true once it was fetched, whether or not it is there now.
	came bool
}

// A baseBlocks is one base of the Cache, block by block.
type baseBlocks struct {
	Blob
	blocks []block                 // guarded by index.mu
	file   atomic.Pointer[os.File] // the disk sets it once; nil only while no block is on disk
	disk   baseFile                // what the disk knows of the file

	// next replaces this base after its file was deleted. A reader that has this one
	// finishes with it; none of its blocks is present any more. Set once, with index.mu
	// held.
	next atomic.Pointer[baseBlocks]
}

// length returns the bytes of block i.
func (b *baseBlocks) length(i int) int64 { return min(b.BlockSize, b.Size-b.offset(i)) }

// offset returns where block i starts in the base, and in its file.
func (b *baseBlocks) offset(i int) int64 { return int64(i) * b.BlockSize }

// cost returns the space of block i on disk.
func (b *baseBlocks) cost(i int) int64 { return (b.length(i) + pageSize - 1) / pageSize * pageSize }

// span returns the first and last block of the n > 0 bytes from off on.
func (b *baseBlocks) span(off, n int64) (first, last int) {
	return int(off / b.BlockSize), int((off + n - 1) / b.BlockSize)
}

// place names one block of one base.
type place struct {
	base  *baseBlocks
	block int
}

// A blockIndex has the state of all blocks of the Cache, in memory.
type blockIndex struct {
	// mu guards the fields below, and baseBlocks.blocks with all that they point to. It is
	// never held over a system call or a copy of bytes. A caller that also needs disk.mu
	// takes that first.
	mu     sync.Mutex
	bases  map[string]*baseBlocks
	recent *simplelru.LRU[place, struct{}] // blocks that are not absent, by their last use
	pinned int                             // sum of block.pins
	closed bool
	idle   func() // called when pinned falls to 0
	unused int64  // cost of the blocks that are ahead
	counts ReadStats
}

// ReadStats are about the blocks that readers wanted, or were expected to want.
type ReadStats struct {
	Hits   uint64 // blocks that were wanted and present
	Misses uint64 // blocks that were wanted and not, those waited for in common included

	Ahead       uint64 // blocks that were fetched ahead of readers
	AheadUnused uint64 // those of them that were evicted before a reader came for them
}

// stats returns the current counters.
func (x *blockIndex) stats() ReadStats {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.counts
}

func newBlockIndex() *blockIndex {
	// The disk bounds its size, not a count. The error is for sizes below 1.
	recent, err := simplelru.NewLRU[place, struct{}](math.MaxInt, nil)
	if err != nil {
		panic(err)
	}
	return &blockIndex{bases: map[string]*baseBlocks{}, recent: recent}
}

var errClosed = fmt.Errorf("%w: the cache is closed", fault.Unavailable)

// close makes all later calls fail, and reports whether it was the first to.
func (x *blockIndex) close() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	first := !x.closed
	x.closed = true
	return first
}

// whenUnpinned calls f now, or when the last pin is released.
func (x *blockIndex) whenUnpinned(f func()) {
	x.mu.Lock()
	if x.pinned > 0 {
		x.idle = f
		x.mu.Unlock()
		return
	}
	x.mu.Unlock()
	f()
}

// base returns the base of that id, or nil.
func (x *blockIndex) base(id string) (*baseBlocks, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return nil, errClosed
	}
	return x.bases[id], nil
}

func (x *blockIndex) add(b *baseBlocks) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.bases[b.ID] = b
}

func (x *blockIndex) all() []*baseBlocks {
	x.mu.Lock()
	defer x.mu.Unlock()
	var all []*baseBlocks
	for _, b := range x.bases {
		all = append(all, b)
	}
	return all
}

// pin pins the blocks from first to last if all of them are present. The caller must then
// unpin them.
func (x *blockIndex) pin(b *baseBlocks, first, last int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return false
	}
	for i := first; i <= last; i++ {
		if b.blocks[i].state != present {
			return false
		}
	}
	for i := first; i <= last; i++ {
		b.blocks[i].pins++
		x.recent.Get(place{b, i})
		x.clearAheadLocked(b, i)
	}
	x.pinned += last - first + 1
	x.counts.Hits += uint64(last - first + 1)
	return true
}

// unpin undoes one pin of each block from first to last.
func (x *blockIndex) unpin(b *baseBlocks, first, last int) {
	x.mu.Lock()
	for i := first; i <= last; i++ {
		b.blocks[i].pins--
		if b.blocks[i].pins < 0 {
			panic("cache: a block was released more often than it was pinned")
		}
	}
	x.pinned -= last - first + 1
	idle := x.idle
	if x.pinned > 0 {
		idle = nil
	}
	if idle != nil {
		x.idle = nil
	}
	x.mu.Unlock()
	if idle != nil {
		idle()
	}
}

// lose marks the blocks from first to last for a comparison before the next use, after
// reading one of them failed.
func (x *blockIndex) lose(b *baseBlocks, first, last int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := first; i <= last; i++ {
		if b.blocks[i].state == present {
			b.blocks[i].state = unverified
		}
	}
}

// victim makes the block that was not used for the longest absent and returns it. The disk
// makes it a hole before it releases disk.mu.
func (x *blockIndex) victim() (place, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for range x.recent.Len() {
		p, _, _ := x.recent.GetOldest()
		if x.takeLocked(p, 0) {
			return p, true
		}
		// A pinned block is in use at this moment, so it is the most recent one.
		x.recent.Get(p)
	}
	return place{}, false
}

// take makes a block absent that only its flight has pinned, and reports whether it did.
// The disk makes it a hole before it releases disk.mu.
func (x *blockIndex) take(p place) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.takeLocked(p, 1)
}

func (x *blockIndex) takeLocked(p place, pins int32) bool {
	bl := &p.base.blocks[p.block]
	if bl.state == absent || bl.state == unknown || bl.pins != pins {
		return false
	}
	bl.state = absent
	x.recent.Remove(p)
	if x.clearAheadLocked(p.base, p.block) {
		x.counts.AheadUnused++
	}
	return true
}

// hold pins, for the scrubber, the first block from i on that is on disk and not on its
// way. This does not count as a use of the block. It returns -1 if it finds none.
func (x *blockIndex) hold(b *baseBlocks, i int) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return -1
	}
	for ; i < len(b.blocks); i++ {
		bl := &b.blocks[i]
		if (bl.state == present || bl.state == unverified) && bl.flight == nil {
			bl.pins++
			x.pinned++
			return i
		}
	}
	return -1
}

// found records a block that may be on disk or not.
func (x *blockIndex) found(b *baseBlocks, i int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	b.blocks[i].state = unverified
	x.recent.Add(place{b, i}, struct{}{})
}

// change moves all blocks that are in one state to another. Blocks in neither state are in
// recent.
func (x *blockIndex) change(b *baseBlocks, from, to state) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range b.blocks {
		if b.blocks[i].state == from {
			b.blocks[i].state = to
		}
	}
}

// resolve takes over what a scan found in the file, for those blocks from first on that are
// in state unknown. It returns how many are there, what they cost, and those of which only
// a part is there.
func (x *blockIndex) resolve(b *baseBlocks, first int, found []state) (blocks, bytes int64, broken []int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for k, is := range found {
		i := first + k
		bl := &b.blocks[i]
		if bl.state != unknown {
			continue
		}
		bl.state = absent
		switch is {
		case unverified:
			bl.state = unverified
			x.recent.Add(place{b, i}, struct{}{})
			blocks++
			bytes += b.cost(i)
		case partial:
			broken = append(broken, i)
		}
	}
	return blocks, bytes, broken
}

// unlessClosed calls start, which starts work that Close waits for.
func (x *blockIndex) unlessClosed(start func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.closed {
		start()
	}
}

// retire puts an empty base in the place of b, and reports whether no block of b is pinned.
// The disk holds disk.mu, so it writes no more blocks of b.
func (x *blockIndex) retire(b *baseBlocks) (idle bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	next := &baseBlocks{Blob: b.Blob, blocks: make([]block, len(b.blocks))}
	x.bases[b.ID] = next
	b.next.Store(next)
	idle = true
	for i := range b.blocks {
		bl := &b.blocks[i]
		idle = idle && bl.pins == 0
		bl.state = absent
		x.recent.Remove(place{b, i})
		if bl.flight == nil {
			x.clearAheadLocked(b, i)
		}
	}
	return idle
}

// isAbsent reports whether a block has no place on disk. The answer holds while the disk
// holds disk.mu and the block is pinned.
func (x *blockIndex) isAbsent(b *baseBlocks, i int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return b.blocks[i].state == absent
}

// clearAheadLocked clears the block's read-ahead mark and reports whether it was set.
func (x *blockIndex) clearAheadLocked(b *baseBlocks, i int) bool {
	bl := &b.blocks[i]
	was := bl.ahead
	if was {
		bl.ahead = false
		x.unused -= b.cost(i)
	}
	return was
}

// missing returns how many of the first n bytes lie in absent blocks.
func (x *blockIndex) missing(b *baseBlocks, n int64) (bytes int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, last := b.span(0, n)
	for i := range last + 1 {
		if b.blocks[i].state == absent {
			bytes += min(b.length(i), n-b.offset(i))
		}
	}
	return bytes
}
