package ext4gen

// volume is a volume under construction: its inputs, and its metadata, which
// the write methods fill in. The descriptor and the superblock come last, since
// they contain counts and checksums of the rest.
type volume struct {
	Options
	files []placedFile
	seed  uint32 // of all checksums but the superblock's

	blocks     uint32 // of the volume
	usedBlocks uint32 // all from block 0 on
	usedInodes uint32 // all from inode 1 on

	head []byte // from block 0 to the last used block of the inode table
	dirs []byte // the blocks of the root directory and of lost+found
}

func newVolume(o Options, files []placedFile) *volume {
	v := &volume{
		Options:    o,
		files:      files,
		seed:       checksum(noSeed, o.UUID[:]),
		blocks:     uint32(o.Size / BlockSize),
		usedBlocks: firstDataBlock,
		usedInodes: firstFileInode - 1 + uint32(len(files)),
	}
	for _, f := range files {
		v.usedBlocks += f.blocks
	}
	tableBlocks := (v.usedInodes + inodesPerBlock - 1) / inodesPerBlock
	headLen := (inodeTableBlock + int(tableBlocks)) * BlockSize
	metadata := make([]byte, headLen+(firstDataBlock-rootBlock)*BlockSize)
	v.head, v.dirs = metadata[:headLen:headLen], metadata[headLen:]
	return v
}

// block returns block n, which must be in v.head.
func (v *volume) block(n int) []byte {
	return v.head[n*BlockSize : (n+1)*BlockSize]
}

// writeInodes writes the used inodes. The reserved ones stay zero, which needs
// no checksum.
func (v *volume) writeInodes() {
	v.writeInode(rootInode, inode{
		Mode: modeDirectory | 0o755, LinksCount: 3, // ".", "..", and ".." of lost+found
	}, BlockSize, rootBlock, 1)
	v.writeInode(lostFoundInode, inode{
		Mode: modeDirectory | 0o700, LinksCount: 2, // its name and "."
	}, lostFoundBlocks*BlockSize, lostFoundBlock, lostFoundBlocks)
	for i, f := range v.files {
		v.writeInode(firstFileInode+uint32(i), inode{
			Mode: modeRegular | 0o644, LinksCount: 1,
		}, f.size, f.block, f.blocks)
	}
}

// writeInode adds times, size, place and checksum to in, and writes it.
func (v *volume) writeInode(number uint32, in inode, size int64, block, blocks uint32) {
	seconds, epoch := splitTime(v.Time)
	in.Atime, in.Ctime, in.Mtime, in.Crtime = seconds, seconds, seconds, seconds
	in.AtimeExtra, in.CtimeExtra, in.MtimeExtra, in.CrtimeExtra = epoch, epoch, epoch, epoch
	in.ExtraIsize = extraIsize
	in.SizeLo, in.SizeHigh = uint32(size), uint32(size>>32)
	in.BlocksLo = blocks * sectorsPerBlock
	in.Flags = inodeExtents
	in.Header = extentHeader{Magic: extentMagic, Max: uint16(len(in.Extents))}
	if blocks > 0 {
		in.Header.Entries = 1
		in.Extents[0] = extentEntry{Len: uint16(blocks), StartLo: block}
	}
	at := inodeTableBlock*BlockSize + int(number-1)*inodeSize
	p := v.head[at : at+inodeSize]
	put(p, &in)
	sum := checksumNumber(checksumNumber(v.seed, number), in.Generation)
	sum = checksum(sum, p)
	in.ChecksumLo, in.ChecksumHi = uint16(sum), uint16(sum>>16)
	put(p, &in)
}

// splitTime returns the two fields of an inode for a time: the low 32 bits,
// read as signed, and the bits above them, which count from there.
func splitTime(unix int64) (seconds, epoch uint32) {
	return uint32(unix), uint32((unix - int64(int32(unix))) >> 32 & 3)
}

// writeBitmaps sets a bit for each block and inode that is in use or does not
// exist.
func (v *volume) writeBitmaps() {
	blocks := v.block(blockBitmapBlock)
	setBits(blocks, 0, v.usedBlocks)
	setBits(blocks, v.blocks, maxBlocks)
	inodes := v.block(inodeBitmapBlock)
	setBits(inodes, 0, v.usedInodes)
	setBits(inodes, inodeCount, maxBlocks)
}

// setBits sets the bits [from, to) of p; bit 0 is the lowest of byte 0.
func setBits(p []byte, from, to uint32) {
	for i := from; i < to; {
		if i%8 == 0 && i+8 <= to {
			p[i/8] = 0xFF
			i += 8
			continue
		}
		p[i/8] |= 1 << (i % 8)
		i++
	}
}

// writeDescriptor writes the descriptor of the only group.
func (v *volume) writeDescriptor() {
	blockSum := checksum(v.seed, v.block(blockBitmapBlock))
	inodeSum := checksum(v.seed, v.block(inodeBitmapBlock)[:inodeCount/8])
	d := groupDescriptor{
		BlockBitmapLo:     blockBitmapBlock,
		InodeBitmapLo:     inodeBitmapBlock,
		InodeTableLo:      inodeTableBlock,
		FreeBlocksCountLo: uint16(v.blocks - v.usedBlocks),
		FreeInodesCountLo: uint16(inodeCount - v.usedInodes),
		UsedDirsCountLo:   2,
		Flags:             groupInodesZeroed,
		BlockBitmapCsumLo: uint16(blockSum),
		BlockBitmapCsumHi: uint16(blockSum >> 16),
		InodeBitmapCsumLo: uint16(inodeSum),
		InodeBitmapCsumHi: uint16(inodeSum >> 16),
		ItableUnusedLo:    uint16(inodeCount - v.usedInodes),
	}
	p := v.block(descriptorBlock)[:descSize]
	put(p, &d)
	const group = 0
	d.Checksum = uint16(checksum(checksumNumber(v.seed, group), p))
	put(p, &d)
}

// writeSuperblock writes the only superblock: a volume of one group has no
// backup. All its times are 0, since e2fsck complains about a last write in the
// future, and many machines start with a clock at 1970.
func (v *volume) writeSuperblock() {
	s := superblock{
		InodesCount:       inodeCount,
		BlocksCountLo:     v.blocks,
		FreeBlocksCountLo: v.blocks - v.usedBlocks,
		FreeInodesCount:   inodeCount - v.usedInodes,
		LogBlockSize:      2, // 1024 << 2
		LogClusterSize:    2,
		BlocksPerGroup:    maxBlocks,
		ClustersPerGroup:  maxBlocks,
		InodesPerGroup:    inodeCount,
		MaxMntCount:       0xFFFF, // -1: never ask for a check because of mounts
		Magic:             magic,
		State:             stateClean,
		Errors:            errorsContinue,
		RevLevel:          dynamicRevision,
		FirstIno:          firstInode,
		InodeSize:         inodeSize,
		FeatureCompat:     compatExtAttr | compatDirIndex,
		FeatureIncompat:   incompatFiletype | incompatExtents | incompat64bit,
		FeatureROCompat:   roSparseSuper | roLargeFile | roHugeFile | roDirNlink | roExtraIsize | roMetadataChecksum,
		UUID:              v.UUID,
		HashSeed:          v.HashSeed,
		DefHashVersion:    hashHalfMD4,
		DescSize:          descSize,
		DefaultMountOpts:  mountXattrACL,
		MinExtraIsize:     extraIsize,
		WantExtraIsize:    extraIsize,
		Flags:             signedHash,
		ChecksumType:      checksumCRC32C,
	}
	copy(s.VolumeName[:], v.Label)
	const size = 1024
	p := v.head[superblockOffset:][:size]
	put(p, &s)
	s.Checksum = checksum(noSeed, p[:size-4])
	put(p, &s)
}
