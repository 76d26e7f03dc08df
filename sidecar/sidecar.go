// Package sidecar makes the files beside an image by which others fetch only
// what they lack of it, and verify it while it comes: for zsync, bmaptool, and
// what reads a Metalink (aria2c).
//
// All are pure functions that cost O(piece): of the base they take what its
// manifest says, and read the slot only. The package leaves out when they are
// made and where they are kept (package catalog), and signatures.
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

// About is what a sidecar says of an image beside its bytes. Its fields become
// lines of text, so they have no line breaks.
type About struct {
	// FileName is the image's: "notepat-os.iso".
	FileName string
	// Path is where the very image is on the server, and will be, whatever
	// becomes of the piece: "/s/<id>/notepat-os.iso".
	Path string
	// Time is when the image was modified: whole seconds.
	Time time.Time
	// SHA256 is the digest of the image.
	SHA256 base.Hash
	// Servers are the beginnings of URLs of servers that have it, the preferred
	// one first: "https://images.example".
	Servers []string
}

// maxBlocks is for how many of the manifest's blocks a sidecar is made that has
// a line for each: 16 GB of 256 KiB make one of 7 MB.
const maxBlocks = 1 << 16

// HasBlocks reports whether the images of a base can have a bmap and a
// Metalink: whether its blocks are not too many, and the slot begins with one,
// so that the base's hashes are those of the image, and the others need nothing
// of the base.
func HasBlocks(m *base.Manifest) bool {
	return m.PiecePartitionOffset%m.BlockSize == 0 && len(m.Blocks) <= maxBlocks
}

// noBlocks is the error for which HasBlocks is no.
func noBlocks(m *base.Manifest) error {
	return fmt.Errorf("the %d blocks of base %s do not begin with the slot, or are more than %d: %w", len(m.Blocks), m.Version, maxBlocks, fault.NotFound)
}

// own calls take with what the image does not share with the base's other
// images, from the slot's start to the end of the image, size bytes at a time.
// What take is given is overwritten afterwards.
func own(img *image.Image, size int64, take func(p []byte)) error {
	m := img.Manifest
	left := m.TotalSize - m.PiecePartitionOffset
	r := io.MultiReader(io.NewSectionReader(img.Volume, 0, img.Volume.Size()), bytes.NewReader(m.Tail))
	buf := make([]byte, min(size, left))
	for ; left > 0; left -= int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), left)]
		if n, err := io.ReadFull(r, buf); err != nil {
			// The volume says of what kind it is; an early end is none.
			if fault.Kind(err) == nil {
				err = fmt.Errorf("%w: %w", fault.Corrupt, err)
			}
			return fmt.Errorf("read the slot and what follows, %d bytes before the end of the image: %w", left-int64(n), err)
		}
		take(buf)
	}
	return nil
}

// A summer hashes, and knows the hash of zeroes, of which the slot is full.
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
