// Package stick handles sticks that isofs's images were written to. It gives
// one another piece by writing its slot alone, which is some 20 MiB and not
// gigabytes. It writes whole images, and checks whether a stick has what the
// server signed.
//
// Everything is read back from the medium and compared before it counts as
// written. A stick whose update was interrupted says so, and the next update
// finishes it.
//
// The package leaves out how images are made and served (docs/http.md describes
// the server), questions to the user, and anything but Linux.
package stick

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/partition"
)

// A Target is an open stick, or a file with an image in it.
type Target interface {
	// ReadAt reads what is on the medium, whatever a cache says.
	io.ReaderAt
	io.WriterAt
	// Size is the number of bytes of the medium.
	Size() int64
	// Sync returns when all written bytes are on the medium.
	Sync() error
}

// A Progress receives how far something is. It may be nil.
type Progress func(done, total int64)

func (p Progress) report(done, total int64) {
	if p != nil {
		p(done, total)
	}
}

// A Verifier checks signatures.
type Verifier interface {
	// Verify reads all that is signed, and returns who signed it. A signature
	// that no known key made is fault.Corrupt.
	Verify(signed io.Reader, signature []byte) (by string, err error)
}

// An OtherBaseError means that a stick does not have the base that a piece
// needs, so that only the whole image helps. It wraps fault.Invalid.
type OtherBaseError struct{ Findings []string }

// Error lists the findings.
func (e *OtherBaseError) Error() string {
	s := "the stick does not have the base of this image, so its piece alone cannot be changed"
	for _, f := range e.Findings {
		s += "\n  " + f
	}
	return s
}

// Unwrap returns fault.Invalid.
func (e *OtherBaseError) Unwrap() error { return fault.Invalid }

// A TouchedError means that a stick has the base that a piece needs, but some
// of its blocks were changed, as a mount of a stick does. They can be repaired
// (Options.Repair). It wraps fault.Invalid.
type TouchedError struct {
	Wrong, Of int // blocks of the base
	Findings  []string
}

// Error lists the findings.
func (e *TouchedError) Error() string {
	s := fmt.Sprintf("the stick has the base of this image, but %d of its %d blocks were changed%s", e.Wrong, e.Of, whoTouches)
	for _, f := range e.Findings {
		s += "\n  " + f
	}
	return s
}

// Unwrap returns fault.Invalid.
func (e *TouchedError) Unwrap() error { return fault.Invalid }

// whoTouches is why a stick has other bytes than it was given.
const whoTouches = ", as a desktop or Windows does when it mounts a stick"

// An UnfinishedError means that writing ended halfway. It wraps the cause.
type UnfinishedError struct{ Cause error }

// Error says what state the stick is in.
func (e *UnfinishedError) Error() string {
	return fmt.Sprintf("%v\nthe stick is now without a piece and must not be used as it is: run the same command again, which starts over", e.Cause)
}

// Unwrap returns the cause.
func (e *UnfinishedError) Unwrap() error { return e.Cause }

// Contents is what a stick says that it carries (piece.json in the slot). None
// of it is proof.
type Contents struct {
	Piece       string    `json:"piece"`
	Title       string    `json:"title"`
	Snapshot    string    `json:"snapshot"`
	Time        string    `json:"time"`
	BaseSHA256  base.Hash `json:"baseSha256"`
	BaseVersion string    `json:"baseVersion"`
	BaseFlavor  string    `json:"baseFlavor"`
	// Unfinished is true if an update to that snapshot was interrupted, and
	// Repairing if that also repaired blocks of the base.
	Unfinished bool `json:"-"`
	Repairing  bool `json:"-"`
}

// contentsFile is the file in the slot that describes its content.
const contentsFile = "piece.json"

// readContents reads that file in the slot of an image like m's. nil without an
// error means that it is missing or cannot be read.
func readContents(t Target, m *base.Manifest) (*Contents, error) {
	if c, err := readMarker(t, m.PiecePartitionOffset); c != nil || err != nil {
		return c, err
	}
	slot := partition.Partition{Span: partition.Span{Offset: m.PiecePartitionOffset, Size: m.PiecePartitionSize}}
	data, err := slot.ReadFile(t, m.TotalSize, contentsFile)
	if errors.Is(err, fault.Unavailable) {
		return nil, fmt.Errorf("read what is on the stick: %w", err)
	}
	var c Contents
	if err == nil && json.Unmarshal(data, &c) == nil {
		return &c, nil
	}
	return nil, nil // the stick does not say
}

// readAt reads all of p at off. A failure of the medium is fault.Unavailable.
func readAt(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("read %d bytes at %d: there are only %d: %w", len(p), off, n, fault.Corrupt)
	case fault.Kind(err) != nil:
		return err
	}
	return fmt.Errorf("read %d bytes at %d: %w: %w", len(p), off, fault.Unavailable, err)
}
