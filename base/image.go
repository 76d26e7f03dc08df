package base

import (
	"errors"
	"fmt"
	"hash"
	"io"

	"aesthetic.computer/isofs/fault"
)

// ImageSHA256 returns the SHA-256 of the image that has the bytes of slot in
// the slot, as ImageHash has it.
func (m *Manifest) ImageSHA256(slot io.Reader) (Hash, error) {
	h, err := m.ImageHash(slot)
	if err != nil {
		return Hash{}, err
	}
	return Hash(h.Sum(nil)), nil
}

// ImageHash returns a SHA-256 that has taken in the image that has the bytes of
// slot in the slot: exactly PiecePartitionSize of them, or the error wraps
// fault.Invalid. It reads nothing of the base. An error of the reader is
// wrapped as it is, and as fault.Unavailable if it has no kind.
func (m *Manifest) ImageHash(slot io.Reader) (hash.Hash, error) {
	h, err := m.ResumeSHA256()
	if err != nil {
		return nil, err
	}
	// One byte more than fits shows a slot that is too long.
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

// VerifySlot compares the digest that follows from the midstate, the base's
// own slot and the tail with SHA256: a check of the midstate, the tail and the
// digest against each other that reads 20 MiB instead of the whole base.
// slot gives the bytes [PiecePartitionOffset, SlotEnd) of the base.
// A difference wraps fault.Corrupt.
func (m *Manifest) VerifySlot(slot io.Reader) error {
	got, err := m.ImageSHA256(slot)
	if err != nil {
		return err
	}
	if got != m.SHA256 {
		return fmt.Errorf("base %s: sha256 continued from midstates.sha256 over the slot and the tail is %s, the manifest says %s: %w",
			m.Version, got, m.SHA256, fault.Corrupt)
	}
	return nil
}

// readFull reads all of p at off, or fails: a short read, with or without
// io.EOF, is io.ErrUnexpectedEOF. An error without a kind becomes
// fault.Unavailable, and an early end fault.Corrupt.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) && (err == nil || errors.Is(err, io.EOF)) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read %d bytes at offset %d: the image ends after %d of them: %w: %w",
			len(p), off, max(n, 0), fault.Corrupt, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("read %d bytes at offset %d: %w", len(p), off, classify(err, fault.Unavailable))
}

// classify gives err a kind unless it has one.
func classify(err, kind error) error {
	if fault.Kind(err) != nil {
		return err
	}
	return fmt.Errorf("%w: %w", kind, err)
}
