package base

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"

	"aesthetic.computer/isofs/fault"
)

// The marshaled form that crypto/sha256 and crypto/sha1 share: a magic of four
// bytes, the chaining value, the 64 bytes of an unfinished block, and the
// number of bytes hashed, big endian. At a multiple of 64 the unfinished block
// is empty, and its bytes do not matter.
const (
	magicLen   = 4
	hashBlock  = 64
	counterLen = 8
)

// midstate returns the chaining value of h in hex, after off bytes. h must be
// from crypto/sha256 or crypto/sha1, and off a multiple of 64.
func midstate(h hash.Hash, off int64) (string, error) {
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return "", fmt.Errorf("marshal the hash state at offset %d: %w: %w", off, fault.Invalid, err)
	}
	if n := binary.BigEndian.Uint64(state[len(state)-counterLen:]); n != uint64(off) || off%hashBlock != 0 {
		return "", fmt.Errorf("the hash state is at offset %d, wanted %d, a multiple of %d: %w", n, off, hashBlock, fault.Invalid)
	}
	return hex.EncodeToString(state[magicLen : magicLen+h.Size()]), nil
}

// resume sets the new hash h to chaining value mid at offset off.
func resume(h hash.Hash, mid string, off int64) error {
	if off < 0 || off%hashBlock != 0 {
		return fmt.Errorf("offset %d is not a multiple of %d: %w", off, hashBlock, fault.Invalid)
	}
	// A fresh state has the magic of its hash.
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return fmt.Errorf("marshal a new hash state: %w: %w", fault.Invalid, err)
	}
	if err := decodeHex(state[magicLen:magicLen+h.Size()], mid); err != nil {
		return err
	}
	binary.BigEndian.PutUint64(state[len(state)-counterLen:], uint64(off))
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(state); err != nil {
		return fmt.Errorf("take up a hash state at offset %d: %w: %w", off, fault.Invalid, err)
	}
	return nil
}

// ResumeSHA256 returns a SHA-256 over [0, PiecePartitionOffset) of the base.
// After the slot and the tail it has the digest of the image. After the slot,
// the tail and a signature's trailer it has the hash that an OpenPGP signature
// signs. Errors wrap fault.Invalid.
func (m *Manifest) ResumeSHA256() (hash.Hash, error) {
	h := sha256.New()
	if err := resume(h, m.Midstates.SHA256, m.PiecePartitionOffset); err != nil {
		return nil, fmt.Errorf("midstates.sha256: %w", err)
	}
	return h, nil
}

// ImageState returns the state of a hash from ImageHash. ResumeImage makes the
// hash from it without reading anything. Errors wrap fault.Invalid.
func (m *Manifest) ImageState(h hash.Hash) (string, error) { return midstate(h, m.TotalSize) }

// ResumeImage returns a SHA-256 over a whole image, from its state and digest.
// A state with another digest is fault.Corrupt.
func (m *Manifest) ResumeImage(state string, sum Hash) (hash.Hash, error) {
	h := sha256.New()
	if err := resume(h, state, m.TotalSize); err != nil {
		return nil, fmt.Errorf("the hash's state: %w", err)
	}
	if got := Hash(h.Sum(nil)); got != sum {
		return nil, fmt.Errorf("the hash's state is of an image with sha256 %s, not %s: %w", got, sum, fault.Corrupt)
	}
	return h, nil
}

// ResumeSHA1 is ResumeSHA256 for SHA-1, which zsync files contain.
func (m *Manifest) ResumeSHA1() (hash.Hash, error) {
	h := sha1.New()
	if err := resume(h, m.Midstates.SHA1, m.PiecePartitionOffset); err != nil {
		return nil, fmt.Errorf("midstates.sha1: %w", err)
	}
	return h, nil
}

// decodeHex fills dst from exactly that many lower-case hex digits.
func decodeHex(dst []byte, s string) error {
	if len(s) != 2*len(dst) {
		return fmt.Errorf("%d hex digits wanted, got %d characters: %w", 2*len(dst), len(s), fault.Invalid)
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("lower-case hex digits wanted, got %q at character %d: %w", c, i+1, fault.Invalid)
		}
	}
	_, _ = hex.Decode(dst, []byte(s)) // checked above: every digit, and the length
	return nil
}
