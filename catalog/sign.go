package catalog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
)

// Signing signs the piece.json of new images.
type Signing struct {
	// Keys names the keys. Signings with the same name give the same bytes.
	Keys string
	// Sign returns the detached signature of a text. The time is that of the
	// signature.
	Sign func(text []byte, at time.Time) ([]byte, error)
}

// signing returns the present Signing, or one without keys if none is
// configured.
func (c *Catalog) signing() (Signing, error) {
	if c.cfg.Signing == nil {
		return Signing{}, nil
	}
	return c.cfg.Signing()
}

// sign signs piece.json, and puts the signature into the record.
func (s Signing) sign(r record, m *base.Manifest) (record, error) {
	if s.Keys == "" {
		return r, nil
	}
	about, err := image.About(m, r.inputs())
	if err != nil {
		return r, err
	}
	signature, err := s.Sign(about, r.Time)
	if err != nil {
		return r, err
	}
	sum := base.Hash(sha256.Sum256(signature))
	r.PieceSignature, r.PieceSignatureSum = string(signature), &sum
	return r, nil
}

// checkSignature compares the signature of a record's piece.json with its sum.
func (r record) checkSignature() error {
	if r.Signers == "" && r.PieceSignature == "" {
		return nil
	}
	if r.PieceSignatureSum == nil || sha256.Sum256([]byte(r.PieceSignature)) != *r.PieceSignatureSum {
		return fmt.Errorf("the signature of its piece.json is not the one that was made: %w", fault.Corrupt)
	}
	return nil
}

// ImageHash returns a SHA-256 over the whole image, from which a signature
// continues. It reads the image only if the record has no hash state, as in
// records from before there were signatures.
func (s *Snapshot) ImageHash(img *image.Image) (hash.Hash, error) {
	h, err := s.base.Manifest.ResumeImage(s.record.HashState, s.record.SHA256)
	if err == nil {
		return h, nil
	}
	// It is an older record, or a damaged one.
	if h, err = img.Hash(); err != nil {
		return nil, err
	}
	if base.Hash(h.Sum(nil)) != s.record.SHA256 {
		return nil, errors.Join(fault.Corrupt, errors.New("the image has another digest than its record"))
	}
	return h, nil
}
