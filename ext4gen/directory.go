package ext4gen

import "encoding/binary"

// A dirent is a directory entry. One without an inode is unused space.
type dirent struct {
	inode uint32
	kind  uint8
	name  string
}

// recLen returns the least length of the entry of name: header and name,
// rounded up to 4.
func recLen(name string) int {
	return (direntHeaderLen + len(name) + 3) &^ 3
}

// writeDirectories writes the blocks of the root directory and of lost+found.
func (v *volume) writeDirectories() {
	root := make([]dirent, 0, 3+len(v.files))
	root = append(root,
		dirent{rootInode, typeDirectory, "."},
		dirent{rootInode, typeDirectory, ".."},
		dirent{lostFoundInode, typeDirectory, lostFound})
	for i, f := range v.files {
		root = append(root, dirent{firstFileInode + uint32(i), typeRegular, f.name})
	}
	v.writeDirBlock(0, rootInode, root)
	v.writeDirBlock(1, lostFoundInode, []dirent{
		{lostFoundInode, typeDirectory, "."},
		{rootInode, typeDirectory, ".."},
	})
	for i := 1; i < lostFoundBlocks; i++ {
		v.writeDirBlock(1+i, lostFoundInode, []dirent{{}})
	}
}

// writeDirBlock writes block n of v.dirs for the directory owner. The last
// entry takes all the space that is left. The checksum's record ends the block.
func (v *volume) writeDirBlock(n int, owner uint32, entries []dirent) {
	p := v.dirs[n*BlockSize:][:BlockSize]
	at := 0
	for i, e := range entries {
		length := recLen(e.name)
		if i == len(entries)-1 {
			length = dirSpace - at
		}
		put(p[at:], &direntHeader{e.inode, uint16(length), uint8(len(e.name)), e.kind})
		copy(p[at+direntHeaderLen:], e.name)
		at += length
	}
	put(p[dirSpace:], &direntHeader{RecLen: dirTailLen, Type: typeChecksum})
	const generation = 0
	sum := checksumNumber(checksumNumber(v.seed, owner), generation)
	binary.LittleEndian.PutUint32(p[dirSpace+direntHeaderLen:], checksum(sum, p[:dirSpace]))
}
