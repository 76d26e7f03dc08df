package ext4gen

import (
	"encoding/binary"
	"hash/crc32"
)

// The structures below are those of the kernel's "ext4 Data Structures and
// Algorithms" (https://docs.kernel.org/filesystems/ext4/), in field order, all
// little-endian and without padding; each names its chapter. Fields are named
// as there, less the prefix. Blank fields stay zero.

// Numbers that the format fixes.
const (
	superblockOffset = 1024 // bytes from the start, after room for a boot sector
	magic            = 0xEF53
	extentMagic      = 0xF30A
	maxBlocks        = BlockSize * 8 // of one group: the bits of one bitmap block
	rootInode        = 2
	firstInode       = 11 // 1..10 are reserved
	maxNameLen       = 255
	maxLabelLen      = 16
	minTime          = -1 << 31          // 1901: signed 32 bits
	maxTime          = 1<<34 - 1<<31 - 1 // 2446: and two more for the epoch
	sectorsPerBlock  = BlockSize / 512   // inodes count blocks in sectors
	dirTailLen       = 12                // of a directory block's checksum record
	dirSpace         = BlockSize - dirTailLen
	direntHeaderLen  = 8
)

// Features, in three sets. A kernel that lacks one may still write, may not
// mount, or may mount read-only ("The Super Block").
const (
	compatExtAttr      = 0x8
	compatDirIndex     = 0x20
	incompatFiletype   = 0x2
	incompatExtents    = 0x40
	incompat64bit      = 0x80
	roSparseSuper      = 0x1
	roLargeFile        = 0x2
	roHugeFile         = 0x8
	roDirNlink         = 0x20
	roExtraIsize       = 0x40
	roMetadataChecksum = 0x400
)

// Values of single fields.
const (
	stateClean        = 1
	errorsContinue    = 1
	dynamicRevision   = 1
	hashHalfMD4       = 1
	signedHash        = 1 // in superblock.Flags: the directory hash takes chars as signed
	checksumCRC32C    = 1
	mountXattrACL     = 0xC // default mount options user_xattr and acl, as mke2fs sets
	groupInodesZeroed = 0x4 // the inode table needs no zeroing by the kernel
	inodeExtents      = 0x80000
	modeDirectory     = 0x4000
	modeRegular       = 0x8000
	typeRegular       = 1 // of a directory entry
	typeDirectory     = 2
	typeChecksum      = 0xDE
)

// superblock is "The Super Block" (super.rst), 1024 bytes.
type superblock struct {
	InodesCount       uint32 // 0x00
	BlocksCountLo     uint32
	RBlocksCountLo    uint32
	FreeBlocksCountLo uint32
	FreeInodesCount   uint32 // 0x10
	FirstDataBlock    uint32
	LogBlockSize      uint32 // block size is 1024 << this
	LogClusterSize    uint32
	BlocksPerGroup    uint32 // 0x20
	ClustersPerGroup  uint32
	InodesPerGroup    uint32
	Mtime             uint32
	Wtime             uint32 // 0x30
	MntCount          uint16
	MaxMntCount       uint16
	Magic             uint16
	State             uint16
	Errors            uint16
	MinorRevLevel     uint16
	Lastcheck         uint32 // 0x40
	Checkinterval     uint32
	CreatorOS         uint32
	RevLevel          uint32
	DefResuid         uint16 // 0x50
	DefResgid         uint16
	FirstIno          uint32
	InodeSize         uint16
	BlockGroupNr      uint16
	FeatureCompat     uint32
	FeatureIncompat   uint32 // 0x60
	FeatureROCompat   uint32
	UUID              [16]byte
	VolumeName        [maxLabelLen]byte // 0x78
	_                 [64]byte          // last_mounted
	_                 [4]byte           // algorithm_usage_bitmap
	_                 [2]byte           // prealloc_blocks, prealloc_dir_blocks
	ReservedGDTBlocks uint16
	_                 [16]byte // 0xD0: journal_uuid
	_                 [12]byte // journal_inum, journal_dev, last_orphan
	HashSeed          [16]byte // 0xEC
	DefHashVersion    uint8
	_                 uint8  // jnl_backup_type
	DescSize          uint16 // 0xFE
	DefaultMountOpts  uint32
	FirstMetaBg       uint32
	MkfsTime          uint32
	_                 [68]byte // jnl_blocks
	BlocksCountHi     uint32   // 0x150
	RBlocksCountHi    uint32
	FreeBlocksCountHi uint32
	MinExtraIsize     uint16
	WantExtraIsize    uint16
	Flags             uint32 // 0x160
	_                 [16]byte
	_                 uint8 // 0x174: log_groups_per_flex
	ChecksumType      uint8
	_                 [0x3FC - 0x176]byte // statistics, snapshots, errors, quotas, encryption
	Checksum          uint32              // 0x3FC, of all before it
}

// groupDescriptor is "Block Group Descriptors" (group_descr.rst), the 64 bytes
// that the feature 64bit gives it.
type groupDescriptor struct {
	BlockBitmapLo     uint32 // 0x00
	InodeBitmapLo     uint32
	InodeTableLo      uint32
	FreeBlocksCountLo uint16
	FreeInodesCountLo uint16
	UsedDirsCountLo   uint16 // 0x10
	Flags             uint16
	_                 uint32 // exclude_bitmap_lo
	BlockBitmapCsumLo uint16
	InodeBitmapCsumLo uint16
	ItableUnusedLo    uint16
	Checksum          uint16 // 0x1E
	_                 [24]byte
	BlockBitmapCsumHi uint16 // 0x38
	InodeBitmapCsumHi uint16
	_                 uint32
}

// inode is "Index Nodes" (inodes.rst): 128 bytes, extraIsize more, and room for
// extended attributes up to inodeSize.
type inode struct {
	Mode        uint16 // 0x00
	UID         uint16
	SizeLo      uint32
	Atime       uint32
	Ctime       uint32
	Mtime       uint32 // 0x10
	Dtime       uint32
	GID         uint16
	LinksCount  uint16
	BlocksLo    uint32 // in 512-byte sectors
	Flags       uint32 // 0x20
	_           uint32 // version
	Header      extentHeader
	Extents     [4]extentEntry // with Header: the 60 bytes of i_block
	Generation  uint32         // 0x64
	_           uint32         // file_acl_lo
	SizeHigh    uint32
	_           uint32    // 0x70: obso_faddr
	_           [4]uint16 // osd2: blocks_high, file_acl_high, uid_high, gid_high
	ChecksumLo  uint16    // 0x7C
	_           uint16
	ExtraIsize  uint16 // 0x80
	ChecksumHi  uint16
	CtimeExtra  uint32
	MtimeExtra  uint32
	AtimeExtra  uint32
	Crtime      uint32 // 0x90
	CrtimeExtra uint32
	_           [2]uint32 // version_hi, projid
	_           [inodeSize - 0x80 - extraIsize]byte
}

// extentHeader and extentEntry are "Extent Tree" (ifork.rst), 12 bytes each.
type extentHeader struct {
	Magic      uint16
	Entries    uint16
	Max        uint16
	Depth      uint16
	Generation uint32
}

type extentEntry struct {
	Block   uint32 // first of the file
	Len     uint16 // in blocks
	StartHi uint16
	StartLo uint32 // first on the volume
}

// direntHeader is "Linear (Classic) Directories" (directory.rst): the fields
// before a name. A block's last record has no name but typeChecksum, and the
// block's checksum follows it.
type direntHeader struct {
	Inode   uint32
	RecLen  uint16
	NameLen uint8
	Type    uint8
}

// put writes v at the start of p. It panics if p is too short.
func put(p []byte, v any) {
	if _, err := binary.Encode(p, binary.LittleEndian, v); err != nil {
		panic(err)
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// noSeed starts a checksum without a seed.
const noSeed = ^uint32(0)

// checksum continues seed over p ("Checksums", checksums.rst): CRC-32C without
// the final inversion that hash/crc32 does.
func checksum(seed uint32, p []byte) uint32 {
	return ^crc32.Update(^seed, castagnoli, p)
}

// checksumNumber continues seed over a number, such as an inode's.
func checksumNumber(seed, number uint32) uint32 {
	var p [4]byte
	binary.LittleEndian.PutUint32(p[:], number)
	return checksum(seed, p[:])
}
