package stick

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/partition"
)

// A Verdict is the result of verifying a stick.
type Verdict struct {
	// SHA256 is the digest of the image's length of bytes on the stick.
	SHA256 base.Hash
	// Same is true if that is the snapshot's.
	Same bool
	// SignedBy is who signed the image, if that was checked.
	SignedBy string
	// TableOnly is true if nothing differs but the partition table, which
	// another tool wrote again.
	TableOnly bool
	// Touched is not nil if some blocks of the base were changed, as a mount of
	// a stick does.
	Touched *TouchedError
	// Differences say where, the first bytes first.
	Differences []string
}

// Err is nil if the stick is the snapshot's, and else fault.Corrupt.
func (v *Verdict) Err() error {
	switch {
	case v.Same:
		return nil
	case v.TableOnly:
		return fmt.Errorf("the stick is not byte for byte what the server has: its partition table was written again by another tool, with the same partitions; all else is the same: %w", fault.Corrupt)
	}
	s := "the stick is not what the server has:"
	for _, d := range v.Differences {
		s += "\n  " + d
	}
	if v.Touched != nil {
		s += fmt.Sprintf("\n%d of the %d blocks of its base were changed%s; isofs stick update --repair writes these again",
			v.Touched.Wrong, v.Touched.Of, whoTouches)
	}
	return fmt.Errorf("%s\n%w", s, fault.Corrupt)
}

// WhatItCarries returns what a stick says that it carries, so that it can be
// compared with that. It finds the slot by the partition table. fault.Invalid
// if the stick is not one of isofs; fault.NotFound if it does not say.
func WhatItCarries(t Target) (*Contents, error) {
	has, err := partition.ReadTable(t, 1)
	if err != nil {
		return nil, fmt.Errorf("this is not a stick of isofs, or a broken one: %w", err)
	}
	for _, p := range has.Partitions() {
		if p.Name != base.SlotLabel && !isSlot(t, p) {
			continue
		}
		// The volume's reader needs only this of the image.
		c, err := readContents(t, &base.Manifest{PiecePartitionOffset: p.Offset, PiecePartitionSize: p.Size, TotalSize: t.Size()})
		if err == nil && c == nil {
			err = fmt.Errorf("%s does not say what it carries: give the address of the image that it should be: %w", p, fault.NotFound)
		}
		return c, err
	}
	return nil, fmt.Errorf("this is not a stick of isofs: it has no partition %s: %w", base.SlotLabel, fault.Invalid)
}

// Verify reads the length of the image from a stick. It compares it with what
// the server says of the snapshot, and, if the client has a Verifier, with what
// was signed. The verdict has the differences; errors are of reading.
func Verify(ctx context.Context, t Target, s *Download, show Progress) (*Verdict, error) {
	m := s.Manifest
	b, err := lookAtBasis(t, m)
	if err != nil {
		return nil, err
	}
	if t.Size() < m.TotalSize {
		return &Verdict{Differences: b.found}, nil
	}
	tables := slices.Clone(b.found)
	b.found = nil
	v := &Verdict{}
	if v.SHA256, v.SignedBy, err = scanSigned(ctx, b, t, s, show); err != nil {
		return nil, err
	}
	if v.Same = v.SHA256 == s.SHA256; v.Same {
		return v, nil
	}
	v.Differences = append(tables, b.found...)
	if slot := firstInSlot(ctx, t, s); slot != "" {
		v.Differences = append(v.Differences, slot)
	}
	if b.moved {
		b.found = nil
		sum, err := b.scan(ctx, b.seen, nil)
		if err != nil {
			return nil, err
		}
		v.TableOnly = sum == s.SHA256
	}
	if touched, ok := errors.AsType[*TouchedError](b.touched()); ok && len(tables) == 0 {
		v.Touched = touched
	}
	if len(v.Differences) == 0 {
		v.Differences = []string{"in a block that the slot begins or ends in, or in the partition table at the end"}
	}
	return v, nil
}

// scanSigned reads the image once, for its digest and for the signature. A
// comparison shows that a digest is not the signed one. So the Verifier's
// answer about other bytes is not an error.
func scanSigned(ctx context.Context, b *basis, t Target, s *Download, show Progress) (sum base.Hash, by string, err error) {
	if s.client.Verifier == nil {
		sum, err = b.scan(ctx, t, show)
		return sum, "", err
	}
	r, w := io.Pipe()
	type answer struct {
		by  string
		err error
	}
	checked := make(chan answer, 1)
	go func() {
		by, err := s.verify(ctx, s.Name.FileName(), r)
		// What the Verifier left unread must not stop the writer.
		_, _ = io.Copy(io.Discard, r)
		checked <- answer{by, err}
	}()
	sum, err = b.scan(ctx, &teeReader{t, w}, show)
	w.CloseWithError(err) // nil is the end
	a := <-checked
	if err == nil && sum == s.SHA256 {
		err = a.err
	}
	return sum, a.by, err
}

// A teeReader writes all that is read to w. Reads are in order.
type teeReader struct {
	r io.ReaderAt
	w io.Writer
}

func (t *teeReader) ReadAt(p []byte, off int64) (int, error) {
	if err := readAt(t.r, p, off); err != nil {
		return 0, err
	}
	return t.w.Write(p)
}

// firstInSlot returns where the slot first differs, "" if nowhere.
func firstInSlot(ctx context.Context, t Target, s *Download) string {
	off := s.Manifest.PiecePartitionOffset
	unchecked := *s
	unchecked.client = &Client{HTTP: s.client.HTTP, Pause: s.client.Pause}
	want, err := unchecked.Slot(ctx, nil)
	if err != nil {
		return fmt.Sprintf("whether the piece (%s) differs is not known: %v", s.Name.SlotFileName(), err)
	}
	got := make([]byte, chunk)
	for at := 0; at < len(want); at += chunk {
		part := want[at:min(len(want), at+chunk)]
		if err := readAt(t, got[:len(part)], off+int64(at)); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Sprintf("the piece's partition (%s) cannot be read: %v", base.SlotLabel, err)
		}
		if first := firstDifference(got[:len(part)], part); first >= 0 {
			return fmt.Sprintf("the piece's partition (%s) differs from byte %d of it on (byte %d of the stick)", base.SlotLabel, at+first, off+int64(at+first))
		}
	}
	return ""
}
