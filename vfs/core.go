package vfs

import (
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

const (
	// rootTTL is how long the kernel may keep a name of the root, present or
	// absent: a piece can get a new snapshot at any moment.
	rootTTL = time.Second
	// snapshotTTL is how long it may keep what does not change: the names in
	// s/<id>/ and the attributes of files. It is not for ever, since snapshots
	// are retired.
	snapshotTTL = time.Hour
	// sector is the unit of st_blocks.
	sector = 512
)

// core is what all nodes of one mount share.
type core struct {
	tree    Tree
	log     *faultLog
	limit   time.Duration // of a lookup
	flags   uint32        // of open files
	owner   fuse.Owner
	started time.Time
	device  *os.File // to see whether the mount is still there
	splices *splicer
	open    openHandles
	count   counts
	ids     identities
	pages   *pages // nil in profile Direct
}

func newCore(c Config, t Tree, device *os.File) *core {
	flags := uint32(fuse.FOPEN_DIRECT_IO)
	var kept *pages
	if c.Profile == PageCache {
		kept = newPages(c.PageLimit)
		// The kernel keeps what it read of an inode also from one open to the
		// next. It is never stale: the bytes of an inode do not change, and a
		// new snapshot is a new inode.
		flags = fuse.FOPEN_KEEP_CACHE
	}
	return &core{
		tree:    t,
		log:     newFaultLog(c.Log),
		limit:   c.LookupTimeout,
		flags:   flags | fuse.FOPEN_NOFLUSH, // nothing to flush: spare a call per close
		owner:   fuse.Owner{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())},
		started: time.Now(),
		device:  device,
		splices: newSplicer(c.Log),
		ids:     identities(rand.Uint64()),
		pages:   kept,
	}
}

// fileAttr fills in the attributes of a file.
func (c *core) fileAttr(attr *fuse.Attr, size int64, at time.Time) {
	attr.Mode = fuse.S_IFREG | 0o444
	attr.Nlink = 1
	attr.Size = uint64(size)
	attr.Blocks = uint64(size+sector-1) / sector
	attr.Blksize = preferredRead
	attr.Owner = c.owner
	setTimes(attr, at)
}

// folderAttr fills in the attributes of a folder.
func (c *core) folderAttr(attr *fuse.Attr, at time.Time) {
	attr.Mode = fuse.S_IFDIR | 0o555
	attr.Nlink = 2
	attr.Blksize = 4096
	attr.Owner = c.owner
	setTimes(attr, at)
}

// setTimes sets all three times, in whole seconds: web servers make their ETag
// from the modification time, and some clients compare no finer.
func setTimes(attr *fuse.Attr, at time.Time) {
	sec := uint64(at.Unix())
	attr.Atime, attr.Mtime, attr.Ctime = sec, sec, sec
}

// openHandles are the handles that are still to be closed. The kernel does not
// report each close: unmounting drops the messages about closed files that
// still wait.
type openHandles struct {
	mu  sync.Mutex // guards set
	set map[*openFile]struct{}
}

func (o *openHandles) add(h *openFile) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.set == nil {
		o.set = make(map[*openFile]struct{})
	}
	o.set[h] = struct{}{}
}

// take reports whether h was not yet closed. The caller must then close it.
func (o *openHandles) take(h *openFile) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.set[h]
	delete(o.set, h)
	return ok
}

func (o *openHandles) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.set)
}

// rest takes all remaining handles.
func (o *openHandles) rest() []*openFile {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []*openFile
	for h := range o.set {
		list = append(list, h)
	}
	clear(o.set)
	return list
}

// forWriting reports whether the flags of open(2) ask for more than reading.
// The kernel turns O_TRUNC into a Setattr.
func forWriting(flags uint32) bool { return flags&syscall.O_ACCMODE != syscall.O_RDONLY }

var _ fs.FileHandle = (*openFile)(nil)
