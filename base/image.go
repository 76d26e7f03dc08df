package base

import (
	"fmt"
	"hash"
	"io"

	"aesthetic.computer/isofs/fault"
)

// ImageSHA256 returns the digest of ImageHash.
func (m *Manifest) ImageSHA256(slot io.Reader) (Hash, error) {
	h, err := m.ImageHash(slot)
	if err != nil {
		return Hash{}, err
	}
	return Hash(h.Sum(nil)), nil
}

// ImageHash returns a SHA-256 over the image with the bytes of slot in its
// slot. These must be exactly PiecePartitionSize bytes, or the error wraps
// fault.Invalid. It reads nothing of the base. A reader's error is wrapped with
// its kind, or with fault.Unavailable.
func (m *Manifest) ImageHash(slot io.Reader) (hash.Hash, error) {
	h, err := m.ResumeSHA256()
	if err != nil {
		return nil, err
	}
	// One byte more than fits shows that a slot is too long.
	n, err := io.Copy(h, io.LimitReader(slot, m.PiecePartitionSize+1))
	if err != nil {
		return nil, fmt.Errorf("read the slot at byte %d of %d: %w", n, m.PiecePartitionSize, classify(err, fault.Unavailable))
	}
	if n > m.PiecePartitionSize {
		return nil, fmt.Errorf("the slot has more than the %d bytes of piecePartitionSize: %w", m.PiecePartitionSize, fault.Invalid)
	}
	if n < m.PiecePartitionSize {
		return nil, fmt.Errorf("the slot ends after %d of the %d bytes of piecePartitionSize: %w", n, m.PiecePartitionSize, fault.Invalid)
	}
	h.Write(m.Tail)
	return h, nil
}

// classify gives err a kind unless it has one.
func classify(err, kind error) error {
	if fault.Kind(err) != nil {
		return err
	}
	return fmt.Errorf("%w: %w", kind, err)
}
