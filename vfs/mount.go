package vfs

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"aesthetic.computer/isofs/fault"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// maxBackground bounds how many of the kernel's reads ahead wait at a time, for
// all files together. Reads of programs are not limited.
const maxBackground = 64

// A Server is a mounted tree.
type Server struct {
	core       *core
	mountpoint string
	ours       bool // mounted by this process, which so may unmount
	done       chan struct{}
}

// Mount mounts t and serves it. It needs root, a Device, or the fuse3 package's
// helper. It mounts over whatever is at the mount point: see Recover.
//
// It does not use go-fuse's ways to mount. The one for root leaves /dev/fuse
// open in every program that this process starts, such as a web server. When
// this process is killed, the mount would then hang, and not fail. Nor does it
// touch the mount once, as go-fuse does to make the kernel forget about poll(2).
// That protects processes which use their own mount, and this one must not.
func Mount(c Config, t Tree) (*Server, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	ours := c.Device == nil
	device := c.Device
	var err error
	if ours && os.Geteuid() == 0 {
		device, err = OpenDevice(c.Mountpoint, 0, 0, c.AllowOther)
	} else if ours {
		device, err = helperDevice(c.Mountpoint, c.AllowOther)
	}
	if err != nil {
		return nil, err
	}
	s := &Server{core: newCore(c, t, device), mountpoint: c.Mountpoint, ours: ours, done: make(chan struct{})}
	server, err := s.connect()
	if err != nil {
		device.Close()
		if ours {
			err = joinIf(err, detach(c.Mountpoint))
		}
		return nil, fmt.Errorf("mount %s: %w: %w", c.Mountpoint, fault.Unavailable, err)
	}
	go s.serve(server)
	if s.core.pages != nil {
		go s.core.pages.keepWithin(s.done)
	}
	if c.Profile == PageCache && ours {
		if err := RaiseReadAhead(c.Mountpoint); err != nil {
			c.Log.Warn("cannot raise read-ahead: the page-cache profile will be slower", "err", err)
		}
	}
	c.Log.Info("mounted", "folder", c.Mountpoint, "profile", c.Profile, "splice_up_to", SpliceSize())
	return s, nil
}

// connect shakes hands with the kernel.
func (s *Server) connect() (*fuse.Server, error) {
	// go-fuse wants its own descriptor, below the name by which libfuse programs
	// get theirs.
	var fd int
	conn, err := s.core.device.SyscallConn()
	if err != nil {
		return nil, err
	}
	var errDup error
	err = conn.Control(func(device uintptr) {
		if errDup = unix.SetNonblock(int(device), false); errDup == nil {
			fd, errDup = unix.FcntlInt(device, unix.F_DUPFD_CLOEXEC, 3)
		}
	})
	if err = joinIf(err, errDup); err != nil {
		return nil, err
	}
	negative := rootTTL
	tree := fs.NewNodeFS(&root{folder{core: s.core, at: s.core.started, ttl: rootTTL}}, &fs.Options{
		NegativeTimeout: &negative,
		RootStableAttr:  &fs.StableAttr{Ino: fuse.FUSE_ROOT_ID},
		Logger:          s.core.log.library(),
	})
	return fuse.NewServer(tree, fmt.Sprintf("/dev/fd/%d", fd), &fuse.MountOptions{
		FsName:        fsName,
		Name:          fsName,
		MaxWrite:      maxRead,
		MaxBackground: maxBackground,
		DisableXAttrs: true,
		// With it, a plain ls would look up every name, and so may wait for the
		// oven as often.
		DisableReadDirPlus: true,
		Logger:             s.core.log.library(),
		PanicHandler:       s.panicked,
	})
}

// serve answers the kernel until the mount is gone.
func (s *Server) serve(server *fuse.Server) {
	server.Serve()
	for _, open := range s.core.open.rest() {
		open.close()
	}
	s.core.device.Close()
	close(s.done)
}

// panicked keeps a bug in one request from ending all of them.
func (s *Server) panicked(value any) fuse.Status {
	s.core.log.report(slog.LevelError, "panic", "a request failed by a bug",
		"panic", fmt.Sprint(value), "stack", string(debug.Stack()))
	return fuse.EIO
}

// Unmount stops the mount after open reads. A busy mount is an error that names
// the processes that hold it and says what to do. While it is busy, Unmount
// tries again until ctx ends, so ctx needs a time limit. The mount then is as
// before; the caller may choose to Detach.
//
// A mount whose device was passed in is its parent's to unmount: UnmountPath.
func (s *Server) Unmount(ctx context.Context) error {
	select {
	case <-s.done:
		return nil
	default:
	}
	if !s.ours {
		return fmt.Errorf("unmount %s: %w: the process that mounted it must do so", s.mountpoint, fault.Invalid)
	}
	if err := UnmountPath(ctx, s.mountpoint); err != nil {
		return err
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("unmount %s: wait for the last requests: %w: %w", s.mountpoint, fault.Unavailable, ctx.Err())
	}
}

// Detach removes the mount from the folder at once. Open files stay readable
// until they are closed, and only then does Wait return.
func (s *Server) Detach() error {
	select {
	case <-s.done:
		return nil
	default:
	}
	if !s.ours {
		return fmt.Errorf("detach %s: %w: the process that mounted it must do so", s.mountpoint, fault.Invalid)
	}
	return detach(s.mountpoint)
}

// Wait returns when the mount has ended, by Unmount or otherwise, and all
// handles are closed.
func (s *Server) Wait() { <-s.done }
