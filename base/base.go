// Package base ... (contract; to be implemented)
package base

import (
	"context"
	"io"
)

// BlockSize is the default unit of verification in bytes.
const BlockSize = 256 << 10

// A Hash is a SHA-256, written in JSON as 64 lower-case hex digits.
type Hash [32]byte

func (h Hash) String() string                { panic("contract") }
func (h Hash) MarshalText() ([]byte, error)  { panic("contract") }
func (h *Hash) UnmarshalText(b []byte) error { panic("contract") }

// A BootFile is a kernel or initrd that lies contiguously inside the image.
type BootFile struct {
	Name   string `json:"name"` // "kernel" or "initrd"
	Path   string `json:"path"` // in the ESP, "/boot/vmlinuz"
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	SHA256 Hash   `json:"sha256"`
}

// Midstates are hash states over [0, PiecePartitionOffset), which is a
// multiple of 64 bytes, so a state is its chaining value alone.
type Midstates struct {
	SHA256 string `json:"sha256"` // 64 hex digits: H0..H7, big endian
	SHA1   string `json:"sha1"`   // 40 hex digits: H0..H4, big endian
}

// A Manifest says all about one base.
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
	CreatedAt            string     `json:"createdAt"` // RFC 3339, UTC
}

// IndexOptions are the parts of a manifest that cannot be read off an image.
type IndexOptions struct {
	Version, Flavor, Fedora, Arch string
	CreatedAt                     string                  // RFC 3339
	BlockSize                     int64                   // 0: BlockSize
	Progress                      func(done, total int64) // may be nil
}

// Index makes the manifest of a GPT image of size bytes.
func Index(ctx context.Context, r io.ReaderAt, size int64, o IndexOptions) (*Manifest, error) {
	panic("contract")
}

// Parse reads and validates a manifest. Errors wrap fault.Invalid or fault.Corrupt
// and name the field.
func Parse(data []byte) (*Manifest, error) { panic("contract") }

// Marshal writes the manifest as indented JSON ending in a newline.
func (m *Manifest) Marshal() ([]byte, error) { panic("contract") }

// Validate checks the manifest against itself.
func (m *Manifest) Validate() error { panic("contract") }

// Verify compares the image with the manifest: every block, the whole
// digest, the midstates, the tail, the boot files and the GPT.
func (m *Manifest) Verify(ctx context.Context, r io.ReaderAt, size int64, progress func(done, total int64)) error {
	panic("contract")
}

// ImageSHA256 returns the SHA-256 of the image that has the bytes of slot
// (exactly PiecePartitionSize of them) in the slot. It reads nothing of the base.
func (m *Manifest) ImageSHA256(slot io.Reader) (Hash, error) { panic("contract") }
