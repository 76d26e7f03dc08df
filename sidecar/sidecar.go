// Package sidecar makes the files beside an image for zsync, bmaptool, and
// readers of a Metalink (aria2c). With them, these tools fetch only the missing
// parts of an image, and verify it during the download.
//
// All functions are pure and cost O(piece): they use the manifest of the base,
// and read only the slot. Package catalog decides when a sidecar is made, and
// keeps it. Signatures are made elsewhere.
package sidecar

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
)

// About has the facts of a sidecar that are not in the image. Its fields become
// lines of text, so they must not contain line breaks.
type About struct {
	// FileName is the image's: "notepat-os.iso".
	FileName string
	// Path is the permanent path of this very image on the server, even if the
	// piece changes: "/s/<id>/notepat-os.iso".
	Path string
	// Time is the image's modification time: whole seconds.
	Time time.Time
	// SHA256 is the digest of the image.
	SHA256 base.Hash
	// Servers are the beginnings of URLs of servers with the image, the
	// preferred one first: "https://images.example".
	Servers []string
}

// maxBlocks bounds the manifest's blocks for a sidecar with a line per block:
// 16 GB in blocks of 256 KiB make a sidecar of 7 MB.
const maxBlocks = 1 << 16

// HasBlocks reports whether the images of a base can have a bmap and a
// Metalink. The base must not have too many blocks, and the slot must begin
// with a block. Then the base's hashes are those of the image, and the other
// blocks need nothing of the base.
func HasBlocks(m *base.Manifest) bool {
	return m.PiecePartitionOffset%m.BlockSize == 0 && len(m.Blocks) <= maxBlocks
}

// noBlocks is the error if HasBlocks is false.
func noBlocks(m *base.Manifest) error {
	return fmt.Errorf("the %d blocks of base %s do not begin with the slot, or are more than %d: %w", len(m.Blocks), m.Version, maxBlocks, fault.NotFound)
}

// own calls take with the image's own bytes, from the slot's start to the end
// of the image, size bytes at a time. The next call overwrites p.
func own(img *image.Image, size int64, take func(p []byte)) error {
	m := img.Manifest
	left := m.TotalSize - m.PiecePartitionOffset
	r := io.MultiReader(io.NewSectionReader(img.Volume, 0, img.Volume.Size()), bytes.NewReader(m.Tail))
	buf := make([]byte, min(size, left))
	for ; left > 0; left -= int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), left)]
		if n, err := io.ReadFull(r, buf); err != nil {
			// The volume's errors have a kind, except for an early end.
			if fault.Kind(err) == nil {
				err = fmt.Errorf("%w: %w", fault.Corrupt, err)
			}
			return fmt.Errorf("read the slot and what follows, %d bytes before the end of the image: %w", left-int64(n), err)
		}
		take(buf)
	}
	return nil
}

// A summer hashes, and keeps the hash of zeroes, as most of the slot is zeroes.
type summer struct {
	zero    []byte
	zeroSum base.Hash
}

func newSummer(size int64) *summer {
	zero := make([]byte, size)
	return &summer{zero: zero, zeroSum: sha256.Sum256(zero)}
}

// sum returns the hash of p, of at most size bytes.
func (s *summer) sum(p []byte) base.Hash {
	if bytes.Equal(p, s.zero) {
		return s.zeroSum
	}
	return sha256.Sum256(p)
}
