package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/origin"
)

// A poorNode belongs to a folder on a file system that lacks something.
type poorNode struct {
	*fusefs.LoopbackNode
	lacks *lacking
}

// WrapChild makes everything below such a node.
func (n *poorNode) WrapChild(_ context.Context, ops fusefs.InodeEmbedder) fusefs.InodeEmbedder {
	return &poorNode{ops.(*fusefs.LoopbackNode), n.lacks}
}

// What a file system lacks: hard links, flags of a renaming, all renaming.
type lacking struct{ links, flags, names bool }

func (n *poorNode) Link(ctx context.Context, target fusefs.InodeEmbedder, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	if n.lacks.links {
		return nil, syscall.EPERM
	}
	return n.LoopbackNode.Link(ctx, target, name, out)
}

func (n *poorNode) Rename(ctx context.Context, name string, to fusefs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if n.lacks.names {
		return syscall.EACCES
	}
	if n.lacks.flags && flags != 0 {
		return syscall.EINVAL
	}
	return n.LoopbackNode.Rename(ctx, name, to, newName, flags)
}

// poor mounts such a file system.
func poor(t *testing.T, lacks lacking) string {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root and /dev/fuse")
		}
		t.Skip("needs root and /dev/fuse")
	}
	behind, at := t.TempDir(), t.TempDir()
	root := &fusefs.LoopbackRoot{Path: behind}
	top := &poorNode{&fusefs.LoopbackNode{RootData: root}, &lacks}
	root.RootNode = top
	server, err := fusefs.Mount(at, top, &fusefs.Options{MountOptions: fuse.MountOptions{FsName: "poor", DirectMount: true, EnableLocks: false}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return at
}

// Without hard links, and without a rename that spares an existing file, bases are
// published all the same. No publisher writes over another's.
func TestPublishWithoutLinks(t *testing.T) {
	for what, lacks := range map[string]lacking{
		"no hard links":            {links: true},
		"no flags of a renaming":   {flags: true},
		"neither, as exFAT's FUSE": {links: true, flags: true},
	} {
		t.Run(what, func(t *testing.T) {
			s, err := At(poor(t, lacks), origin.Options{})
			if err != nil {
				t.Fatal(err)
			}
			published(t, s, newBase(day+"01", 1))
			is(t, s, "01 of 01")
			// Of the publishers that upload the same name one wins, and the others
			// get ErrConflict.
			var all sync.WaitGroup
			var won atomic.Int64
			for i := range 4 {
				all.Go(func() {
					err := s.Upload(context.Background(), "x/base.iso", newBase(day+"02", byte(i)).Image, imageSize, func(int64) {})
					if err == nil {
						won.Add(1)
					} else if !errors.Is(err, ErrConflict) {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if won.Load() != 1 {
				t.Errorf("%d of 4 have the name", won.Load())
			}
			f := s.(*folder)
			if err := f.rename(t.Context(), f.path("x/base.iso"), f.path("bases/tiny/amd64/"+day+"01/base.iso")); !errors.Is(err, fs.ErrExist) {
				t.Errorf("over what is there: %v", err)
			}
			if left, err := filepath.Glob(f.path("*/.*")); err != nil || len(left) != 0 {
				t.Errorf("%q is left (%v)", left, err)
			}
		})
	}
}

// A file that cannot get its name fails before gigabytes are copied.
func TestNamesAreTriedBefore(t *testing.T) {
	s, err := At(poor(t, lacking{links: true, names: true}), origin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	copied := false
	err = s.Upload(t.Context(), "x/base.iso", newBase(day+"01", 1).Image, imageSize, func(int64) { copied = true })
	if fault.Kind(err) == nil || !strings.Contains(err.Error(), "no name to a file") || copied {
		t.Errorf("%v, copied %v", err, copied)
	}
}
