package vfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"syscall"

	"aesthetic.computer/isofs/fault"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// file makes the node of img (suffix "") or of one of its sidecars, below
// parent. go-fuse answers with the node that it has already, if the identity is
// the same.
func (c *core) file(ctx context.Context, parent *fs.Inode, img SnapshotFile, suffix string, attr *fuse.Attr) (*fs.Inode, error) {
	if suffix == "" {
		c.fileAttr(attr, img.Size(), img.Time())
		return parent.NewInode(ctx, &imageFile{core: c, img: img}, c.ids.ofFile(img, "")), nil
	}
	if !slices.Contains(img.Suffixes(), suffix) {
		return nil, fmt.Errorf("sidecar %s of %s: %w", suffix, img.FileName(), fault.NotFound)
	}
	content, err := img.Sidecar(suffix)
	if err != nil {
		return nil, err
	}
	node := &sidecarFile{core: c, img: img, suffix: suffix, size: int64(len(content)), sum: sha256.Sum256(content)}
	id := c.ids.ofFile(img, suffix)
	// A sidecar that was made again (signed by another key, say) is another
	// file.
	id.Ino = number(id.Ino ^ binary.BigEndian.Uint64(node.sum[8:16]))
	id.Gen ^= binary.BigEndian.Uint64(node.sum[:8])
	c.fileAttr(attr, node.size, img.Time())
	return parent.NewInode(ctx, node, id), nil
}

// An imageFile is the inode of one snapshot.
type imageFile struct {
	readOnlyNode
	core *core
	img  SnapshotFile
}

var (
	_ fs.NodeGetattrer = (*imageFile)(nil)
	_ fs.NodeOpener    = (*imageFile)(nil)

	_ fs.NodeOnForgetter = (*imageFile)(nil)
)

func (f *imageFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.core.fileAttr(&out.Attr, f.img.Size(), f.img.Time())
	out.SetTimeout(snapshotTTL)
	return 0
}

// Open holds the snapshot until Release.
func (f *imageFile) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if forWriting(flags) {
		return nil, 0, syscall.EROFS
	}
	img, handle, err := f.hold()
	if err != nil {
		return nil, 0, f.core.openErrno(f.img, f.img.FileName(), err)
	}
	open := &openFile{core: f.core, img: img, handle: handle, inode: f.EmbeddedInode()}
	f.core.open.add(open)
	return open, f.core.flags, 0
}

// OnForget implements fs.NodeOnForgetter.
func (f *imageFile) OnForget() {
	if f.core.pages != nil {
		f.core.pages.forget(f.EmbeddedInode())
	}
}

// hold opens the image that this node was made for. If that has been closed for
// good, it opens the Tree's current one of the same snapshot: the kernel keeps a
// node for longer than a catalog may keep a SnapshotFile.
func (f *imageFile) hold() (SnapshotFile, Handle, error) {
	handle, err := f.img.Open()
	if err == nil {
		return f.img, handle, nil
	}
	again, errAgain := f.core.tree.ByID(f.img.ID())
	if errAgain != nil {
		return nil, nil, err
	}
	if again = FileOf(again, f.img.FileName()); again == nil {
		return nil, nil, err
	}
	if again.Size() != f.img.Size() {
		return nil, nil, fmt.Errorf("open snapshot %s: %w: it had %d bytes and now has %d",
			f.img.ID(), fault.Corrupt, f.img.Size(), again.Size())
	}
	if handle, err = again.Open(); err != nil {
		return nil, nil, err
	}
	return again, handle, nil
}

// A sidecarFile is the inode of one sidecar. It has the content's hash, and not
// the content: a zsync file has megabytes, and the kernel remembers many inodes.
type sidecarFile struct {
	readOnlyNode
	core   *core
	img    SnapshotFile
	suffix string
	size   int64
	sum    [sha256.Size]byte
}

var (
	_ fs.NodeGetattrer = (*sidecarFile)(nil)
	_ fs.NodeOpener    = (*sidecarFile)(nil)
)

func (f *sidecarFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.core.fileAttr(&out.Attr, f.size, f.img.Time())
	out.SetTimeout(snapshotTTL)
	return 0
}

// Open keeps the content for as long as the file is open. If it is not the
// content of this inode, the kernel gets ESTALE and looks the name up again.
func (f *sidecarFile) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if forWriting(flags) {
		return nil, 0, syscall.EROFS
	}
	content, err := f.img.Sidecar(f.suffix)
	if err != nil {
		return nil, 0, f.core.openErrno(f.img, sidecarName(f.img.FileName(), f.suffix), err)
	}
	if sha256.Sum256(content) != f.sum {
		return nil, 0, syscall.ESTALE
	}
	return &openSidecar{bytes.NewReader(content)}, f.core.flags, 0
}

// An openSidecar is an open sidecar.
type openSidecar struct{ content *bytes.Reader }

var _ fs.FileReader = (*openSidecar)(nil)

func (s *openSidecar) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	// The only possible error means the end, which n shows.
	n, _ := s.content.ReadAt(dest, off)
	return copied(dest[:n]), 0
}
