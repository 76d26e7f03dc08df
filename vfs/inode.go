package vfs

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// identities makes the inode numbers of one mount. It is a random number. So the
// same file of two mounts, one after the other at the same place, is two files.
// nginx keeps descriptors open, and uses one for as long as the path has the same
// inode number, even after the mount ended.
type identities uint64

// of returns the inode and generation numbers of a snapshot's image (suffix "")
// or sidecar. They depend on nothing else, so that in one mount a snapshot has
// the same inode under each of its names.
//
// go-fuse takes two nodes with equal numbers for one file. With the generation
// that depends on 127 bits of SHA-256, not on the 63 of an inode number.
func (m identities) of(id, suffix string) fs.StableAttr {
	sum := sha256.Sum256([]byte(id + "\x00" + suffix))
	return fs.StableAttr{
		Mode: fuse.S_IFREG,
		Ino:  number(binary.BigEndian.Uint64(sum[:8]) ^ uint64(m)),
		Gen:  binary.BigEndian.Uint64(sum[8:16]),
	}
}

// ofFile returns the numbers of img (suffix "") or of one of its sidecars. No
// suffix of a sidecar has a "/".
func (m identities) ofFile(img SnapshotFile, suffix string) fs.StableAttr {
	if strings.HasSuffix(img.FileName(), slotEnd) {
		suffix = "slot/" + suffix
	}
	return m.of(img.ID(), suffix)
}

// number makes an inode number of x. go-fuse uses the upper half of them for
// nodes without one. The lowest are the root's and unused.
func number(x uint64) uint64 {
	ino := x &^ (1 << 63)
	if ino <= fuse.FUSE_ROOT_ID {
		ino += 2
	}
	return ino
}

// ofFolder returns the numbers of a snapshot's folder, or of the folder of the
// snapshots (id ""). No sidecar has the suffix "/".
func (m identities) ofFolder(id string) fs.StableAttr {
	attr := m.of(id, "/")
	attr.Mode = fuse.S_IFDIR
	return attr
}
