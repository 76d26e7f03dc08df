// Package base describes base images: the immutable, pre-baked disks that all
// images of a version share.
//
// A base's SHA-256 names it, and a [Manifest] describes it. The manifest has
// the place of the slot, and the hash of every block, so that any block can be
// checked separately. It also has the hash states at the slot's start. From
// them follows the digest of an image with another slot, without reading the
// base. [Index] makes a manifest of an image. [Parse] reads one, and refuses
// contradictions. [Manifest.Verify] compares an image with its manifest.
//
// A [Channel] names the versions of a base that are published.
//
// Other packages make bases (bake), fetch their bytes (origin), keep them
// (cache), read partitions (partition), and fill the slot (image).
package base

import "encoding/hex"

// SlotLabel is the slot's ext4 volume label. The booting machine finds the slot
// by it, too.
const SlotLabel = "FEDAC-PIECE"

// Sizes in bytes, and limits of a manifest. The limits are far above any real
// base. They bound the memory that a hostile manifest can cost.
const (
	// BlockSize is the default unit of verification.
	BlockSize = 256 << 10
	// SlotAlignment divides the slot's start and size: volumes have 4 KiB
	// blocks, and hash states need a multiple of 64.
	SlotAlignment = 4096

	MinSlotSize     = 1 << 20
	MaxSlotSize     = 128 << 20
	MaxTailSize     = 1 << 20
	MaxImageSize    = 1 << 40
	MaxManifestSize = 128 << 20
	// MaxSignatureSize bounds the signature of a manifest or channel.
	MaxSignatureSize = 64 << 10

	minBlockSize = 4 << 10
	maxBlockSize = 1 << 20 // the cache fetches a block at once
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

// Midstates are hash states over [0, PiecePartitionOffset). That is a multiple
// of 64 bytes, so a state is only its chaining value.
type Midstates struct {
	SHA256 string `json:"sha256"` // 64 hex digits: H0..H7, big endian
	SHA1   string `json:"sha1"`   // 40 hex digits: H0..H4, big endian
}

// A Manifest describes one base. Existing tools read its JSON by these field
// names.
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
	Zsync                *Zsync     `json:"zsync,omitempty"`   // older bases have none
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

// A Hash is a SHA-256. In JSON it is 64 lower-case hex digits.
type Hash [32]byte

// String returns the 64 hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// AppendText implements encoding.TextAppender.
func (h Hash) AppendText(dst []byte) ([]byte, error) { return hex.AppendEncode(dst, h[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It accepts only 64
// lower-case digits, so that a hash has one spelling. Errors wrap
// fault.Invalid.
func (h *Hash) UnmarshalText(b []byte) error { return decodeHex(h[:], string(b)) }
