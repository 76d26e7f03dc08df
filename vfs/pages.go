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
// has pages of its own: without it a few popular images push out everything
// else that the machine keeps in memory, the block cache's pages first.
//
// The kernel does not tell what it keeps. It asks for what it does not have, so
// what an inode was asked for since its pages were last dropped is the most
// that it can have. When the sum is over the limit, the inode that was asked for
// the longest ago loses all its pages; its readers go on, by asking again.
type pages struct {
	limit int64
	full  chan struct{} // an element when the sum may be over the limit

	mu     sync.Mutex // guards what follows
	sum    int64
	recent *simplelru.LRU[*fs.Inode, int64] // bytes asked for, by the last time
}

func newPages(limit int64) *pages {
	// Its size is bounded by the limit, not by a count. The error is for sizes
	// below 1.
	recent, err := simplelru.NewLRU[*fs.Inode, int64](math.MaxInt, nil)
	if err != nil {
		panic(err)
	}
	return &pages{limit: limit, full: make(chan struct{}, 1), recent: recent}
}

// asked notes that the kernel asked for n bytes of an inode that has size.
func (p *pages) asked(inode *fs.Inode, n, size int64) {
	p.mu.Lock()
	had, _ := p.recent.Get(inode)
	has := min(had+n, size)
	p.recent.Add(inode, has)
	p.sum += has - had
	over := p.sum > p.limit
	p.mu.Unlock()
	if over {
		select {
		case p.full <- struct{}{}:
		default:
		}
	}
}

// victim forgets the inode that was asked for the longest ago and returns it;
// nil if the sum is within the limit.
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

// forget takes out an inode that the kernel has no more.
func (p *pages) forget(inode *fs.Inode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if has, ok := p.recent.Peek(inode); ok {
		p.recent.Remove(inode)
		p.sum -= has
	}
}

// keepWithin drops pages until done. It is a goroutine of its own: the kernel
// waits for reads that are under way before it drops their pages, so whoever
// answers a read must not ask for it.
func (p *pages) keepWithin(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-p.full:
		}
		for inode := p.victim(); inode != nil; inode = p.victim() {
			const all = 0 // as a length: to the end
			// It fails only for an inode that is gone, with its pages.
			_ = inode.NotifyContent(0, all)
		}
	}
}
