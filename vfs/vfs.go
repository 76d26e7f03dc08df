// Package vfs ... (contract; to be implemented)
package vfs

import (
	"context"
	"log/slog"
	"os"
	"time"

	"aesthetic.computer/isofs/extent"
)

// A Tree is what the mount shows: the root holds <piece>-os.iso and sidecars
// of the current snapshots, s/<id>/ holds one snapshot for ever.
type Tree interface {
	// FileNames lists the images known now ("notepat-os.iso").
	FileNames() []string
	// Current returns the image that fileName names now; it may wait for the oven.
	Current(ctx context.Context, fileName string) (Image, error)
	// IDs lists the snapshots that are retained.
	IDs() []string
	// Image returns a retained snapshot; it never waits for the network.
	Image(id string) (Image, error)
}

// An Image is one immutable snapshot.
type Image interface {
	ID() string       // 32 hex digits
	FileName() string // "notepat-os.iso"
	Time() time.Time  // whole seconds
	Size() int64
	// Open holds the snapshot until the handle is closed.
	Open() (Handle, error)
	// Sidecar returns a small file beside the image; fault.NotFound if there is none.
	Sidecar(suffix string) ([]byte, error) // "sha256"
	// Suffixes lists the sidecars that there are: "sha256".
	Suffixes() []string
}

// A Handle is an open image: package extent's optional interfaces, all of them.
type Handle interface {
	extent.ContextSource
	extent.Pinner
	Close() error
}

// A Profile is one of the two read profiles (DESIGN.md, invariant 6).
type Profile string

const (
	Direct    Profile = "direct"
	PageCache Profile = "page-cache"
)

// Config says how to mount.
type Config struct {
	Mountpoint string
	Device     *os.File // of OpenDevice, when a privileged parent mounted; else nil
	Profile    Profile
	AllowOther bool
	Log        *slog.Logger
}

// A Server is a mounted tree.
type Server struct{}

// Mount mounts t and serves it.
func Mount(c Config, t Tree) (*Server, error) { panic("contract") }

// Unmount stops the mount after open reads; a busy mount is an error that says
// who holds it and what to do.
func (s *Server) Unmount(ctx context.Context) error { panic("contract") }

// Wait returns when the mount is gone.
func (s *Server) Wait() { panic("contract") }

// Recover makes mountpoint usable: creates it, unmounts a dead mount of an
// earlier run, and refuses a live one or a folder that is not empty.
func Recover(mountpoint string) error { panic("contract") }

// OpenDevice is the privileged half: it opens /dev/fuse and mounts it for uid
// and gid, who then serve it with Config.Device.
func OpenDevice(mountpoint string, uid, gid int, allowOther bool) (*os.File, error) {
	panic("contract")
}
