package vfs

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// identity returns the inode and generation numbers of a snapshot's image
// (suffix "") or sidecar. They depend on nothing else, so that a snapshot has
// the same inode under each of its names, on every node and after a restart.
//
// go-fuse takes two nodes with equal numbers for one file. With the generation
// that is a matter of 127 bits of SHA-256, not of the 63 of an inode number.
func identity(id, suffix string) fs.StableAttr {
	sum := sha256.Sum256([]byte(id + "\x00" + suffix))
	// The upper half of the numbers is go-fuse's, for nodes without one.
	ino := binary.BigEndian.Uint64(sum[:8]) &^ (1 << 63)
	if ino <= fuse.FUSE_ROOT_ID {
		ino += 2
	}
	return fs.StableAttr{Mode: fuse.S_IFREG, Ino: ino, Gen: binary.BigEndian.Uint64(sum[8:16])}
}

// folderIdentity returns the numbers of a snapshot's folder, or of the folder
// of the snapshots (id ""). No sidecar has the suffix "/".
func folderIdentity(id string) fs.StableAttr {
	attr := identity(id, "/")
	attr.Mode = fuse.S_IFDIR
	return attr
}
