package vfs

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// The mount is read-only, so the kernel refuses writes by itself. The rest of
// this file is for when root has remounted it writable: go-fuse would answer
// some of these calls with success. No file can be opened for writing (see
// Open), so no file needs a write method.

// A readOnlyNode is a node whose attributes cannot be changed.
type readOnlyNode struct{ fs.Inode }

var (
	_ fs.NodeSetattrer = (*readOnlyNode)(nil)
	_ fs.NodeStatfser  = (*readOnlyNode)(nil)
)

func (*readOnlyNode) Setattr(context.Context, fs.FileHandle, *fuse.SetAttrIn, *fuse.AttrOut) syscall.Errno {
	return syscall.EROFS
}

// Statfs returns how long names may be. It has no space to report.
func (*readOnlyNode) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, 255
	return 0
}

// A readOnlyFolder is a folder whose names cannot be changed.
type readOnlyFolder struct{ readOnlyNode }

var (
	_ fs.NodeCreater   = (*readOnlyFolder)(nil)
	_ fs.NodeTmpfiler  = (*readOnlyFolder)(nil)
	_ fs.NodeMkdirer   = (*readOnlyFolder)(nil)
	_ fs.NodeMknoder   = (*readOnlyFolder)(nil)
	_ fs.NodeLinker    = (*readOnlyFolder)(nil)
	_ fs.NodeSymlinker = (*readOnlyFolder)(nil)
	_ fs.NodeRenamer   = (*readOnlyFolder)(nil)
	_ fs.NodeUnlinker  = (*readOnlyFolder)(nil)
	_ fs.NodeRmdirer   = (*readOnlyFolder)(nil)
)

func (*readOnlyFolder) Create(context.Context, string, uint32, uint32, *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	return nil, nil, 0, syscall.EROFS
}

func (*readOnlyFolder) Tmpfile(context.Context, uint32, uint32, *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	return nil, nil, 0, syscall.EROFS
}

func (*readOnlyFolder) Mkdir(context.Context, string, uint32, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.EROFS
}

func (*readOnlyFolder) Mknod(context.Context, string, uint32, uint32, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.EROFS
}

func (*readOnlyFolder) Link(context.Context, fs.InodeEmbedder, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.EROFS
}

func (*readOnlyFolder) Symlink(context.Context, string, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.EROFS
}

func (*readOnlyFolder) Rename(context.Context, string, fs.InodeEmbedder, string, uint32) syscall.Errno {
	return syscall.EROFS
}

func (*readOnlyFolder) Unlink(context.Context, string) syscall.Errno { return syscall.EROFS }

func (*readOnlyFolder) Rmdir(context.Context, string) syscall.Errno { return syscall.EROFS }
