package vfs

import (
	"math"
	"sync"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// DefaultPageLimit suits a machine of 2 GB.
const DefaultPageLimit = 1 << 30

// pages bounds what the kernel keeps of images in profile PageCache, where each
// has its own pages. Without it a few popular images push out everything else
// that the machine keeps in memory, the block cache's pages first.
//
// The kernel does not report what it keeps. It requests what it does not have.
// So the requests for an inode since its pages were last dropped bound what it
// can have. When the sum is over the limit, the least recently requested inode
// loses all its pages. Its readers continue: the kernel asks again.
type pages struct {
	limit int64
	full  chan struct{} // an element when the sum may be over the limit

	mu     sync.Mutex // guards what follows
	sum    int64
	recent *simplelru.LRU[*fs.Inode, int64] // bytes asked for, by the last time
}

func newPages(limit int64) *pages {
	// The limit bounds its size, not a count. The error is for sizes below 1.
	recent, err := simplelru.NewLRU[*fs.Inode, int64](math.MaxInt, nil)
	if err != nil {
		panic(err)
	}
	return &pages{limit: limit, full: make(chan struct{}, 1), recent: recent}
}

// asked notes that the kernel asked for n bytes of an inode that has size.
func (p *pages) asked(inode *fs.Inode, n, size int64) {
	p.mu.Lock()
	before, _ := p.recent.Get(inode)
	has := min(before+n, size)
	p.recent.Add(inode, has)
	p.sum += has - before
	over := p.sum > p.limit
	p.mu.Unlock()
	if over {
		select {
		case p.full <- struct{}{}:
		default:
		}
	}
}

// victim removes the least recently requested inode from its list and returns
// it; nil if the sum is within the limit.
func (p *pages) victim() *fs.Inode {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sum <= p.limit {
		return nil
	}
	inode, has, ok := p.recent.RemoveOldest()
	if !ok {
		return nil
	}
	p.sum -= has
	return inode
}

// forget removes an inode that the kernel no longer has.
func (p *pages) forget(inode *fs.Inode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if has, ok := p.recent.Peek(inode); ok {
		p.recent.Remove(inode)
		p.sum -= has
	}
}

// keepWithin drops pages until done. It needs its own goroutine: the kernel
// waits for reads that are under way before it drops their pages, so a goroutine
// that answers a read must not request it.
func (p *pages) keepWithin(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-p.full:
		}
		for inode := p.victim(); inode != nil; inode = p.victim() {
			const all = 0 // as a length: to the end
			// It fails only for an inode that the kernel dropped, with its
			// pages.
			_ = inode.NotifyContent(0, all)
		}
	}
}
