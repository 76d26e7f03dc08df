package stick

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"strings"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
)

const (
	// chunk is how much is written at once.
	chunk = 1 << 20
	// syncEvery is how much is written between two waits for the medium, so that
	// the progress shown is real.
	syncEvery = 4 * chunk
	// firstBytes of a volume have its superblock: without them it is not a
	// volume.
	firstBytes = 4096
)

// The marker lies where the superblock was for as long as the slot is being
// written. It is text, for a person who looks at the stick by other means.
const (
	markerHead = "isofs: an update of this stick was not finished; run isofs stick update again\n"
	markerForm = markerHead + "snapshot %s\npiece %s\nbase %s\n"
)

// markerRepair is a line more: the base may be half repaired.
const markerRepair = "repair base\n"

func marker(s *Download, repair bool) []byte {
	p := make([]byte, firstBytes)
	text := fmt.Sprintf(markerForm, s.ID, s.Name, s.Manifest.SHA256)
	if repair {
		text += markerRepair
	}
	copy(p, text)
	return p
}

// readMarker returns what an unfinished update was to; nil if there is no
// marker.
func readMarker(t Target, slot int64) (*Contents, error) {
	p := make([]byte, firstBytes)
	if err := readAt(t, p, slot); err != nil {
		return nil, err
	}
	text, _, _ := bytes.Cut(p, []byte{0})
	if !strings.HasPrefix(string(text), markerHead) {
		return nil, nil // no marker
	}
	c := &Contents{Unfinished: true}
	for line := range strings.Lines(string(text)) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), " "); key {
		case "snapshot":
			c.Snapshot = value
		case "piece":
			c.Piece = value
		case "repair":
			c.Repairing = true
		case "base":
			_ = c.BaseSHA256.UnmarshalText([]byte(value)) // an unreadable value counts as missing
		}
	}
	return c, nil
}

// writeSlot writes the slot. First it writes a marker instead of the superblock,
// then the repairs of the base, then all behind the superblock. The superblock
// comes last, when all else was read back and is right.
func (u *Update) writeSlot(ctx context.Context, slot []byte, repair []overlaid, show Progress) error {
	t, s := u.target, u.Snapshot
	off := s.Manifest.PiecePartitionOffset
	if err := writeThrough(t, marker(s, len(repair) > 0), off); err != nil {
		return &UnfinishedError{err}
	}
	total := 2 * int64(len(slot)) // written, and read back
	err := u.writeRepair(ctx, repair)
	if err == nil {
		err = u.writeBody(ctx, slot, func(done int64) { show.report(done, total) })
	}
	if err == nil {
		err = writeThrough(t, slot[:firstBytes], off)
	}
	if err != nil {
		return &UnfinishedError{err}
	}
	show.report(total, total)
	return nil
}

// writeRepair writes the changed blocks of the base, and reads each back.
func (u *Update) writeRepair(ctx context.Context, repair []overlaid) error {
	for _, piece := range repair {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("repair the base: %w: %w", fault.Unavailable, err)
		}
		if err := writeThrough(u.target, piece.data, piece.off); err != nil {
			return err
		}
	}
	return nil
}

// writeBody writes the slot behind its first bytes, and reads that back. Done counts the
// bytes that were written, and then those that were read.
func (u *Update) writeBody(ctx context.Context, slot []byte, show func(done int64)) error {
	t, off := u.target, u.Snapshot.Manifest.PiecePartitionOffset
	for at := firstBytes; at < len(slot); {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("write the slot: %w: %w", fault.Unavailable, err)
		}
		// All but the first begin at a multiple of the chunk.
		end := min(len(slot), at-at%chunk+chunk)
		if err := writeAt(t, slot[at:end], off+int64(at)); err != nil {
			return err
		}
		if at = end; at%syncEvery == 0 || at == len(slot) {
			if err := syncTarget(t); err != nil {
				return err
			}
		}
		show(int64(at))
	}
	written := int64(len(slot))
	return compareBack(ctx, t, slot[firstBytes:], off+firstBytes, func(done int64) { show(written + firstBytes + done) })
}

// writeThrough writes p and reads it back.
func writeThrough(t Target, p []byte, off int64) error {
	if err := writeAt(t, p, off); err != nil {
		return err
	}
	if err := syncTarget(t); err != nil {
		return err
	}
	return compareBack(context.Background(), t, p, off, nil)
}

func writeAt(t Target, p []byte, off int64) error {
	if _, err := t.WriteAt(p, off); err != nil {
		return fmt.Errorf("write %d bytes at %d: %w: %w", len(p), off, fault.Unavailable, err)
	}
	return nil
}

func syncTarget(t Target) error {
	if err := t.Sync(); err != nil {
		return fmt.Errorf("wait until the stick has what was written: %w: %w", fault.Unavailable, err)
	}
	return nil
}

// compareBack compares what is on the medium with what was written.
func compareBack(ctx context.Context, t Target, want []byte, off int64, show func(done int64)) error {
	buf := make([]byte, chunk)
	for at := 0; at < len(want); at += chunk {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read the stick back: %w: %w", fault.Unavailable, err)
		}
		part := want[at:min(len(want), at+chunk)]
		got := buf[:len(part)]
		if err := readAt(t, got, off+int64(at)); err != nil {
			return err
		}
		if first := firstDifference(got, part); first >= 0 {
			return fmt.Errorf("byte %d reads back as %#02x after %#02x was written: the stick is broken, or not as large as it says: %w",
				off+int64(at+first), got[first], part[first], fault.Corrupt)
		}
		if show != nil {
			show(int64(at + len(part)))
		}
	}
	return nil
}

// firstDifference returns the first index at which two texts of one length
// differ, or -1.
func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// WriteImage writes the whole image of a snapshot, reads it back and compares
// its digest. The first MiB is written last: without it the stick does not start
// and is not a stick of isofs.
func WriteImage(ctx context.Context, t Target, s *Download, wrote, readBack Progress) error {
	if t.Size() < s.Manifest.TotalSize {
		return fmt.Errorf("the stick has %d bytes, the image %d: take a larger one: %w", t.Size(), s.Manifest.TotalSize, fault.Invalid)
	}
	if err := writeThrough(t, make([]byte, chunk), 0); err != nil {
		return &UnfinishedError{err}
	}
	if err := writeRest(ctx, t, s, wrote, readBack); err != nil {
		return &UnfinishedError{err}
	}
	return nil
}

func writeRest(ctx context.Context, t Target, s *Download, wrote, readBack Progress) error {
	total := s.Manifest.TotalSize
	w := &imageWriter{t: t, first: make([]byte, 0, chunk), rest: make([]byte, 0, chunk)}
	sum := sha256.New()
	err := s.fetch(ctx, s.Name.FileName(), span{0, total, total}, func(p []byte) error {
		sum.Write(p)
		return w.write(p)
	}, wrote)
	if err == nil {
		err = w.flush()
	}
	if err != nil {
		return err
	}
	if got := base.Hash(sum.Sum(nil)); got != s.SHA256 {
		return fmt.Errorf("the server sent bytes with sha256 %s, and said %s: %w", got, s.SHA256, fault.Corrupt)
	}
	back := sha256.New()
	back.Write(w.first)
	buf := make([]byte, chunk)
	for off := int64(chunk); off < total; off += chunk {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read the stick back: %w: %w", fault.Unavailable, err)
		}
		p := buf[:min(chunk, total-off)]
		if err := readAt(t, p, off); err != nil {
			return err
		}
		back.Write(p)
		readBack.report(off+int64(len(p)), total)
	}
	if got := base.Hash(back.Sum(nil)); got != s.SHA256 {
		return fmt.Errorf("what reads back from the stick has sha256 %s, not %s: it is broken, or not as large as it says: %w", got, s.SHA256, fault.Corrupt)
	}
	return writeThrough(t, w.first, 0)
}

// An imageWriter writes what comes in chunks, and keeps the first of them.
type imageWriter struct {
	t           Target
	first, rest []byte
	off         int64 // of rest, behind first
}

func (w *imageWriter) write(p []byte) error {
	for len(p) > 0 {
		to := &w.rest
		if len(w.first) < chunk {
			to = &w.first
		}
		n := min(len(p), chunk-len(*to))
		*to, p = append(*to, p[:n]...), p[n:]
		if len(w.rest) == chunk {
			if err := w.put(); err != nil {
				return err
			}
			if w.off%(4*syncEvery) == 0 {
				if err := syncTarget(w.t); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (w *imageWriter) put() error {
	if err := writeAt(w.t, w.rest, chunk+w.off); err != nil {
		return err
	}
	w.off += int64(len(w.rest))
	w.rest = w.rest[:0]
	return nil
}

func (w *imageWriter) flush() error {
	if err := w.put(); err != nil {
		return err
	}
	return syncTarget(w.t)
}
