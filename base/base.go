// Package base describes base images: the immutable, pre-baked disks that all
// images of a version share.
//
// A base is known by its SHA-256 and described by a [Manifest], which says
// where the slot is and gives the hash of every block, so that any block can
// be checked by itself, and the hash states at the slot's start, so that the
// digest of an image with another slot follows without reading the base.
// [Index] makes a manifest of an image, [Parse] reads one and refuses what
// contradicts itself, [Manifest.Verify] compares the two.
//
// A [Channel] names the versions of a base that are published.
//
// The package leaves out how a base is made (package bake), how its bytes are
// fetched (package origin) and kept (package cache), how partitions are read
// (package partition), and what goes into the slot (package image).
package base

import "encoding/hex"

// SlotLabel is the ext4 volume label by which the slot is known, on the disk
// here and in the machine that boots from it.
const SlotLabel = "FEDAC-PIECE"

// Sizes in bytes, and limits of what a manifest may claim. The limits are far
// above any real base; they keep a hostile manifest from costing memory.
const (
	// BlockSize is the default unit of verification.
	BlockSize = 256 << 10
	// SlotAlignment divides the slot's start and size: volumes are made of
	// 4 KiB blocks, and hash states need a multiple of 64.
	SlotAlignment = 4096

	MinSlotSize     = 1 << 20
	MaxSlotSize     = 128 << 20
	MaxTailSize     = 1 << 20
	MaxImageSize    = 1 << 40
	MaxManifestSize = 128 << 20
	// MaxSignatureSize is that of the signature of a manifest or channel.
	MaxSignatureSize = 64 << 10

	minBlockSize = 4 << 10
	maxBlockSize = 1 << 20 // what the cache fetches at once
	maxBlocks    = 1 << 20
	maxBootFiles = 16
	maxMirrors   = 16
	maxAddress   = 2048
	maxNameLen   = 64
)

// A BootFile is a kernel or initrd that lies contiguously inside the image.
type BootFile struct {
	Name   string `json:"name"`   // "kernel" or "initrd"
	Path   string `json:"path"`   // in the ESP, "/boot/vmlinuz"
	Offset int64  `json:"offset"` // bytes from the start of the image
	Length int64  `json:"length"` // bytes
	SHA256 Hash   `json:"sha256"`
}

// Midstates are hash states over [0, PiecePartitionOffset), which is a
// multiple of 64 bytes, so a state is its chaining value alone.
type Midstates struct {
	SHA256 string `json:"sha256"` // 64 hex digits: H0..H7, big endian
	SHA1   string `json:"sha1"`   // 40 hex digits: H0..H4, big endian
}

// A Manifest says all about one base. The names of its fields in JSON are
// those that existing tools read.
type Manifest struct {
	Version              string     `json:"version"` // YYYY-MM-DD or YYYY-MM-DD.N
	Flavor               string     `json:"flavor"`
	Fedora               string     `json:"fedora,omitempty"`
	Arch                 string     `json:"arch"` // amd64, arm64
	PiecePartitionOffset int64      `json:"piecePartitionOffset"`
	PiecePartitionSize   int64      `json:"piecePartitionSize"`
	TotalSize            int64      `json:"totalSize"`
	SHA256               Hash       `json:"sha256"`
	BlockSize            int64      `json:"blockSize"`
	Blocks               []Hash     `json:"blocks"`
	Midstates            Midstates  `json:"midstates"`
	Tail                 []byte     `json:"tail"` // base64: the bytes behind the slot (backup GPT)
	BootFiles            []BootFile `json:"bootFiles,omitempty"`
	Mirrors              []string   `json:"mirrors,omitempty"` // other addresses of the image
	Zsync                *Zsync     `json:"zsync,omitempty"`   // bases of before have none
	Empty                []BlockRun `json:"empty,omitempty"`   // see EmptyBlocks
	CreatedAt            string     `json:"createdAt"`         // RFC 3339, UTC
}

// SlotEnd returns the offset of the first byte behind the slot.
func (m *Manifest) SlotEnd() int64 { return m.PiecePartitionOffset + m.PiecePartitionSize }

// BlockRange returns the offset and the length in bytes of block i, which
// must be in [0, len(m.Blocks)). Only the last block may be short.
func (m *Manifest) BlockRange(i int) (off, length int64) {
	off = int64(i) * m.BlockSize
	return off, min(m.BlockSize, m.TotalSize-off)
}

// BootFile returns the boot file of that name ("kernel" or "initrd").
func (m *Manifest) BootFile(name string) (f BootFile, ok bool) {
	for _, f := range m.BootFiles {
		if f.Name == name {
			return f, true
		}
	}
	return BootFile{}, false
}

// A Hash is a SHA-256, written in JSON as 64 lower-case hex digits.
type Hash [32]byte

// String returns the 64 hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// AppendText implements encoding.TextAppender.
func (h Hash) AppendText(dst []byte) ([]byte, error) { return hex.AppendEncode(dst, h[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It wants exactly 64
// lower-case digits, so that a hash has one spelling. Errors wrap
// fault.Invalid.
func (h *Hash) UnmarshalText(b []byte) error { return decodeHex(h[:], string(b)) }
