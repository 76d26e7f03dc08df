// Package vfs shows images as files: names become nodes, reads become reads of
// an extent map, errors become errno.
//
// The mounted folder is read-only and looks like this:
//
//	notepat-os.iso           the current snapshot of the piece notepat
//	notepat-os.iso.sha256    a sidecar of it
//	s/<id>/notepat-os.iso    one snapshot, the same bytes for ever
//	s/<id>/notepat-os.iso.sha256
//	s/<id>/notepat-piece.img what is in its slot, alone; with sidecars too
//
// notepat-piece.img can be opened in the root as well, and is not listed there.
// s/<id>/.whole exists, and is not listed, while reading the snapshot does not depend
// on the network. A web server can thus tell what it may serve without asking.
//
// A snapshot is one inode, whichever of its names led there, and an open file
// keeps its snapshot until it is closed. Data never change under an inode, so
// the kernel may keep what it read.
//
// The package has no cache, and does not serve HTTP. A Tree decides what is in the
// files. It runs on Linux only.
//
// A process must not use the mount that it serves: a thread that waits for the
// kernel, which waits for this process, may be the last one that Go has.
package vfs

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/fault"
)

// A Tree is what the mount shows: the root holds <piece>-os.iso and sidecars of the
// current snapshots, s/<id>/ holds one snapshot for ever.
type Tree interface {
	// FileNames lists the images known now ("notepat-os.iso").
	FileNames() []string
	// Current returns the image, or slot of one, that fileName names now; it may
	// wait for the oven.
	Current(ctx context.Context, fileName string) (SnapshotFile, error)
	// IDs lists the snapshots that are retained.
	IDs() []string
	// ByID returns the image of a retained snapshot; it never waits for the network.
	ByID(id string) (SnapshotFile, error)
}

// A SnapshotFile is one of the two files of an immutable snapshot: its image, or the
// content of its slot alone.
type SnapshotFile interface {
	ID() string       // 32 hex digits
	FileName() string // "notepat-os.iso"
	Time() time.Time  // whole seconds
	Size() int64
	// Open holds the snapshot until the handle is closed.
	Open() (Handle, error)
	// Sidecar returns a small file beside the image; fault.NotFound if there is none.
	Sidecar(suffix string) ([]byte, error) // "sha256"
	// Suffixes lists the sidecars that there are: "sha256", "zsync".
	Suffixes() []string
	// Listed are those of them that cost nothing to make. The root lists only these,
	// since listing with sizes makes every listed file.
	Listed() []string
	// Slot returns the content of an image's slot, "notepat-piece.img" of the same ID
	// and Time; nil if this is it, or there is none.
	Slot() SnapshotFile
	// Whole reports whether all of it is on this machine, so that reading does not
	// depend on the network.
	Whole() bool
}

// FileOf returns the file of that name of the snapshot of img, or nil.
func FileOf(img SnapshotFile, name string) SnapshotFile {
	if img.FileName() == name {
		return img
	}
	if slot := img.Slot(); slot != nil && slot.FileName() == name {
		return slot
	}
	return nil
}

// A Handle is an open SnapshotFile: package extent's optional interfaces, all of
// them, and what the statistics need.
type Handle interface {
	extent.ContextSource
	extent.Pinner
	extent.Prefetcher
	// Sources returns how many of the n bytes from off on are the base's, the
	// generated volume's and the bundle's.
	Sources(off, n int64) (base, volume, bundle int64)
	Close() error
}

// A Profile is one of the two read profiles (DESIGN.md, invariant 6).
type Profile string

const (
	// Direct keeps file data out of the kernel's page cache: the bytes are
	// spliced from the one cache file that all images of a base share.
	Direct Profile = "direct"
	// PageCache lets the kernel keep file data of each image, and read ahead.
	PageCache Profile = "page-cache"
)

// DefaultLookupTimeout is how long a name may wait for its image by default.
const DefaultLookupTimeout = 60 * time.Second

// Config says how to mount.
type Config struct {
	// Mountpoint is an empty folder (see Recover). With Device it only names
	// the mount in messages, and may be empty.
	Mountpoint string
	// Device is what OpenDevice returned to a privileged parent, when that mounted;
	// else nil. Mount takes it over and closes it in the end.
	Device *os.File
	// Profile is Direct when empty.
	Profile Profile
	// AllowOther lets users other than the serving one read the mount. A web
	// server with a user of its own needs it.
	AllowOther bool
	// PageLimit bounds the bytes that the kernel keeps of all images together in
	// profile PageCache, but for some read-ahead; zero means DefaultPageLimit.
	PageLimit int64
	// LookupTimeout bounds Tree.Current; zero means DefaultLookupTimeout.
	LookupTimeout time.Duration
	// Log is slog.Default when nil.
	Log *slog.Logger
}

// complete checks c and fills in the defaults.
func (c *Config) complete() error {
	switch c.Profile {
	case "":
		c.Profile = Direct
	case Direct, PageCache:
	default:
		return fmt.Errorf("read profile %q: %w: use %q or %q", c.Profile, fault.Invalid, Direct, PageCache)
	}
	if c.LookupTimeout < 0 {
		return fmt.Errorf("lookup timeout %v: %w: it must not be negative", c.LookupTimeout, fault.Invalid)
	}
	if c.LookupTimeout == 0 {
		c.LookupTimeout = DefaultLookupTimeout
	}
	if c.PageLimit < 0 {
		return fmt.Errorf("page limit %d: %w: it must not be negative", c.PageLimit, fault.Invalid)
	}
	if c.PageLimit == 0 {
		c.PageLimit = DefaultPageLimit
	}
	if c.Mountpoint == "" && c.Device == nil {
		return fmt.Errorf("mount: %w: no mount point given", fault.Invalid)
	}
	if c.Mountpoint != "" {
		abs, err := filepath.Abs(c.Mountpoint)
		if err != nil {
			return fmt.Errorf("mount point %s: %w: %w", c.Mountpoint, fault.Invalid, err)
		}
		c.Mountpoint = abs
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return nil
}
