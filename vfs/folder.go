package vfs

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"aesthetic.computer/isofs/fault"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

const (
	// listPatience bounds how long listing the root waits for images. Images
	// that take longer are listed without their sidecars.
	listPatience = 2 * time.Second
	// listAtOnce bounds how many it requests at the same time.
	listAtOnce = 8
)

// A folder has what all folders of the mount share.
type folder struct {
	readOnlyFolder
	core *core
	at   time.Time     // its modification time
	ttl  time.Duration // of its attributes
}

// Getattr implements fs.NodeGetattrer.
func (f *folder) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.core.folderAttr(&out.Attr, f.at)
	out.SetTimeout(f.ttl)
	return 0
}

// A root is the mounted folder.
type root struct{ folder }

var (
	_ fs.NodeLookuper  = (*root)(nil)
	_ fs.NodeReaddirer = (*root)(nil)
	_ fs.NodeGetattrer = (*root)(nil)
)

// Lookup asks the Tree for any name that an image can have, whether or not it
// was ever listed.
func (r *root) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if name == snapshotsName {
		r.core.folderAttr(&out.Attr, r.at)
		setTimeouts(out, snapshotTTL, rootTTL)
		return r.NewInode(ctx, &snapshotsDir{folder{core: r.core, at: r.at, ttl: rootTTL}}, r.core.ids.ofFolder("")), 0
	}
	fileName, suffix, ok := splitName(name)
	if !ok {
		return nil, syscall.ENOENT
	}
	work, cancel := r.core.request(ctx, r.core.limit)
	defer cancel()
	img, err := r.core.tree.Current(work, fileName)
	var node *fs.Inode
	if err == nil {
		node, err = r.core.file(ctx, r.EmbeddedInode(), img, suffix, &out.Attr)
	}
	if err != nil {
		return nil, r.core.lookupErrno(work, name, err)
	}
	setTimeouts(out, rootTTL, snapshotTTL)
	return node, 0
}

// Readdir lists the known images. It asks the Tree for the images only to learn
// which sidecars they have, and not for long.
func (r *root) Readdir(ctx context.Context) (fs.DirStream, syscall.Errno) {
	names := slices.Clone(r.core.tree.FileNames())
	slices.Sort(names)
	work, cancel := r.core.request(ctx, listPatience)
	defer cancel()
	found := make([][]fuse.DirEntry, len(names))
	var wait sync.WaitGroup
	turns := make(chan struct{}, listAtOnce)
	for i, name := range names {
		turns <- struct{}{}
		wait.Go(func() {
			defer func() { <-turns }()
			img, err := r.core.tree.Current(work, name)
			if err != nil {
				found[i] = []fuse.DirEntry{{Mode: fuse.S_IFREG, Name: name}}
				return
			}
			found[i] = r.core.imageEntries(img, name, img.Listed())
		})
	}
	wait.Wait()
	list := append(slices.Concat(found...),
		fuse.DirEntry{Mode: fuse.S_IFDIR, Name: snapshotsName, Ino: r.core.ids.ofFolder("").Ino})
	return fs.NewListDirStream(list), 0
}

// snapshotsDir is the folder s: one folder for each snapshot.
type snapshotsDir struct{ folder }

var (
	_ fs.NodeLookuper  = (*snapshotsDir)(nil)
	_ fs.NodeReaddirer = (*snapshotsDir)(nil)
	_ fs.NodeGetattrer = (*snapshotsDir)(nil)
)

func (s *snapshotsDir) Lookup(ctx context.Context, id string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if !validID(id) {
		return nil, syscall.ENOENT
	}
	img, err := s.core.tree.ByID(id)
	if err != nil {
		return nil, s.core.lookupErrno(context.Background(), snapshotsName+"/"+id, err)
	}
	s.core.folderAttr(&out.Attr, img.Time())
	setTimeouts(out, snapshotTTL, snapshotTTL)
	return s.NewInode(ctx, &snapshotDir{folder{core: s.core, at: img.Time(), ttl: snapshotTTL}, id}, s.core.ids.ofFolder(id)), 0
}

func (s *snapshotsDir) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	ids := slices.Clone(s.core.tree.IDs())
	slices.Sort(ids)
	list := make([]fuse.DirEntry, 0, len(ids))
	for _, id := range ids {
		list = append(list, fuse.DirEntry{Mode: fuse.S_IFDIR, Name: id, Ino: s.core.ids.ofFolder(id).Ino})
	}
	return fs.NewListDirStream(list), 0
}

// A snapshotDir is the folder s/<id>. It asks the Tree each time, so it keeps
// nothing of a retired snapshot.
type snapshotDir struct {
	folder
	id string
}

var (
	_ fs.NodeLookuper  = (*snapshotDir)(nil)
	_ fs.NodeReaddirer = (*snapshotDir)(nil)
	_ fs.NodeGetattrer = (*snapshotDir)(nil)
)

func (s *snapshotDir) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if name == wholeName {
		return s.lookupWhole(ctx, out)
	}
	fileName, suffix, ok := splitName(name)
	if !ok {
		return nil, syscall.ENOENT
	}
	node, err := func() (*fs.Inode, error) {
		img, err := s.core.tree.ByID(s.id)
		if err != nil {
			return nil, err
		}
		file := FileOf(img, fileName)
		if file == nil {
			return nil, fmt.Errorf("snapshot %s is of %s: %s: %w", s.id, img.FileName(), fileName, fault.NotFound)
		}
		return s.core.file(ctx, s.EmbeddedInode(), file, suffix, &out.Attr)
	}()
	if err != nil {
		return nil, s.core.lookupErrno(context.Background(), snapshotsName+"/"+s.id+"/"+name, err)
	}
	setTimeouts(out, snapshotTTL, snapshotTTL)
	return node, 0
}

// wholeName is an empty folder in a snapshot's folder, while the snapshot is
// whole.
const wholeName = ".whole"

func (s *snapshotDir) lookupWhole(ctx context.Context, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	img, err := s.core.tree.ByID(s.id)
	if err != nil {
		return nil, s.core.lookupErrno(ctx, snapshotsName+"/"+s.id, err)
	}
	if !img.Whole() {
		return nil, syscall.ENOENT
	}
	s.core.folderAttr(&out.Attr, s.at)
	setTimeouts(out, rootTTL, rootTTL) // blocks may be evicted
	return s.NewInode(ctx, &mark{folder{core: s.core, at: s.at, ttl: snapshotTTL}}, s.core.ids.ofFolder(s.id+"/"+wholeName)), 0
}

// A mark is an empty folder.
type mark struct{ folder }

var (
	_ fs.NodeLookuper  = (*mark)(nil)
	_ fs.NodeReaddirer = (*mark)(nil)
	_ fs.NodeGetattrer = (*mark)(nil)
)

func (*mark) Lookup(context.Context, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.ENOENT
}

func (*mark) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	return fs.NewListDirStream(nil), 0
}

func (s *snapshotDir) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	img, err := s.core.tree.ByID(s.id)
	if err != nil {
		return nil, s.core.lookupErrno(context.Background(), snapshotsName+"/"+s.id, err)
	}
	list := s.core.imageEntries(img, img.FileName(), img.Suffixes())
	if slot := img.Slot(); slot != nil {
		list = append(list, s.core.imageEntries(slot, slot.FileName(), slot.Suffixes())...)
	}
	return fs.NewListDirStream(list), 0
}

// imageEntries lists an image and its sidecars. The inode numbers of sidecars
// depend on their content, which this does not read.
func (c *core) imageEntries(img SnapshotFile, fileName string, suffixes []string) []fuse.DirEntry {
	suffixes = slices.Sorted(slices.Values(suffixes))
	list := make([]fuse.DirEntry, 0, 1+len(suffixes))
	list = append(list, fuse.DirEntry{Mode: fuse.S_IFREG, Name: fileName, Ino: c.ids.ofFile(img, "").Ino})
	for _, suffix := range suffixes {
		list = append(list, fuse.DirEntry{Mode: fuse.S_IFREG, Name: sidecarName(fileName, suffix)})
	}
	return list
}

func setTimeouts(out *fuse.EntryOut, entry, attr time.Duration) {
	out.SetEntryTimeout(entry)
	out.SetAttrTimeout(attr)
}
